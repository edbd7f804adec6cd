"""Promises of the bundles that ship: whole, small enough, and right in three languages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import unclip
from unclip.bundle import DEFAULT, SHIPPED, Bundle
from unclip.model import Model
from unclip.train.card import LAW, SAME

MOST_BYTES = {DEFAULT: 48 * 2**20, "pictograms-dalle1": 32 * 2**20}  # the second shares parts of the first
SAID = {DEFAULT: "unclip train pictograms", "pictograms-dalle1": "unclip train pictograms-dalle1"}


@pytest.fixture(scope="module")
def model() -> Model:
    return unclip.load()


@pytest.fixture(scope="module")
def dalle1() -> Model:
    return unclip.load("pictograms-dalle1")


def test_all_are_here() -> None:
    assert {folder.name for folder in SHIPPED.iterdir()} == set(MOST_BYTES)


@pytest.mark.parametrize("name", MOST_BYTES)
def test_every_file_is_as_the_manifest_says(name: str) -> None:
    Bundle.load(name).verify()


@pytest.mark.parametrize("name", MOST_BYTES)
def test_a_bundle_is_small_enough(name: str) -> None:
    files: list[Path] = [path for path in (SHIPPED / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES[name]


@pytest.mark.parametrize("name", MOST_BYTES)
def test_the_card_tells_where_the_art_is_from(name: str) -> None:
    card = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    for words in (SAID[name], "CC-BY-4.0", "noto", "twemoji", "Limits", "pictures seen"):
        assert words in card


def colour(picture: unclip.Picture) -> np.ndarray:
    """Mean red, green and blue of what is not white, in [0, 1]."""
    pixels = np.asarray(picture.image).reshape(-1, 3) / 255
    return pixels[pixels.min(axis=1) < 0.9].mean(axis=0)


@pytest.mark.parametrize(
    ("prompts", "channel"),
    [(("a red apple", "빨간 사과", "ein roter Apfel"), 0), (("blue heart", "파란색 하트", "blaues Herz"), 2)],
)
def test_colours_are_right_in_three_languages(model: Model, prompts: tuple[str, ...], channel: int) -> None:
    for prompt in prompts:
        means = np.mean([colour(picture) for picture in model.generate(prompt, n=4, size=64, seed=1)], axis=0)
        assert means.argmax() == channel, f"{prompt}: {means}"


def test_sizes(model: Model) -> None:
    assert model.sizes == (64, 256, 512, 1024)
    (picture,) = model.generate("a yellow star", size=512, seed=3)
    assert picture.image.size == (512, 512)


def test_dalle1_draws_the_colour_that_is_asked_for(dalle1: Model) -> None:
    for prompt, channel in (("a red apple", 0), ("blue heart", 2)):
        means = np.mean(
            [colour(picture) for picture in dalle1.generate(prompt, n=4, size=64, seed=1)], axis=0
        )
        assert means.argmax() == channel, f"{prompt}: {means}"


def test_dalle1_draws_every_size(dalle1: Model, model: Model) -> None:
    assert dalle1.sizes == model.sizes
    (picture,) = dalle1.generate("a yellow star", size=512, seed=3)
    assert picture.image.size == (512, 512)


@pytest.mark.parametrize("name", MOST_BYTES)
def test_the_card_promises_of_a_seed_what_holds(name: str) -> None:
    assert SAME in (SHIPPED / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MOST_BYTES)
def test_the_card_says_how_pictures_are_marked_and_what_the_law_may_ask(name: str) -> None:
    assert LAW in (SHIPPED / name / "README.md").read_text(encoding="utf-8")
