"""Promises of the verbs on other families: whose stages can do it does it, the others say why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import unclip
from support.pictures import speckled
from unclip import cli
from unclip.bundle import Part, save_bundle
from unclip.diffusion.defaults import ClassifierSampling, GuidedSampling
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.errors import InputError
from unclip.images import read_metadata
from unclip.model import Model
from unclip.models.adm import ADM, ADMConfig
from unclip.models.caption import CaptionConfig
from unclip.models.glide import Glide, GlideConfig
from unclip.tokenizer import BytePairTokenizer

SIDE = 16
UNET: dict[str, Any] = {
    "image_size": SIDE,
    "channels": 32,
    "widths": (32,),
    "blocks": 1,
    "attention": (1,),
    "head_channels": 16,
    "learned_range": False,
}
X0 = DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.X0)


def saved(folder: Path, family: str, parts: dict[str, Part]) -> Model:
    generator = torch.Generator().manual_seed(0)
    for part in parts.values():
        if isinstance(part.source, nn.Module):
            for parameter in part.source.parameters():
                with torch.no_grad():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    save_bundle(folder, name=f"tiny-{family}", parts=parts, card="", family=family, dtype=None)
    return unclip.load(folder, device="cpu", precision="float32")


def glide(folder: Path, fills_in: bool = True) -> Model:
    tokenizer = BytePairTokenizer.train(["a red apple", "a blue cat"] * 2, vocabulary=280)
    caption = CaptionConfig(tokenizer.vocabulary, context=16, width=16, layers=1, heads=2)
    network = Glide(GlideConfig(caption=caption, fills_in=fills_in, **UNET))
    sampling = GuidedSampling(4, guidance=2.0, threshold=Threshold.STATIC)
    return saved(folder, "glide", {"tokenizer": Part(tokenizer), "glide": Part(network, X0, sampling)})


def adm(folder: Path, diffusion: DiffusionConfig = X0, sampler: str = "ddim") -> Model:
    network = ADM(ADMConfig(classes=3, labels=("apple", "cat", "moon"), **UNET))
    sampling = ClassifierSampling(4, sampler=sampler, threshold=Threshold.STATIC)
    return saved(folder, "adm", {"adm": Part(network, diffusion, sampling)})


MAKERS: dict[str, Callable[[Path], Model]] = {"glide": glide, "adm": adm}
PROMPTS = {"glide": "a red apple", "adm": "cat"}


@pytest.fixture(scope="module", params=MAKERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return MAKERS[request.param](tmp_path_factory.mktemp("families") / request.param)


def holed() -> Image.Image:
    """The lower half is to be redrawn."""
    mask = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, SIDE // 2, SIDE, SIDE))
    return mask


def test_an_edit_keeps_what_is_not_masked_and_draws_the_rest(model: Model) -> None:
    prompt = PROMPTS[model.bundle.family]
    edited = model.edit(speckled(SIDE), holed(), prompt, n=2, seed=1)
    before = np.asarray(speckled(SIDE))
    for picture in edited:
        after = np.asarray(picture.image)
        assert np.array_equal(after[: SIDE // 2], before[: SIDE // 2])
        assert (after[SIDE // 2 :] != before[SIDE // 2 :]).any(axis=2).mean() > 0.9
        assert picture.metadata["operation"] == "edit"
    assert edited[0].image.tobytes() != edited[1].image.tobytes()
    again = model.edit(speckled(SIDE), holed(), prompt, n=2, seed=1)
    assert [picture.image.tobytes() for picture in again] == [picture.image.tobytes() for picture in edited]
    # ADM was not trained to fill in, and takes every step several times
    assert edited[0].metadata["rounds"] == {"glide": "1", "adm": "3"}[model.bundle.family]


def test_a_picture_is_extended(model: Model) -> None:
    (whole,) = model.outpaint(speckled(SIDE), PROMPTS[model.bundle.family], right=SIDE // 2, seed=1)
    assert whole.image.size == (SIDE * 3 // 2, SIDE)
    assert np.array_equal(np.asarray(whole.image)[:, :SIDE], np.asarray(speckled(SIDE)))


def test_a_picture_to_start_from_comes_back_at_zero_strength(model: Model) -> None:
    prompt = PROMPTS[model.bundle.family]
    settings: dict[str, Any] = {"seed": 1, "size": SIDE, "init": speckled(SIDE)}
    (same,) = model.generate(prompt, strength=0, **settings)
    assert same.image.tobytes() == speckled(SIDE).tobytes()
    half, most = (model.generate(prompt, strength=strength, **settings)[0] for strength in (0.5, 1.0))
    assert half.image.tobytes() != same.image.tobytes()
    assert most.image.tobytes() == model.generate(prompt, seed=1, size=SIDE)[0].image.tobytes()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_langevin_counts_the_steps_from_a_picture(tmp_path: Path, strength: float) -> None:
    noise = DiffusionConfig(
        schedule=ScheduleName.GEOMETRIC, prediction=Prediction.SCORE, steps=10, sigma_range=(0.01, 1.0)
    )
    model = adm(tmp_path / "ncsn", noise, "langevin")
    events = list(model.stream("cat", seed=1, size=SIDE, init=speckled(SIDE), strength=strength))
    last = {event.stage: (event.step, event.total) for event in events}
    assert all(step == total for step, total in last.values())
    assert ("adm" in last) == (strength > 0)


def test_the_command_line_edits_and_extends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(glide(tmp_path / "glide").bundle.folder)
    speckled(SIDE).save("a.png")
    holed().save("mask.png")
    command = ["edit", "a.png", "a red apple", "--mask", "mask.png", "--model", folder, "--seed", "1"]
    assert cli.main([*command, "--out", "b.png"]) == 0
    assert read_metadata("b.png")["operation"] == "edit"
    command = ["outpaint", "a.png", "a red apple", "--left", "8", "--model", folder, "--seed", "1"]
    assert cli.main([*command, "--out", "c.png"]) == 0
    with Image.open("c.png") as image:
        assert image.size == (SIDE + 8, SIDE)
    capsys.readouterr()


def test_a_glide_that_was_not_trained_to_fill_in_says_what_to_convert(tmp_path: Path) -> None:
    model = glide(tmp_path / "plain", fills_in=False)
    with pytest.raises(InputError, match="base_inpaint.pt"):
        model.edit(speckled(SIDE), holed(), "a red apple")


def test_rounds_mean_nothing_to_one_that_sees_what_it_fills_in(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rounds is 3: tiny-glide takes each step once"):
        glide(tmp_path / "glide").edit(speckled(SIDE), holed(), "a red apple", rounds=3)


@pytest.mark.parametrize("name", ["vary", "blend", "restyle", "reconstruct", "encode"])
def test_what_needs_an_image_embedding_is_refused_with_the_reason(model: Model, name: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "blend": (speckled(SIDE), speckled(SIDE)),
        "restyle": (speckled(SIDE), "a cat", "a dog"),
    }
    with pytest.raises(
        InputError, match="cannot be given inverted noise: choose a bundle of the family unclip"
    ):
        getattr(model, name)(*arguments.get(name, (speckled(SIDE),)))


def test_who_writes_codes_is_given_no_pixels() -> None:
    model = unclip.load("pictograms-dalle1", precision="float32")
    for verb, arguments in (("edit", (speckled(SIDE), holed(), "a cat")), ("vary", (speckled(SIDE),))):
        with pytest.raises(InputError, match=r"pictograms-dalle1, of the family dalle1, cannot be given"):
            getattr(model, verb)(*arguments)
    with pytest.raises(InputError, match="does not write texts: choose a bundle of the family dalle1"):
        unclip.load().complete_caption("a")
