"""Promises of removal: the hole is filled from what surrounds it, and the rest stays bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from support.pictures import speckled
from unclip.errors import InputError
from unclip.manipulate.membrane import membrane
from unclip.manipulate.removal import removed


def chance() -> np.random.Generator:
    return np.random.default_rng(0)


def stripes(width: int = 120, height: int = 90) -> Image.Image:
    """Eight pixels red, eight blue."""
    columns = np.arange(width) // 8 % 2
    row = np.where(columns[:, None] == 0, (200, 30, 30), (30, 60, 200)).astype(np.uint8)
    return Image.fromarray(np.tile(row, (height, 1, 1)))


def disc(size: tuple[int, int], box: tuple[int, int, int, int], share: int = 255) -> Image.Image:
    shares = Image.new("L", size)
    ImageDraw.Draw(shares).ellipse(box, fill=share)
    return shares


def test_a_pattern_goes_on_where_a_thing_was() -> None:
    whole, hole = stripes(), disc((120, 90), (40, 30, 75, 62))
    spoiled = whole.copy()
    spoiled.paste((0, 255, 0), (0, 0), hole)
    found = np.asarray(removed(spoiled, hole, chance()), dtype=int)
    wrong = np.abs(found - np.asarray(whole)).max(axis=2) > 24
    assert wrong.mean() < 0.01
    assert found[..., 1].max() < 100  # nothing of the green thing


def test_all_but_the_hole_stays_bit_for_bit() -> None:
    picture, hole = speckled(80, 60), disc((80, 60), (30, 20, 50, 40))
    found, kept = np.asarray(removed(picture, hole, chance())), np.asarray(hole) == 0
    assert np.array_equal(found[kept], np.asarray(picture)[kept])
    assert np.isin(found[~kept].reshape(-1), np.arange(256)).all()


def test_no_colour_is_made_that_is_not_there() -> None:
    flat, hole = Image.new("RGB", (90, 70), (10, 120, 240)), disc((90, 70), (20, 20, 60, 50))
    spoiled = flat.copy()
    spoiled.paste((255, 255, 0), (0, 0), hole)
    assert np.array_equal(np.asarray(removed(spoiled, hole, chance())), np.asarray(flat))


def test_transparency_goes_on_as_well() -> None:
    picture = Image.new("RGBA", (80, 80), (9, 9, 9, 0))
    picture.paste((200, 0, 0, 255), (30, 30, 50, 50))
    hole = disc((80, 80), (24, 24, 56, 56))
    found = np.asarray(removed(picture, hole, chance()))
    assert found[..., 3].max() == 0
    assert np.array_equal(found[0, 0], (9, 9, 9, 0))


def test_the_same_seed_fills_the_same_way() -> None:
    picture, hole = speckled(80, 60), disc((80, 60), (30, 20, 50, 40))
    first = removed(picture, hole, np.random.default_rng(5)).tobytes()
    assert removed(picture, hole, np.random.default_rng(5)).tobytes() == first


@pytest.mark.parametrize("size", [(1, 2), (5, 5), (300, 2), (20, 14)])
def test_pictures_too_small_for_patches_are_filled_smoothly(size: tuple[int, int]) -> None:
    hole = Image.new("L", size)
    hole.putpixel((0, 1), 255)
    found = removed(Image.new("RGB", size, (50, 60, 70)), hole, chance())
    assert found.getpixel((0, 1)) == (50, 60, 70)


def test_a_hole_of_the_whole_picture_is_refused() -> None:
    with pytest.raises(InputError, match="covers all of the picture"):
        removed(speckled(8), Image.new("L", (8, 8), 255), chance())


def test_half_a_share_is_half_of_both() -> None:
    picture, hole = Image.new("RGB", (60, 60), (0, 0, 0)), disc((60, 60), (20, 20, 40, 40), 128)
    picture.paste((200, 200, 200), (25, 25, 35, 35))
    assert abs(removed(picture, hole, chance()).getpixel((30, 30))[0] - 100) <= 1


def test_a_membrane_is_straight_between_its_ends() -> None:
    values = np.zeros((16, 64, 1), np.float32)
    known = np.zeros((16, 64), bool)
    known[:, 0] = known[:, -1] = True
    values[:, -1] = 63
    assert np.abs(membrane(values, known)[8, :, 0] - np.arange(64)).max() < 2
