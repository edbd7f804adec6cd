"""Promises of variations: identity at zero strength, determinism, refusals before anything is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unclip.drawing import Picture
from unclip.errors import InputError
from unclip.families.unclip import UnCLIP
from unclip.images import fit_square
from unclip.manipulate.latents import Inversion, Latents
from unclip.runtime import sha256

STEPS = 6


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> UnCLIP:
    return UnCLIP.load(tiny_bundle, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def shipped() -> UnCLIP:
    return UnCLIP.load(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def apple() -> Image.Image:
    image = Image.new("RGB", (96, 96), "white")
    image.paste((200, 30, 40), (24, 24, 72, 72))
    return image


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(picture.image, dtype=int)


def test_the_latents_of_a_picture_draw_it_again(shipped: UnCLIP, apple: Image.Image) -> None:
    latents = shipped.encode(apple, Inversion(steps=40, iterations=3))
    assert latents.x_T.shape == (3, 64, 64)
    again = pixels(shipped.decode(latents, size=64))
    error = np.mean((again - np.asarray(fit_square(apple, 64), dtype=int)) ** 2)
    assert 10 * np.log10(255**2 / error) > 28  # dB
    # the noise tells pictures of one embedding apart: other noise, another picture
    other = Latents(latents.z_i, torch.randn_like(latents.x_T), latents.inversion)
    assert np.abs(pixels(shipped.decode(other, size=64)) - again).mean() > 1


def test_at_zero_strength_a_picture_comes_back_as_the_decoder_draws_it(
    model: UnCLIP, apple: Image.Image
) -> None:
    pictures = model.vary(apple, n=2, strength=0, size=64, seed=3, steps=STEPS)
    whole = pixels(model.decode(model.encode(apple, Inversion(STEPS)), size=64))
    for picture in pictures:  # in a batch of two kernels round differently
        assert np.abs(pixels(picture) - whole).max() <= 1


def test_at_full_strength_only_the_embedding_is_kept(model: UnCLIP, apple: Image.Image) -> None:
    """Pictures that CLIP cannot tell apart then have the same variations."""
    speckled = apple.copy()
    speckled.putpixel((0, 0), (254, 255, 255))
    first, second = (model.vary(image, size=64, seed=3, steps=STEPS)[0] for image in (apple, speckled))
    assert np.abs(pixels(first) - pixels(second)).max() <= 1
    assert np.abs(pixels(first) - pixels(model.vary(apple, size=64, seed=4, steps=STEPS)[0])).max() > 20


def test_a_seed_varies_the_same_way_again_and_says_of_what(model: UnCLIP, tmp_path: Path) -> None:
    file = tmp_path / "apple.png"
    Image.new("RGB", (40, 30), "red").save(file)
    settings: dict[str, Any] = {"n": 2, "strength": 0.5, "seed": 9, "steps": STEPS}
    first, second = model.vary(file, **settings), model.vary(file, **settings)
    assert [p.image.tobytes() for p in first] == [p.image.tobytes() for p in second]
    assert first[0].image.tobytes() != first[1].image.tobytes()
    assert first[0].image.size == (256, 256)
    found = first[0].metadata
    assert found["source"] == f"sha256:{sha256(file)}"
    assert (found["operation"], found["strength"], found["steps"]) == ("vary", "0.5", str(STEPS))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5: choose from 0 to 1"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"n": 0}, "n is 0"),
        ({"size": 100}, "size 100 is not drawn"),
        ({"steps": 1}, "steps is 1"),
        ({"steps": 5000}, "5000 steps asked"),
        ({"guidance": 99.0}, "guidance is 99"),
    ],
)
def test_what_is_out_of_range_is_refused(
    model: UnCLIP, apple: Image.Image, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.vary(apple, **wrong)
