"""Promises of the bundle that ships: whole, small enough, and right in three languages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unclip
from unclip.bundle import DEFAULT, SHIPPED, Bundle
from unclip.families.unclip import UnCLIP

MOST_BYTES = 48 * 2**20


@pytest.fixture(scope="module")
def model() -> UnCLIP:
    return unclip.load()


def test_every_file_is_as_the_manifest_says() -> None:
    Bundle.load().verify()


def test_the_bundle_is_small_enough() -> None:
    files: list[Path] = [path for path in (SHIPPED / DEFAULT).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_the_card_tells_where_the_art_is_from() -> None:
    card = (SHIPPED / DEFAULT / "README.md").read_text(encoding="utf-8")
    for words in ("unclip train pictograms", "CC-BY-4.0", "noto", "twemoji", "Limits", "pictures seen"):
        assert words in card


def colour(picture: unclip.Picture) -> np.ndarray:
    """Mean red, green and blue of what is not white, in [0, 1]."""
    pixels = np.asarray(picture.image).reshape(-1, 3) / 255
    return pixels[pixels.min(axis=1) < 0.9].mean(axis=0)


@pytest.mark.parametrize(
    ("prompts", "channel"),
    [(("a red apple", "빨간 사과", "ein roter Apfel"), 0), (("blue heart", "파란색 하트", "blaues Herz"), 2)],
)
def test_colours_are_right_in_three_languages(model: UnCLIP, prompts: tuple[str, ...], channel: int) -> None:
    for prompt in prompts:
        means = np.mean([colour(picture) for picture in model.generate(prompt, n=4, size=64, seed=1)], axis=0)
        assert means.argmax() == channel, f"{prompt}: {means}"


def test_sizes(model: UnCLIP) -> None:
    assert model.sizes == (64, 256, 512, 1024)
    (picture,) = model.generate("a yellow star", size=512, seed=3)
    assert picture.image.size == (512, 512)
