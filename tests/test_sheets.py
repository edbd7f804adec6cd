"""The promises on sheets and terminals: every picture is shown, letters are those that a font has."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from unclip import sheets


def test_a_contact_sheet_holds_every_picture() -> None:
    pictures = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    sheet = sheets.contact_sheet(pictures, columns=2, gap=4)
    assert sheet.size == (2 * 24 + 4, 2 * 24 + 4)
    assert [sheet.getpixel(place) for place in ((14, 14), (38, 14), (14, 38), (38, 38))] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    ]
    captioned = sheets.contact_sheet(pictures, 3, ["a red apple", "빨간 사과", "x" * 100])
    assert captioned.height > 36
    for wrong in ([], ["a", "b"]):
        with pytest.raises(ValueError, match="captions"):
            sheets.contact_sheet(pictures, 2, wrong)
    with pytest.raises(ValueError, match="needs pictures"):
        sheets.contact_sheet([], 2)


def test_letters_that_no_font_has_are_left_out() -> None:
    font, text = sheets._drawable("apple \U0010fffe", 12)
    assert text == "apple"
    assert font.getlength(text) > 0


def test_half_blocks_show_two_pixels_a_letter() -> None:
    image = Image.new("RGB", (2, 2), (1, 2, 3))
    image.putpixel((0, 1), (4, 5, 6))
    lines = sheets.half_blocks(image, 2).split("\n")
    assert lines == ["\x1b[38;2;1;2;3;48;2;4;5;6m▀\x1b[38;2;1;2;3;48;2;1;2;3m▀\x1b[0m"]
    wide = sheets.half_blocks(Image.linear_gradient("L").resize((64, 32)), 40).split("\n")
    assert len(wide) == 10
    assert {len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in wide} == {40}
    with pytest.raises(ValueError, match="at least one column"):
        sheets.half_blocks(image, 0)
