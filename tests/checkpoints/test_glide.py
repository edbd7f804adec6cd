"""Promises of GLIDE's format: the released layout, whole and exact in both directions, for all six files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reference.guided import Network, Shapes, State, glide_shapes, random_state
from reference.noised_clip import (
    VOCABULARY,
    naive_image,
    naive_text,
    noised_clip,
    noised_clip_shapes,
    vocabulary,
)
from support.tensors import MetaWeights, error, shapes_of
from unclip.checkpoints import glide
from unclip.checkpoints.foreign import Conversion, Source
from unclip.diffusion.schedule import ScheduleName
from unclip.errors import CheckpointError, InputError
from unclip.models.glide import PRESETS, Glide, GlideCondition
from unclip.models.noised_clip import RELEASED, NoisedCLIP
from unclip.native import unfilled

TINY = {
    "channels": 32,
    "widths": (64, 128),
    "blocks": 1,
    "attention": (2,),
    "context": 6,
    "width": 128,
    "layers": 2,
    "vocabulary": VOCABULARY,
}
INPUTS = {"base": 3, "base-inpaint": 7, "upsample": 6, "upsample-inpaint": 10}
SIDES = {"image_size": "16", "large_size": "32"}
# what glide-text2im's notebooks print, and 4 more input channels of 192 kernels of 3 x 3
PUBLISHED_PARAMETERS = {
    "base": 385_030_726,
    "base-inpaint": 385_030_726 + 4 * 192 * 9,
    "upsample": 398_361_286,
    "upsample-inpaint": 398_361_286 + 4 * 192 * 9,
}


def tiny(part: str) -> Shapes:
    return glide_shapes(inputs=INPUTS[part], **TINY)


def released(part: str) -> Shapes:
    config = PRESETS[part]
    return glide_shapes(
        inputs=INPUTS[part],
        channels=192,
        widths=(192, 384, 576, 768) if "base" in part else (192, 192, 384, 384, 768, 768),
        blocks=3 if "base" in part else 2,
        attention=(2, 4, 8) if "base" in part else (8, 16, 32),
        context=128,
        width=512,
        layers=16,
        vocabulary=config.caption.vocabulary,
    )


def saved(path: Path, state: Mapping[str, Tensor]) -> Path:
    torch.save(dict(state), path)
    return path


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {part: random_state(tiny(part), seed) for seed, part in enumerate(INPUTS)}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, states: dict[str, State]) -> Conversion:
    folder = vocabulary(tmp_path_factory.mktemp("glide"))
    for part, state in states.items():
        saved(folder / f"{part}.pt", state)
    saved(folder / "clip_image_enc.pt", noised_clip("image"))
    saved(folder / "clip_text_enc.pt", noised_clip("text"))
    source = Source(folder)
    assert glide.FORMAT.looks_like(source)
    return glide.FORMAT.read(source, SIDES)


@pytest.mark.parametrize("part", PRESETS)
def test_a_released_file_is_known_by_its_shapes_and_fits_whole(part: str) -> None:
    shapes = released(part)
    weights = MetaWeights(shapes)
    assert glide.role(weights) == part
    assert glide.glide_config(weights) == PRESETS[part]
    model = unfilled("glide", PRESETS[part])
    table = glide.glide_table(model)
    assert shapes_of(table.write(MetaWeights(shapes_of(model.state_dict())))) == shapes
    read = dict(table.read(weights, shapes_of(model.state_dict()), part))
    assert shapes_of(read) == shapes_of(model.state_dict())
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED_PARAMETERS[part]


def test_the_released_noised_clip_is_known_by_its_shapes_and_fits_whole() -> None:
    image = noised_clip_shapes(
        "image", width=768, layers=12, embedding=512, patches=256, patch=4, context=0, words=0
    )
    text = noised_clip_shapes(
        "text", width=512, layers=12, embedding=512, patches=0, patch=0, context=77, words=65_536
    )
    assert glide.noised_clip_config(MetaWeights(image), MetaWeights(text)) == RELEASED
    model = unfilled("noised-clip", RELEASED)
    written = shapes_of(glide.noised_clip_table().write(MetaWeights(shapes_of(model.state_dict()))))
    assert written == {f"image.{name}": shape for name, shape in image.items()} | {
        f"text.{name}": shape for name, shape in text.items()
    }


@pytest.mark.parametrize("part", INPUTS)
def test_a_network_computes_what_the_published_one_does(
    everything: Conversion, states: dict[str, State], part: str
) -> None:
    name = {
        "base": "glide",
        "base-inpaint": "glide-inpaint",
        "upsample": "upsampler-32",
        "upsample-inpaint": "upsampler-32-inpaint",
    }[part]
    model = everything.parts[name].source
    assert isinstance(model, Glide)
    state = states[part]
    naive = Network(state, blocks=1, wide=64)
    ids = torch.tensor([[3, 40, 7, 259, 259, 259], [0, 1, 2, 3, 4, 5]])
    mask = torch.tensor([[True, True, True, False, False, False], [True] * 6])
    expected_text = naive.captions(ids, mask, text_heads=2)
    text = model.read(ids, mask)
    assert error(text, expected_text) < 1e-4
    torch.testing.assert_close(model.read(ids[:1, :3], mask[:1, :3]), text[:1])  # padding need not be given
    size = model.config.image_size
    x, label = torch.randn(2, 3, size, size), torch.tensor([0.0, 613.0])
    keep = (torch.rand(2, 1, size, size) < 0.5).float()
    given = {
        "known": torch.rand(2, 3, size, size) * 2 - 1 if "inpaint" in part else None,
        "keep": keep if "inpaint" in part else None,
        "low": torch.rand(2, 3, 16, 16) * 2 - 1 if "upsample" in part else None,
    }
    found = model(x, label, GlideCondition(text, text, **given))
    assert error(found, naive.glide(x, label, expected_text, **given)) < 1e-4
    if "inpaint" in part:
        nothing = GlideCondition(text, text, low=given["low"])
        zeros = given | {"known": torch.zeros_like(x), "keep": torch.zeros_like(keep)}
        assert error(model(x, label, nothing), naive.glide(x, label, expected_text, **zeros)) < 1e-4
    back = glide.glide_table(model).write(model.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_the_noised_clip_computes_what_the_published_one_does(everything: Conversion) -> None:
    model = everything.parts["noised-clip"].source
    assert isinstance(model, NoisedCLIP)
    image, text = noised_clip("image"), noised_clip("text")
    pictures, labels = torch.randn(2, 3, 16, 16), [0, 871]
    expected = torch.stack([naive_image(image, x, t) for x, t in zip(pictures, labels, strict=True)])
    assert error(model.encode_image(pictures, torch.tensor(labels).float()), expected) < 1e-4
    rows = [[49_406, 320, 736, 49_407, 0, 0, 0], [49_406, 49_407, 0, 0, 0, 0, 0]]
    expected_text = torch.stack([naive_text(text, rows[0], 4), naive_text(text, rows[1], 2)])
    texts = model.encode_text(torch.tensor(rows))
    assert error(texts, expected_text) < 1e-4
    similarity = model.similarity(pictures, torch.tensor(labels).float(), texts)
    torch.testing.assert_close(similarity, 100 * (expected * expected_text).sum(1), atol=1e-3, rtol=1e-4)
    back = glide.noised_clip_table().write(model.state_dict())
    for prefix, state in (("image", image), ("text", text)):
        assert all(torch.equal(back[f"{prefix}.{name}"], state[name]) for name in state)
    assert len(back) == len(image) + len(text)
    with pytest.raises(InputError, match="0 to 999"):
        model.encode_image(pictures, torch.tensor([5.0, 1000.0]))


def test_each_network_draws_as_the_notebooks_do(everything: Conversion) -> None:
    found = {name: part.sampling for name, part in everything.parts.items() if part.sampling is not None}
    assert {name: (sampling.sampler, sampling.steps) for name, sampling in found.items()} == {
        "glide": ("ancestral", 100),
        "glide-inpaint": ("ancestral", 100),
        "upsampler-32": ("ddim", "fast27"),
        "upsampler-32-inpaint": ("ancestral", "fast27"),
    }
    assert (found["glide"].guidance, found["glide-inpaint"].guidance) == (3, 5)
    assert found["upsampler-32"].temperature == found["upsampler-32-inpaint"].temperature == 0.997
    schedules = {name: part.diffusion.schedule for name, part in everything.parts.items() if part.diffusion}
    assert schedules == {
        "glide": ScheduleName.COSINE,
        "glide-inpaint": ScheduleName.COSINE,
        "upsampler-32": ScheduleName.LINEAR,
        "upsampler-32-inpaint": ScheduleName.LINEAR,
    }


def test_a_model_that_fills_in_serves_alone(tmp_path: Path, states: dict[str, State]) -> None:
    path = saved(vocabulary(tmp_path) / "a.pt", states["base-inpaint"])
    parts = glide.FORMAT.read(Source(path), SIDES).parts
    assert set(parts) == {"tokenizer", "glide"}
    assert isinstance(parts["glide"].source, Glide)
    assert parts["glide"].source.config.fills_in


class TestStrictness:
    def refused(self, folder: Path, kind: type[Exception] = CheckpointError, **options: str) -> str:
        with pytest.raises(kind) as caught:
            glide.FORMAT.read(Source(folder), SIDES | options)
        return str(caught.value)

    def test_tensors_too_many_or_few_are_named(self, tmp_path: Path, states: dict[str, State]) -> None:
        vocabulary(tmp_path)
        saved(tmp_path / "a.pt", states["base"] | {"unemb.weight": torch.ones(2, 2)})
        assert "unknown unemb.weight" in self.refused(tmp_path)
        saved(tmp_path / "a.pt", {n: t for n, t in states["base"].items() if n != "padding_embedding"})
        assert "missing text.padding" in self.refused(tmp_path)

    def test_an_upsampler_alone_is_refused(self, tmp_path: Path, states: dict[str, State]) -> None:
        saved(vocabulary(tmp_path) / "a.pt", states["upsample"])
        assert "holds upsample, and no base model" in self.refused(tmp_path)

    def test_half_a_noised_clip_is_refused(self, tmp_path: Path, states: dict[str, State]) -> None:
        saved(vocabulary(tmp_path) / "a.pt", states["base"])
        image = saved(tmp_path / "b", noised_clip("image"))
        assert "has clip-image of the noised CLIP and not clip-text" in self.refused(
            tmp_path, **{"clip-image": str(image)}
        )

    def test_a_file_in_the_wrong_place_is_refused(self, tmp_path: Path, states: dict[str, State]) -> None:
        path = saved(vocabulary(tmp_path) / "a.pt", states["base"])
        assert "is not the upsample of this format" in self.refused(tmp_path, upsample=str(path))

    def test_the_vocabulary_must_be_there_and_fit(self, tmp_path: Path, states: dict[str, State]) -> None:
        saved(tmp_path / "a.pt", states["base"])
        assert "encoder.json and vocab.bpe" in self.refused(tmp_path, InputError)
        vocabulary(tmp_path)
        words = json.loads(gzip.decompress((tmp_path / "encoder.json.gz").read_bytes()))
        del words["<|endoftext|>"]
        (tmp_path / "encoder.json.gz").write_bytes(gzip.compress(json.dumps(words).encode()))
        assert "must be '<|endoftext|>'" in self.refused(tmp_path, InputError)
        words |= {"more": 259, "<|endoftext|>": 260}
        (tmp_path / "encoder.json.gz").write_bytes(gzip.compress(json.dumps(words).encode()))
        assert "261 tokens and the model 260" in self.refused(tmp_path, InputError)

    def test_what_shapes_do_not_tell_must_be_said(self, tmp_path: Path, states: dict[str, State]) -> None:
        saved(vocabulary(tmp_path) / "a.pt", states["base"])
        with pytest.raises(CheckpointError, match="no released GLIDE, so say image_size"):
            glide.FORMAT.read(Source(tmp_path))

    def test_other_networks_do_not_look_like_one(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "a.pt", {"transformer.resblocks.0.attn.in_proj_weight": torch.ones(3, 1)})
        assert not glide.FORMAT.looks_like(Source(path))
