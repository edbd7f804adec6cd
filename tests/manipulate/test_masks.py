"""Promises of masks: those of other programs are understood, thresholds hold, soft edges are blended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.pictures import holed
from unclip.errors import InputError, UnclipWarning
from unclip.manipulate.masks import checked_feather, shares_of, warn_of_next_to_nothing

PICTURE = Image.new("RGB", (8, 4))


def ramp(levels: list[int]) -> Image.Image:
    return Image.fromarray(np.tile(np.array(levels, np.uint8), (4, 1)))


def shares(mask: Image.Image | None, feather: Any = 0, picture: Image.Image = PICTURE) -> list[int]:
    return np.asarray(shares_of(picture, mask, feather))[0].tolist()


def test_white_of_a_mask_without_transparency_begins_at_level_128() -> None:
    mask = ramp([0, 10, 100, 127, 128, 129, 250, 255]).convert("RGB")
    assert shares(mask) == [0, 0, 0, 0, 255, 255, 255, 255]


def test_where_there_is_transparency_alpha_0_alone_is_drawn() -> None:
    mask = Image.new("RGBA", (8, 4), "white")
    mask.putalpha(ramp([0, 1, 100, 127, 128, 129, 250, 255]))
    assert shares(mask) == [255, 0, 0, 0, 0, 0, 0, 0]
    assert shares(None, picture=mask) == [255, 0, 0, 0, 0, 0, 0, 0]


def test_a_mask_that_is_opaque_throughout_counts_as_one_without_transparency() -> None:
    mask = ramp([0, 0, 0, 0, 255, 255, 255, 255]).convert("RGBA")
    assert shares(mask) == [0, 0, 0, 0, 255, 255, 255, 255]


def test_the_masks_own_soft_edge_is_taken_where_it_is_asked_for() -> None:
    levels = [0, 3, 60, 127, 128, 200, 250, 255]
    assert shares(ramp(levels).convert("RGB"), "mask") == [0, 0, 60, 127, 128, 200, 250, 255]
    clear = Image.new("RGBA", (8, 4))
    clear.putalpha(ramp(levels))
    assert shares(clear, "mask") == [255, 252, 195, 128, 127, 55, 0, 0]


def test_a_feather_falls_evenly_outside_of_the_hole() -> None:
    picture = Image.new("RGB", (64, 64))
    found = np.asarray(shares_of(picture, holed(64, 64, (30, 30, 40, 40)), 8), dtype=int)
    assert (found[30:40, 30:40] == 255).all()
    row = found[35]
    assert (np.diff(row[20:31]) >= 0).all()
    assert (row[:21] == 0).all()
    assert 100 < row[26] < 155
    assert (row == row[::-1][np.arange(64) - 6]).sum() > 55  # to both sides alike


@pytest.mark.parametrize("feather", [-1, 513, 2.5, True, "soft", "1e3", [8]])
def test_a_feather_is_a_number_of_pixels_or_the_masks_own(feather: Any) -> None:
    with pytest.raises(InputError, match="feather is .*give from 0 to 512 pixels, or 'mask'"):
        checked_feather(feather)


def test_numbers_of_numpy_and_of_the_command_line_are_widths() -> None:
    assert [checked_feather(one) for one in (None, 0, "12", np.int64(7), "mask")] == [0, 0, 12, 7, "mask"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (Image.new("RGB", (8, 4), (90, 90, 90)), "white nowhere .its brightest level is 90"),
        (Image.new("RGBA", (8, 4), (0, 0, 0, 30)), "opaque everywhere.* .its least alpha is 30"),
        (Image.new("RGB", (4, 8)), "the mask has 4 x 8 pixels, the picture 8 x 4"),
    ],
)
def test_a_mask_that_leaves_all_as_it_is_is_refused_with_what_it_has(mask: Image.Image, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shares_of(PICTURE, mask)


def test_next_to_nothing_warns() -> None:
    small = shares_of(Image.new("RGB", (150, 100)), holed(150, 100, (0, 0, 1, 1)))
    with pytest.warns(UnclipWarning, match="leaves 99.99% of the picture as it is"):
        warn_of_next_to_nothing(small)
