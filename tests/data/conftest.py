"""The small packages and the corpus that is built of them, and a folder of captioned pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.packages import ellipse, svg, write_archives
from unclip.data.emojibase import EmojiNames
from unclip.data.pictograms import build_pictograms
from unclip.data.sources import load_names

COLOURS = {"red": (200, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 200)}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small packages. Do not change it."""
    folder = tmp_path_factory.mktemp("archives")
    write_archives(folder)
    return folder


@pytest.fixture(scope="session")
def built(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of these packages. Do not change it."""
    out = tmp_path_factory.mktemp("corpus") / "built"
    for _ in build_pictograms(out, archives=archives, size=64, large=2):
        pass
    return out


@pytest.fixture(scope="session")
def names(archives: Path) -> EmojiNames:
    """The names that the small packages know."""
    return load_names(archives)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pictures with a text beside each."""
    folder = tmp_path / "pairs"
    (folder / "deep").mkdir(parents=True)
    for name, colour in COLOURS.items():
        (folder / "deep" / f"{name}.png").write_bytes(ellipse(colour))
        (folder / "deep" / f"{name}.txt").write_text(
            f"a {name} ball\n\na ball that is {name}\n", encoding="utf-8"
        )
    (folder / "no-text.png").write_bytes(ellipse((9, 9, 9)))
    (folder / "drawn.svg").write_text(svg())
    (folder / "drawn.txt").write_text("﻿a drawing\n", encoding="utf-8")
    (folder / "notes.md").write_text("not a picture")
    return folder
