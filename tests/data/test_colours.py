"""The colour of a picture is found as a person would say it, and said as the language says it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from unclip.data.captions import Described, caption
from unclip.data.colours import NONE, WORDS, coloured, colours
from unclip.data.corpus import Corpus
from unclip.data.prepare.run import build_folder


def drawn(*parts: tuple[str, float]) -> np.ndarray:
    """A picture of upright stripes: a colour, and how much of the width it has; the rest is white."""
    image, left = Image.new("RGB", (64, 64), "white"), 4.0
    for colour, share in parts:
        ImageDraw.Draw(image).rectangle((left, 8, left + 56 * share - 1, 56), fill=colour)
        left += 56 * share
    return np.asarray(image)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([("#dd2e44", 1)], "red"),
        ([("#dd2e44", 0.5), ("#202020", 0.3), ("#9aaab4", 0.2)], "red"),  # a car: wheels, windows
        ([("#ffcc4d", 1)], "yellow"),
        ([("#f4900c", 1)], "orange"),
        ([("#77b255", 0.8), ("#dd2e44", 0.1)], "green"),
        ([("#55acee", 1)], "blue"),
        ([("#aa8ed6", 1)], "purple"),
        ([("#f4abba", 1)], "pink"),
        ([("#8a4b2a", 1)], "brown"),
        ([("#000000", 1)], "black"),
        ([("#8a8a8a", 1)], "grey"),
        ([("#dd2e44", 0.5), ("#55acee", 0.5)], NONE),
        ([("#dd2e44", 0.25), ("#202020", 0.75)], NONE),
        ([("#dd2e44", 0.02)], NONE),  # hardly anything on the paper
        ([], NONE),
    ],
)
def test_the_colour_that_most_of_the_picture_has(parts: list[tuple[str, float]], expected: str) -> None:
    assert colours(drawn(*parts)[None]).tolist() == [expected]


def test_many_pictures_are_judged_one_by_one() -> None:
    red, blue = drawn(("#dd2e44", 1)), drawn(("#55acee", 1))
    assert colours(np.stack([red, blue] * 300)).tolist() == ["red", "blue"] * 300
    assert colours(np.zeros((0, 8, 8, 3), np.uint8)).tolist() == []


@pytest.mark.parametrize(
    ("name", "colour", "language", "expected"),
    [
        ("car", "red", "en", {"red car"}),
        ("자동차", "red", "ko", {"빨간 자동차", "빨간색 자동차"}),
        ("Auto", "red", "de", {"roter Auto", "rote Auto", "rotes Auto"}),
        ("ein Auto", "red", "de", {"ein roter Auto", "ein rotes Auto"}),
        ("eine Tasse", "blue", "de", {"eine blaue Tasse"}),
        ("Tasse", "pink", "de", {"rosa Tasse", "pink Tasse"}),
        ("green apple", "green", "en", {"green apple"}),
        ("flag of Japan", "red", "en", {"flag of Japan"}),
        ("woman dancing", "brown", "en", {"woman dancing"}),
        ("대한민국 국기", "blue", "ko", {"대한민국 국기"}),
        ("voiture", "red", "fr", {"voiture"}),
        ("car", NONE, "en", {"car"}),
    ],
)
def test_a_name_with_its_colour(name: str, colour: str, language: str, expected: set[str]) -> None:
    random = Random(0)
    assert {coloured(name, colour, language, random) for _ in range(60)} == expected


def test_every_colour_has_words_in_the_three_languages() -> None:
    assert all(set(words) == {"en", "ko", "de"} for words in WORDS.values())


def test_captions_with_a_colour_have_its_article_and_style() -> None:
    record, random = Described({"en": ["apple"]}, "flat"), Random(3)
    found = {caption(record, random, {"en": 1.0}, "orange") for _ in range(400)}
    assert {
        "orange apple",
        "an orange apple",
        "orange apple, flat",
        "a flat drawing of an orange apple",
    } <= found
    assert not any("orange" in caption(record, random, {"en": 1.0}) for _ in range(100))


def test_a_corpus_says_colours_in_the_share_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(drawn(("#dd2e44", 1))).resize((256, 256)).save(tmp_path / "pictures" / "car.png")
    (tmp_path / "pictures" / "car.txt").write_text("car")
    for _ in build_folder(tmp_path / "pictures", tmp_path / "corpus", large=0):
        pass
    corpus = Corpus(tmp_path / "corpus", "all")
    assert corpus.colours.tolist() == ["red"]

    def share(colours: float) -> float:
        random = Random(1)
        return sum("red" in corpus.caption(0, random, {"en": 1.0}, colours) for _ in range(500)) / 500

    assert share(0.0) == 0
    assert 0.2 < share(0.3) < 0.4
    assert share(1.0) > 0.9
