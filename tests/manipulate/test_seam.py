"""Promises of the seam's figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from unclip.manipulate.seam import matched, seam


def halves(left: int, right: int, step: int = 0) -> tuple[Image.Image, Image.Image]:
    """Grey on both sides, stripes of `step` levels in the drawn right half; and the mask."""
    pixels = np.full((64, 64, 3), left, dtype=np.uint8)
    pixels[:, 32:] = right
    pixels[::2, 32:] += step
    keep = Image.new("L", (64, 64), 255)
    keep.paste(0, (32, 0, 64, 64))
    return Image.fromarray(pixels), keep


@pytest.mark.parametrize(("left", "right", "across"), [(100, 100, 0.0), (100, 130, 30.0)])
def test_a_step_at_the_edge_is_the_difference_across_it(left: int, right: int, across: float) -> None:
    found = seam(*halves(left, right))
    assert (found.across, found.inside, found.outside) == (across, 0.0, 0.0)


def test_what_lies_on_each_side_is_told_apart() -> None:
    found = seam(*halves(100, 100, step=10))
    assert found.outside == 0
    assert found.inside == pytest.approx(10 * 2 * 63 / (2 * 63 + 64))  # in two columns; across them nothing
    assert found.texts["seam_outside"] == "0.0"


def test_only_what_is_near_the_edge_counts() -> None:
    image, keep = halves(100, 100)
    image.paste((0, 0, 0), (0, 0, 16, 64))
    assert seam(image, keep).outside == 0


def test_without_pairs_there_is_no_figure() -> None:
    image = Image.new("RGB", (8, 8))
    found = seam(image, Image.new("L", (8, 8), 0))
    assert math.isnan(found.across)
    assert math.isnan(found.outside)


def test_a_shade_that_was_missed_is_matched_and_what_is_kept_stays() -> None:
    drawn, keep = halves(100, 112, step=6)
    picture, _ = halves(100, 0)
    found = np.asarray(matched(drawn, picture, keep), dtype=int)
    assert np.array_equal(found[:, :32], np.asarray(drawn)[:, :32])
    assert abs(found[:, 32].mean() - 100) <= 1
    assert (np.abs(found[::2, 40:] - found[1::2, 40:]) == 6).all()  # what was drawn stays what it is
    assert seam(Image.fromarray(found.astype(np.uint8)), keep).across <= 4


def test_another_thing_at_the_edge_keeps_its_colour() -> None:
    drawn, keep = halves(100, 180)
    assert matched(drawn, drawn, keep).tobytes() == drawn.tobytes()


@pytest.mark.parametrize("level", [0, 255])
def test_where_all_or_nothing_is_drawn_nothing_is_matched(level: int) -> None:
    drawn, _ = halves(100, 110)
    assert matched(drawn, drawn, Image.new("L", (64, 64), level)).tobytes() == drawn.tobytes()
