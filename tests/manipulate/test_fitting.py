"""Promises of fitting: whole, its middle or stretched, and nothing changed that fits already."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from support.pictures import speckled
from unclip.errors import InputError
from unclip.manipulate.fitting import LARGEST, Fit, fitted, squared


def striped() -> Image.Image:
    """Red, green and blue, 32 pixels wide each."""
    image = Image.new("RGB", (96, 32), "red")
    image.paste("lime", (32, 0, 64, 32))
    image.paste("blue", (64, 0, 96, 32))
    return image


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}


def test_each_way_shows_what_it_says() -> None:
    whole, middle, pulled = (fitted(striped(), 96, fit) for fit in Fit)
    assert {image.size for image in (whole, middle, pulled)} == {(96, 96)}
    assert np.array_equal(np.asarray(whole)[32:64], np.asarray(striped()))
    assert colours(whole.crop((0, 0, 96, 32))) == {(255, 255, 255)}
    assert colours(middle) == {(0, 255, 0)}
    assert pulled.getpixel((8, 90)) == (255, 0, 0)
    assert pulled.getpixel((88, 2)) == (0, 0, 255)


@pytest.mark.parametrize("fit", Fit)
def test_a_square_stays_bit_for_bit(fit: Fit) -> None:
    square = speckled(48)
    assert fitted(square, 48, fit).tobytes() == square.tobytes()
    assert squared(square, fit) is square


def test_what_is_made_square_keeps_its_pixels_and_a_long_line_stays_small() -> None:
    assert squared(striped(), Fit.CROP).size == (32, 32)
    assert squared(striped(), Fit.STRETCH).size == (96, 96)
    for fit in Fit:
        assert squared(Image.new("RGB", (200_000, 3)), fit).width <= LARGEST


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(InputError, match="unknown fit 'tile': choose letterbox, crop, stretch"):
        Fit.named("tile")
