"""The promise that Karlo's architecture changes pictures, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from unclip.bundle import Preprocessing, save_bundle
from unclip.checkpoints import karlo
from unclip.model import Model
from unclip.models import decoder, prior, upsampler
from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.tokenizer import CLIP_CONTEXT, CLIP_VOCABULARY, SHIPPED_VOCABULARY, CLIPTokenizer

WIDTH, SMALL, LARGE = 16, 16, 64
SETTINGS: dict[str, Any] = {"seed": 1, "steps": 4}


def randomised(model: nn.Module, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                std = 0.5 * parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    tokenizer = CLIPTokenizer.load(SHIPPED_VOCABULARY)
    text = TextTransformerConfig(CLIP_VOCABULARY, CLIP_CONTEXT, WIDTH, layers=1, heads=2)
    image = VisionTransformerConfig(image_size=32, patch=16, width=WIDTH, layers=1, heads=2)
    clip = CLIP(CLIPConfig(embedding=WIDTH, image=image, text=text, end_token=tokenizer.end))
    prior_config = replace(
        prior.KARLO, embedding=WIDTH, text_width=WIDTH, context=CLIP_CONTEXT, width=WIDTH, layers=1, heads=2
    )
    unet: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks": 1}
    decoder_config = replace(
        decoder.KARLO,
        image_size=SMALL,
        embedding=WIDTH,
        text_width=WIDTH,
        attention=(2,),
        head_channels=8,
        context=WIDTH,
        **unet,
    )
    larger = replace(upsampler.KARLO, low_size=SMALL, high_size=LARGE, **unet)
    made = karlo.conversion(
        tokenizer=tokenizer,
        clip=randomised(clip, 1),
        prior=randomised(prior.DiffusionPrior(prior_config), 2),
        decoder=randomised(decoder.Decoder(decoder_config), 3),
        upsamplers=(
            randomised(upsampler.Upsampler(larger), 4),
            randomised(upsampler.Upsampler(larger), 5),
        ),
        preprocessing=Preprocessing(size=32, fit="crop"),
    )
    folder = tmp_path_factory.mktemp("karlo") / "bundle"
    save_bundle(folder, name=made.name, parts=made.parts, card="", family=made.family, dtype=None)
    return Model.load(folder, device="cpu", precision="float32")


def speckled(size: int) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def test_pictures_are_varied_blended_and_restyled(model: Model) -> None:
    picture, other = speckled(LARGE), Image.new("RGB", (LARGE, LARGE), "red")
    varied = model.vary(picture, n=2, strength=1, **SETTINGS)
    frames = model.blend(picture, other, frames=3, **SETTINGS)
    # an untrained decoder's x_T is so large that the embedding does not show: this is the first frame again
    (styled,) = model.restyle(picture, "a cat", "a drawing of a cat", **SETTINGS)
    assert {one.image.size for one in (*varied, *frames, styled)} == {(LARGE, LARGE)}
    assert len({one.image.tobytes() for one in (*varied, *frames)}) == 5
    again = model.blend(picture, other, frames=3, **SETTINGS)
    assert [one.image.tobytes() for one in again] == [one.image.tobytes() for one in frames]


def test_an_edit_keeps_what_is_not_masked(model: Model) -> None:
    mask = Image.new("RGBA", (LARGE, LARGE), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, LARGE, LARGE // 2))
    (edited,) = model.edit(speckled(LARGE), mask, "a red apple", **SETTINGS)
    after, before = np.asarray(edited.image), np.asarray(speckled(LARGE))
    assert np.array_equal(after[LARGE // 2 :], before[LARGE // 2 :])
    assert (after[: LARGE // 2] != before[: LARGE // 2]).any(axis=2).mean() > 0.9


def test_it_extends_and_starts_from_pictures(model: Model) -> None:
    (whole,) = model.outpaint(speckled(LARGE), "a red apple", left=40, **SETTINGS)
    assert np.array_equal(np.asarray(whole.image)[:, 40:], np.asarray(speckled(LARGE)))
    (same,) = model.generate("a red apple", init=speckled(LARGE), strength=0, size=LARGE, **SETTINGS)
    assert same.image.tobytes() == speckled(LARGE).tobytes()
