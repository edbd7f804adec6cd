"""Promises of the figures of upsamplers: each measures what its name says, on pictures made for it."""

from __future__ import annotations

import numpy as np
import pytest

from unclip.evaluate import upsamplers


@pytest.fixture
def drawing() -> np.ndarray:
    """A red square on white, and a picture whose border is red: uint8 (2, 64, 64, 3)."""
    pictures = np.full((2, 64, 64, 3), 255, np.uint8)
    pictures[0, 20:44, 20:44] = (255, 0, 0)
    pictures[1, :, :8] = (255, 0, 0)
    return pictures


def test_psnr_is_the_textbook_one() -> None:
    error = np.zeros((3, 8, 8, 3), np.float32)
    error[1] = 255
    error[2] = 2.55
    assert upsamplers.psnr(error) == pytest.approx([99, 0, 40], abs=1e-3)


def test_the_border_counts_where_the_truth_is_white_all_around(drawing: np.ndarray) -> None:
    border = upsamplers.white_border(drawing)
    assert border[0].sum() == 4 * 63
    assert not border[1].any()
    grey = drawing.copy()
    grey[0, 0, :] = 250
    error = np.abs(grey.astype(np.float32) - drawing)
    values, known = upsamplers.within(error, border)
    assert known.tolist() == [True, False]
    assert values[0] == pytest.approx(5 * 64 / 252)


def test_flat_places_have_one_colour_around_them_and_are_not_white(drawing: np.ndarray) -> None:
    flat = upsamplers.flat_places(drawing)
    assert flat[0].sum() == 20 * 20  # the square but for two pixels on each side
    assert flat[0, 30, 30]
    assert not flat[0, 5, 5]


def test_a_blurred_edge_is_less_sharp(drawing: np.ndarray) -> None:
    truth = upsamplers.steepness(drawing)
    edge = upsamplers.edges(drawing)
    assert edge[0].any()
    assert not edge[0, 30, 30]
    blurred = upsamplers.resized(upsamplers.resized(drawing, 16), 64)
    same, _ = upsamplers.within(truth, edge, truth)
    less, _ = upsamplers.within(upsamplers.steepness(blurred), edge, truth)
    assert same == pytest.approx(1)
    assert (less < 0.8).all()
