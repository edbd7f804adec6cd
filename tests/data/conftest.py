"""The small packages and the corpus that is built of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.packages import write_archives
from unclip.data.emojibase import EmojiNames
from unclip.data.pictograms import build_pictograms
from unclip.data.sources import load_names


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
