"""Promises of Karlo's format in Diffusers: read and written exactly, refused where it says something else.

The reference is Diffusers' own pipeline with small random weights, in float32 and from the same noise.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from reference import karlo as reference
from support.tensors import error
from unclip import cli
from unclip.bundle import Bundle, save_bundle
from unclip.checkpoints import karlo_diffusers, karlo_keys
from unclip.checkpoints.foreign import Conversion, Source
from unclip.checkpoints.karlo import process
from unclip.diffusion.denoiser import Threshold, denoiser, threshold
from unclip.diffusion.samplers import ancestral
from unclip.diffusion.schedule import Posterior, Prediction, Schedule, respace
from unclip.drawing import Job, Options
from unclip.errors import CheckpointError, InputError
from unclip.model import Model, load
from unclip.models.clip import ClipText
from unclip.models.decoder import Decoder, DecoderCondition
from unclip.models.prior import DiffusionPrior, PriorCondition
from unclip.models.upsampler import Upsampler

LARGEST_ERROR = 1e-4  # relative, of issue 4
LARGEST_STEP = 0.5 + 255 * LARGEST_ERROR  # levels of an 8-bit picture: its rounding, and the error
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
    assert error(texts.ours.embedding, texts.theirs.text_embeds) < LARGEST_ERROR
    rows = texts.mask
    assert error(texts.ours.sequence[rows], texts.theirs.last_hidden_state[rows]) < LARGEST_ERROR


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
    assert error(prior(x, label, condition), theirs) < LARGEST_ERROR
    longest = int(texts.mask.sum(1).max())
    short = replace(condition, sequence=condition.sequence[:, :longest], mask=texts.mask[:, :longest])
    for known in (short, prior.read(short)):
        assert error(prior(x, label, known), theirs) < LARGEST_ERROR
    whole = prior.whitening.unwhiten(theirs)
    assert error(whole, pipe.prior.post_process_latents(theirs)) < LARGEST_ERROR


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
    assert error(modulation, addend) < LARGEST_ERROR
    assert error(tokens, context) < LARGEST_ERROR
    assert mask is not None
    x = torch.randn(2, 3, reference.SMALL, reference.SMALL)
    theirs = pipe.decoder(
        sample=x, timestep=321, encoder_hidden_states=context, class_labels=addend, attention_mask=mask
    ).sample
    for known in (condition, decoder.read(condition)):
        assert error(decoder(x, torch.full((2,), 321.0), known), theirs) < LARGEST_ERROR


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
    assert error(found, expected) < LARGEST_ERROR


def _ours(model: Model, prompts: list[str], **settings: Any) -> Tensor:
    *_, last = model.stream(prompts, size=reference.LARGE, seed=7, **settings)
    assert last.estimate is not None
    return last.estimate


def _theirs(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


@pytest.mark.parametrize(
    ("steps", "guidance"),
    [
        ((25, 25, 7), (4.0, 8.0)),
        ((4, 5, 3), (4.0, 8.0)),
        ((4, 5, 3), (1.0, 3.0)),
        ((4, 5, 3), (1.0, 1.0)),
    ],
)
def test_the_pipeline_draws_their_picture(
    pipe: Any,
    converted: Conversion,
    bundled: Saver,
    steps: tuple[int, int, int],
    guidance: tuple[float, float],
) -> None:
    """Two prompts of different lengths in one batch, from the same noise."""
    folder = bundled(
        converted,
        prior={"steps": steps[0], "guidance": guidance[0]},
        decoder={"steps": steps[1], "guidance": guidance[1]},
        **{f"upsampler-{reference.LARGE}": {"steps": steps[2]}},
    )
    model = cast(Model, load(folder, device="cpu", precision="float32"))
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
    assert error(found, _theirs(theirs)) < LARGEST_ERROR


def test_the_command_line_converts_a_folder_and_draws_their_picture(
    pipe: Any, saved: Path, tmp_path: Path
) -> None:
    bundle, file = tmp_path / "karlo", tmp_path / "apple.png"
    assert cli.main(["convert", str(saved), str(bundle)]) == 0
    drawing = ["generate", PROMPTS[0], "--model", str(bundle), "--seed", "7", "--out", str(file)]
    assert cli.main([*drawing, "--dtype", "float32", "--device", "cpu"]) == 0
    with reference.our_noise([(7, 0)]):
        (theirs,) = pipe(PROMPTS[0], output_type="np").images
    found = np.asarray(Image.open(file), dtype=float)
    assert np.abs(found - theirs * 255).max() < LARGEST_STEP


def _as_shipped(scheduler: Any) -> Schedule:
    """A schedule whose every number is the one that Diffusers computes, in float32 and in its order.

    Its beta is a table of its own, which at the least noise is not what its rounded alpha_bar implies.
    """
    index = scheduler.timesteps.flip(0)
    alpha_bar = scheduler.alphas_cumprod[index]
    below = torch.cat([torch.ones(1), alpha_bar[:-1]])
    beta = torch.cat([scheduler.betas[index[:1]], (1 - alpha_bar / below)[1:]])
    variance = (1 - below) / (1 - alpha_bar) * beta
    schedule = Schedule(alpha_bar.double().sqrt(), (1 - alpha_bar).double().sqrt(), index.double())
    vars(schedule)["posterior"] = Posterior(
        x0_weight=(below**0.5 * beta / (1 - alpha_bar)).double(),
        x_weight=((1 - beta) ** 0.5 * (1 - below) / (1 - alpha_bar)).double(),
        variance=variance.double(),
        log_variance_small=variance.clamp(min=1e-20).log().double(),
        log_variance_large=beta.log().double(),
    )
    return schedule


@pytest.mark.parametrize("tables", ["float64", "shipped"])
@pytest.mark.parametrize(
    ("learned", "prediction", "limit", "steps"),
    [
        (False, "sample", 5.0, 25),
        (True, "epsilon", 1.0, 25),
        (False, "epsilon", 1.0, 7),
        (True, "epsilon", 1.0, 3),
    ],
)
def test_a_scheduler_s_whole_trajectory_is_theirs(
    learned: bool, prediction: str, limit: float, steps: int, tables: str
) -> None:
    """Ancestral steps from outputs that do not depend on x.

    Once with our tables and theirs in float64, once with their scheduler as it is and its tables in ours.
    """
    generator = torch.Generator().manual_seed(steps)
    outputs = torch.randn(steps, 1, 6 if learned else 3, 8, 8, generator=generator) * 0.5
    noises = torch.randn(steps, 1, 3, 8, 8, generator=generator)
    scheduler = reference.diffusers.UnCLIPScheduler(
        variance_type="learned_range" if learned else "fixed_small_log",
        prediction_type=prediction,
        clip_sample_range=limit,
    )
    if tables == "float64":
        scheduler = reference.exact(scheduler)
    scheduler.set_timesteps(steps)
    times, x, theirs = scheduler.timesteps, noises[0], []
    with mock.patch.object(reference.scheduling_unclip, "randn_tensor", side_effect=list(noises[1:])):
        for i, time in enumerate(times):
            before = times[i + 1] if i + 1 < steps else None
            x = scheduler.step(outputs[i], time, x, prev_timestep=before).prev_sample
            theirs.append(x)
    made = process(
        "upsampler", prediction=karlo_keys.PREDICTIONS[prediction], limit=limit, learned_range=learned
    )
    schedule = made.diffusion.build()[respace(1000, steps)]
    assert schedule.label.tolist() == times.flip(0).tolist()
    if tables == "shipped":
        schedule = _as_shipped(scheduler)
    answers, queue = iter(outputs), iter(noises[1:])
    inner = denoiser(lambda x, label: next(answers), schedule, made.diffusion.prediction, learned)
    found = ancestral(threshold(inner, Threshold.STATIC, limit), noises[0], lambda: next(queue))
    for step, expected in zip(found, theirs, strict=True):
        assert error(step.x, expected) < LARGEST_ERROR


def test_a_scheduler_s_tables_are_ours_but_for_float32() -> None:
    """The two trajectories differ by 1 - alpha_bar, of which float32 keeps seven decimals."""
    scheduler = reference.diffusers.UnCLIPScheduler()
    made = process("upsampler", prediction=Prediction.EPSILON, limit=1.0, learned_range=False)
    ours = made.diffusion.build()
    theirs, alpha_bar = scheduler.alphas_cumprod.double(), ours.alpha**2
    assert len(theirs) == len(ours)
    assert ((scheduler.betas.double() - ours.beta) / ours.beta).abs().max() < 1e-6
    assert ((theirs - alpha_bar) / alpha_bar).abs().max() < LARGEST_ERROR
    assert ((1 - theirs) - ours.sigma**2).abs().max() < 1e-6


def test_offloading_changes_nothing(converted: Conversion, bundled: Saver) -> None:
    few = {name: {"steps": 2} for name in ("prior", "decoder", f"upsampler-{reference.LARGE}")}
    folder = bundled(converted, **few)
    kept = cast(Model, load(folder, device="cpu", precision="float32"))
    let_go = cast(Model, load(folder, device="cpu", precision="float32", offload=True))
    assert torch.equal(_ours(kept, PROMPTS), _ours(let_go, PROMPTS))
    assert {"clip", "prior", "decoder"} <= set(kept.networks.held)
    assert not let_go.networks.held


def test_a_bundle_that_cannot_see_gives_no_scores(converted: Conversion, bundled: Saver) -> None:
    few = {name: {"steps": 2} for name in ("prior", "decoder")}
    model = cast(Model, load(bundled(converted, **few), device="cpu", precision="float32"))
    (picture,) = model.generate("a red apple", size=reference.SMALL, seed=1)
    assert picture.score is None
    with pytest.raises(InputError, match="rerank"):
        model.generate("a red apple", size=reference.SMALL, rerank=2)
    with pytest.raises(InputError, match="texts alone"):
        model.clip.embed_images([picture.image])


def test_bin_files_are_read_alike(pipe: Any, converted: Conversion, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "bin", safe_serialization=False)
    assert list((tmp_path / "bin" / "prior").glob("*.bin"))
    again = karlo_diffusers.FORMAT.read(Source(tmp_path / "bin"))
    for name, part in converted.parts.items():
        if name != "tokenizer":
            theirs, ours = _network(again, name).state_dict(), cast(Any, part.source).state_dict()
            assert all(torch.equal(theirs[key], ours[key]) for key in ours)


def test_what_is_written_is_what_was_read(
    pipe: Any, converted: Conversion, bundled: Saver, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    karlo_diffusers.export(Bundle.load(bundled(converted)), out)
    classes = {
        name: type(part) for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    assert set(json.loads((out / karlo_keys.INDEX).read_text())) >= set(pipe.components)
    for name, kind in classes.items():
        ours, theirs = kind.from_pretrained(out / name).state_dict(), getattr(pipe, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name
    for name in ("prior_scheduler", "decoder_scheduler", "super_res_scheduler"):
        written = reference.diffusers.UnCLIPScheduler.from_pretrained(out / name).config
        own = getattr(pipe, name).config
        assert {key: written[key] for key in own if key[0] != "_"} == {
            key: own[key] for key in own if key[0] != "_"
        }
    again = karlo_diffusers.FORMAT.read(Source(out))
    assert again.parts["decoder"].diffusion == converted.parts["decoder"].diffusion
    assert again.parts["prior"].sampling == converted.parts["prior"].sampling


def test_only_karlos_own_networks_are_written(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tokenizer is not CLIP's"):
        karlo_diffusers.export(Bundle.load(tiny_bundle), tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("prior_scheduler/scheduler_config.json", {"beta_schedule": "linear"}, "beta_schedule"),
        ("decoder_scheduler/scheduler_config.json", {"variance_type": "fixed_large"}, "fixed_large"),
        ("decoder_scheduler/scheduler_config.json", {"variance_type": "fixed_small_log"}, "disagree"),
        ("decoder/config.json", {"act_fn": "gelu"}, "act_fn 'gelu'"),
        ("decoder/config.json", {"mid_block_type": "UNetMidBlock2D"}, "mid_block_type"),
        ("decoder/config.json", {"new_idea": 3}, "new_idea 3"),
        ("super_res_last/config.json", {"add_attention": True}, "add_attention"),
        ("prior/config.json", {"norm_in_type": "layer"}, "norm_in_type"),
        ("prior/config.json", {"num_layers": 3}, "missing transformer.resblocks.2"),
        ("text_encoder/config.json", {"hidden_act": "relu"}, "hidden_act 'relu'"),
    ],
)
def test_what_is_not_done_here_is_refused(
    saved: Path, tmp_path: Path, file: str, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(saved, folder)
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        karlo_diffusers.FORMAT.read(Source(folder))


# --- the image variation pipeline: no prior, a whole CLIP ---


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reference.variations(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def seen(seeing: Any, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    folder = tmp_path_factory.mktemp("variations") / "saved"
    seeing.save_pretrained(folder)
    return karlo_diffusers.FORMAT.read(Source(folder))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 48, 3), np.uint8)) for _ in range(2)]


@pytest.mark.parametrize("guidance", [8.0, 1.0])
def test_variations_are_theirs(
    seeing: Any, seen: Conversion, bundled: Saver, images: list[Image.Image], guidance: float
) -> None:
    large = f"upsampler-{reference.LARGE}"
    folder = bundled(seen, decoder={"steps": 5, "guidance": guidance}, **{large: {"steps": 3}})
    model = cast(Model, load(folder, device="cpu", precision="float32"))
    embeddings = model.clip.embed_images(images, raw=True)
    with torch.no_grad():
        pixels = seeing.feature_extractor(images=images, return_tensors="pt").pixel_values
        theirs = seeing.image_encoder(pixels).image_embeds
    assert error(embeddings, theirs) < LARGEST_ERROR
    jobs = {Job("", 7, index): embedding for index, embedding in enumerate(embeddings)}
    *_, last = model.draw_embeddings(jobs, Options(size=reference.LARGE))
    with reference.our_noise([(7, 0), (7, 1)]):
        expected = seeing(
            images,
            decoder_num_inference_steps=5,
            super_res_num_inference_steps=3,
            decoder_guidance_scale=guidance,
            output_type="np",
        ).images
    assert last.estimate is not None
    assert error(last.estimate, _theirs(expected)) < LARGEST_ERROR
    assert [picture.score for picture in last.pictures] == [None, None]


def test_pictures_are_cut_out_as_by_transformers(seen: Conversion) -> None:
    preprocessing = seen.parts["clip"].preprocessing
    assert preprocessing is not None
    assert preprocessing.fit == "crop-floor"


def test_text_is_refused_without_a_prior(seen: Conversion, bundled: Saver) -> None:
    model = cast(Model, load(bundled(seen), device="cpu", precision="float32"))
    with pytest.raises(InputError, match="no prior"):
        model.generate("a red apple", size=reference.LARGE)
    embedding = torch.zeros(reference.EMBEDDING)
    for jobs, options, message in (
        ({}, {}, "none"),
        ({Job("", 1, 0): embedding[:3]}, {}, "shape"),
        ({Job("", 1, 0): embedding}, {"candidates": 2}, "candidates"),
        ({Job("", 1, 0): embedding}, {"size": 512}, "512 is not drawn"),
    ):
        with pytest.raises(InputError, match=message):
            model.draw_embeddings(jobs, Options(**{"size": reference.LARGE, **options}))


def test_variations_are_written_back(seeing: Any, seen: Conversion, bundled: Saver, tmp_path: Path) -> None:
    out = tmp_path / "out"
    karlo_diffusers.export(Bundle.load(bundled(seen)), out)
    encoder = type(seeing.image_encoder).from_pretrained(out / "image_encoder").state_dict()
    for name, tensor in seeing.image_encoder.state_dict().items():
        assert torch.equal(encoder[name], tensor)
    again = karlo_diffusers.FORMAT.read(Source(out))
    assert again.parts["clip"].preprocessing == seen.parts["clip"].preprocessing
