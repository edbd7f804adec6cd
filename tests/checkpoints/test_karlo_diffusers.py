"""Promises of Karlo's format in Diffusers: read and written exactly, refused where it says something else.

The reference is Diffusers' own pipeline with small random weights, in float32 and from the same noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from unclip.bundle import save_bundle
from unclip.checkpoints import karlo_diffusers
from unclip.checkpoints.foreign import Conversion, Source
from unclip.families.unclip import UnCLIP
from unclip.models.clip import ClipText
from unclip.models.decoder import Decoder, DecoderCondition
from unclip.models.prior import DiffusionPrior, PriorCondition
from unclip.models.upsampler import Upsampler
from unclip.pipeline import load

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import karlo_reference as reference

LARGEST_ERROR = 1e-4  # relative, of issue 4
PROMPTS = ["a red apple", "two blue cats that sit on a very long wooden bench"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reference.pipeline(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def saved(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("karlo") / "saved"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def converted(saved: Path) -> Conversion:
    return karlo_diffusers.FORMAT.read(Source(saved))


Saver = Callable[..., Path]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Saver:
    """Writes a conversion as a bundle, with other numbers of steps or guidance."""

    def save(converted: Conversion, **changes: dict[str, Any]) -> Path:
        folder = tmp_path_factory.mktemp("bundle") / "karlo"
        parts = {
            name: replace(part, sampling=replace(part.sampling, **changes.get(name, {})))
            if part.sampling
            else part
            for name, part in converted.parts.items()
        }
        save_bundle(folder, name="karlo", parts=parts, card="", family=converted.family, dtype=None)
        return folder

    return save


def _network(converted: Conversion, name: str) -> Any:
    return converted.parts[name].source


class Texts:
    """Two captions and the empty one as both sides read them."""

    def __init__(self, pipe: Any, converted: Conversion) -> None:
        self.texts = [*PROMPTS, ""]
        tokens = _network(converted, "tokenizer").batch(self.texts, 77, full=True)
        self.ids, self.mask = tokens.ids, tokens.mask
        given = pipe.tokenizer(
            self.texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        assert torch.equal(given.input_ids, self.ids)
        assert torch.equal(given.attention_mask.bool(), self.mask)
        with torch.no_grad():
            self.theirs = pipe.text_encoder(self.ids)
            self.ours = cast(ClipText, _network(converted, "clip")).encode_text(self.ids, self.mask)


@pytest.fixture(scope="module")
def texts(pipe: Any, converted: Conversion) -> Texts:
    return Texts(pipe, converted)


def test_the_text_tower_is_theirs(texts: Texts) -> None:
    assert reference.error(texts.ours.embedding, texts.theirs.text_embeds) < LARGEST_ERROR
    rows = texts.mask
    assert reference.error(texts.ours.sequence[rows], texts.theirs.last_hidden_state[rows]) < LARGEST_ERROR


@torch.no_grad()
def test_a_prior_step_is_theirs(pipe: Any, converted: Conversion, texts: Texts) -> None:
    prior = cast(DiffusionPrior, _network(converted, "prior"))
    x, keep = torch.randn(3, reference.EMBEDDING), torch.ones(3, dtype=torch.bool)
    theirs = pipe.prior(
        x,
        timestep=torch.tensor(321),
        proj_embedding=texts.theirs.text_embeds,
        encoder_hidden_states=texts.theirs.last_hidden_state,
        attention_mask=texts.mask,
    ).predicted_image_embedding
    condition = PriorCondition(texts.theirs.text_embeds, texts.ours.sequence, texts.mask, keep)
    label = torch.full((3,), 321.0)
    assert reference.error(prior(x, label, condition), theirs) < LARGEST_ERROR
    longest = int(texts.mask.sum(1).max())
    short = replace(condition, sequence=condition.sequence[:, :longest], mask=texts.mask[:, :longest])
    for known in (short, prior.read(short)):
        assert reference.error(prior(x, label, known), theirs) < LARGEST_ERROR
    whole = prior.whitening.unwhiten(theirs)
    assert reference.error(whole, pipe.prior.post_process_latents(theirs)) < LARGEST_ERROR


@torch.no_grad()
def test_a_decoder_step_is_theirs(pipe: Any, converted: Conversion, texts: Texts) -> None:
    decoder = cast(Decoder, _network(converted, "decoder"))
    embedding = torch.randn(1, reference.EMBEDDING)
    pair = [2, 1]  # the empty caption, then a caption
    text = texts.theirs.last_hidden_state[pair]
    context, addend = pipe.text_proj(
        image_embeddings=embedding,
        prompt_embeds=texts.theirs.text_embeds[pair],
        text_encoder_hidden_states=text,
        do_classifier_free_guidance=True,
    )
    condition = DecoderCondition(
        embedding=embedding.expand(2, -1),
        keep_image=torch.tensor([False, True]),
        sequence=text,
        mask=texts.mask[pair],
        text_embedding=texts.theirs.text_embeds[pair],
    )
    modulation, tokens, mask = decoder._condition(condition)
    assert reference.error(modulation, addend) < LARGEST_ERROR
    assert reference.error(tokens, context) < LARGEST_ERROR
    assert mask is not None
    x = torch.randn(2, 3, reference.SMALL, reference.SMALL)
    theirs = pipe.decoder(
        sample=x, timestep=321, encoder_hidden_states=context, class_labels=addend, attention_mask=mask
    ).sample
    for known in (condition, decoder.read(condition)):
        assert reference.error(decoder(x, torch.full((2,), 321.0), known), theirs) < LARGEST_ERROR


@torch.no_grad()
@pytest.mark.parametrize(
    ("ours", "theirs"), [("upsampler-64", "super_res_first"), ("upsampler-64-last", "super_res_last")]
)
def test_an_upsampler_step_is_theirs(pipe: Any, converted: Conversion, ours: str, theirs: str) -> None:
    low = torch.rand(2, 3, reference.SMALL, reference.SMALL) * 2 - 1
    x = torch.randn(2, 3, reference.LARGE, reference.LARGE)
    large = torch.nn.functional.interpolate(
        low, size=[reference.LARGE] * 2, mode="bicubic", align_corners=False, antialias=True
    )
    expected = getattr(pipe, theirs)(sample=torch.cat([x, large], dim=1), timestep=166).sample
    found = cast(Upsampler, _network(converted, ours))(x, torch.full((2,), 166.0), low)
    assert reference.error(found, expected) < LARGEST_ERROR


def _ours(model: UnCLIP, prompts: list[str], **settings: Any) -> Tensor:
    *_, last = model.stream(prompts, size=reference.LARGE, seed=7, **settings)
    assert last.estimate is not None
    return last.estimate


def _theirs(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


@pytest.mark.parametrize("steps", [(25, 25, 7), (4, 5, 3)])
@pytest.mark.parametrize("guidance", [(4.0, 8.0), (1.0, 1.0), (1.0, 3.0)])
def test_the_pipeline_draws_their_picture(
    pipe: Any,
    converted: Conversion,
    bundled: Saver,
    steps: tuple[int, int, int],
    guidance: tuple[float, float],
) -> None:
    """Two prompts of different lengths in one batch, from the same noise."""
    if steps[0] == 25 and guidance != (4.0, 8.0):
        pytest.skip("the number of steps and guidance do not meet")
    folder = bundled(
        converted,
        prior={"steps": steps[0], "guidance": guidance[0]},
        decoder={"steps": steps[1], "guidance": guidance[1]},
        **{f"upsampler-{reference.LARGE}": {"steps": steps[2]}},
    )
    model = cast(UnCLIP, load(folder, device="cpu", precision="float32"))
    found = _ours(model, PROMPTS)
    with reference.our_noise([(7, 0), (7, 0)]):
        theirs = pipe(
            PROMPTS,
            prior_num_inference_steps=steps[0],
            decoder_num_inference_steps=steps[1],
            super_res_num_inference_steps=steps[2],
            prior_guidance_scale=guidance[0],
            decoder_guidance_scale=guidance[1],
            output_type="np",
        ).images
    assert reference.error(found, _theirs(theirs)) < LARGEST_ERROR
