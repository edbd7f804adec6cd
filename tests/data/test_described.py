"""Promises of what is said of a picture by its file's name, where nothing else says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip.data.described import Defaults, said_by_name
from unclip.data.folder import read_folder
from unclip.data.records import LeftOut


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("our-dog.png", "our dog"),
        ("our_dog 2.png", "our dog"),
        ("beach (3).jpg", "beach"),
        ("Unser Garten.jpeg", "Unser Garten"),
        ("우리집.png", "우리집"),
        ("10_sks cup/003.png", "sks cup"),
        ("10_sks cup/img_003.png", "sks cup"),
        ("holiday/beach.png", "beach"),
        ("IMG_2041.jpg", ""),
        ("DSC00012.JPG", ""),
        ("PXL_20260101_120000.jpg", ""),
        ("a8f5f167f44f4964e6c998dee827110c.png", ""),
        ("2026-11-30 12.00.01.png", ""),
        ("photo.png", ""),
    ],
)
def test_a_files_name_says_something_or_nothing(name: str, expected: str) -> None:
    assert said_by_name(name) == expected


def test_names_are_captions_only_where_there_is_none_and_it_is_asked_for(tmp_path: Path) -> None:
    for number, name in enumerate(("our-dog", "beach", "IMG_2041")):
        Image.new("RGB", (64, 64), (number * 50, 0, 0)).save(tmp_path / f"{name}.png")
    (tmp_path / "beach.txt").write_text("the sea, with a boat")

    def captions(**said: Any) -> dict[str, object]:
        left: list[LeftOut] = []
        found = {one.key: one.captions for one in read_folder(tmp_path, Defaults(**said), left)}
        assert len(found) + len(left) == 3
        return found

    beach = {"beach.png": {"en": ["the sea, with a boat"]}}
    assert captions() == beach
    assert captions(names_say=True) == {**beach, "our-dog.png": {"en": ["our dog"]}}
    garden = {"en": ["my garden"]}
    assert captions(caption="my garden") == {**beach, "our-dog.png": garden, "IMG_2041.png": garden}
