"""Promises of files that hold several frames."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from unclip.drawing import Picture
from unclip.errors import InputError
from unclip.images import read_metadata
from unclip.manipulate.frames import Strip, StripKind

PICTURES = [
    Picture(Image.new("RGB", (16, 16), colour), "", 1, index, None, "tiny", "0", {"operation": "blend"})
    for index, colour in enumerate(("red", "green", "blue"))
]


@pytest.mark.parametrize("kind", [StripKind.GIF, StripKind.WEBP])
def test_a_moving_picture_has_every_frame_and_says_what_it_is(tmp_path: Path, kind: StripKind) -> None:
    path = tmp_path / f"way.{kind}"
    Strip(kind, path).write(PICTURES)
    with Image.open(path) as image:
        assert (getattr(image, "n_frames", 1), image.info["loop"]) == (3, 0)
        found = json.loads(image.info["comment"]) if kind is StripKind.GIF else read_metadata(path)
        assert found["operation"] == "blend"
        for picture in PICTURES:
            image.seek(picture.index)
            near = zip(image.convert("RGB").getpixel((8, 8)), picture.image.getpixel((8, 8)), strict=True)
            assert all(abs(a - b) <= 8 for a, b in near)


def test_a_sheet_shows_all_frames(tmp_path: Path) -> None:
    Strip(StripKind.SHEET, tmp_path / "way.png").write(PICTURES, metadata=False)
    with Image.open(tmp_path / "way.png") as image:
        assert image.width > 3 * 16
        assert image.height < 2 * 24 < image.width
    assert read_metadata(tmp_path / "way.png") == {}


@pytest.mark.parametrize(
    ("kind", "name"), [(StripKind.GIF, "a.png"), (StripKind.WEBP, "a.gif"), (StripKind.SHEET, "a.gif")]
)
def test_a_name_of_another_format_is_refused(kind: StripKind, name: str) -> None:
    with pytest.raises(InputError):
        Strip(kind, Path(name))
