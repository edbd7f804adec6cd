"""The promise that captions vary, sound natural, and come in the languages asked for."""

from __future__ import annotations

import unicodedata
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.data.captions import Described, caption, check_languages, fill, names, with_article
from unclip.data.sources import SOURCES
from unclip.data.styles import STYLE_PHRASES, phrases
from unclip.errors import InputError

APPLE = {
    "en": ["red apple", "fruit", "red", "ripe"],
    "ko": ["빨간 사과", "과일"],
    "de": ["roter Apfel", "frucht", "Roter Apfel"],
    "fr": ["pomme rouge"],
    "ja": ["赤リンゴ"],
}


def many(record: Described, count: int = 2000, **options: object) -> list[str]:
    random = Random(7)
    return [caption(record, random, **options) for _ in range(count)]


@pytest.mark.parametrize(
    ("label", "language", "expected"),
    [
        ("red apple", "en", ["red apple"]),
        ("flag: Japan", "en", ["flag of Japan", "Japan flag", "flag: Japan"]),
        (
            "flag: United States",
            "en",
            ["flag of the United States", "United States flag", "flag: United States"],
        ),
        ("Flagge: Japan", "de", ["Flagge von Japan", "Flagge: Japan"]),
        ("Flagge: Schweiz", "de", ["Flagge der Schweiz", "Flagge: Schweiz"]),
        ("Flagge: Kaimaninseln", "de", ["Flagge der Kaimaninseln", "Flagge: Kaimaninseln"]),
        ("깃발: 일본", "ko", ["일본 국기", "일본 깃발"]),
        ("keycap: 1", "en", ["keycap 1", "number 1 key"]),
        (
            "handshake: light skin tone",
            "en",
            ["handshake with light skin tone", "light-skinned handshake", "handshake: light skin tone"],
        ),
        (
            "man: medium skin tone, red hair",
            "en",
            ["man with medium skin tone and red hair", "man: medium skin tone, red hair"],
        ),
        (
            "woman running: facing right, dark skin tone",
            "en",
            [
                "woman running facing right with dark skin tone",
                "dark-skinned woman running facing right",
                "woman running: facing right, dark skin tone",
            ],
        ),
        ("family: man, woman, girl", "en", ["family with man, woman and girl", "family: man, woman, girl"]),
        ("kiss: woman, man", "en", ["kiss, woman and man", "kiss: woman, man"]),
        (
            "Handschlag: helle Hautfarbe",
            "de",
            ["Handschlag mit heller Hautfarbe", "Handschlag: helle Hautfarbe"],
        ),
        (
            "Mann: mittlere Hautfarbe, rotes Haar",
            "de",
            ["Mann mit mittlerer Hautfarbe und rotem Haar", "Mann: mittlere Hautfarbe, rotes Haar"],
        ),
        (
            "Familie: Mann, Frau und Mädchen",
            "de",
            ["Familie mit Mann, Frau und Mädchen", "Familie: Mann, Frau und Mädchen"],
        ),
        ("Astronaut(in)", "de", ["Astronaut", "Astronautin", "Astronaut(in)"]),
        ("악수: 하얀 피부", "ko", ["하얀 피부 악수", "악수, 하얀 피부"]),
        ("drapeau : Suisse", "fr", ["drapeau, Suisse"]),
    ],
)
def test_names_are_said_as_people_say_them(label: str, language: str, expected: list[str]) -> None:
    assert names({language: [label]}, language) == expected


def test_a_language_that_is_not_there_has_no_names() -> None:
    assert names(APPLE, "sw") == []


def test_the_phrase_with_its_article_is_a_name_and_no_tag() -> None:
    captions = {"de": ["Erdbeere", "eine Erdbeere", "Obst"]}
    assert names(captions, "de") == ["Erdbeere", "eine Erdbeere"]
    assert Described(captions).options("de")[1] == ["Obst"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apple", "an apple"),
        ("red apple", "a red apple"),
        ("hourglass", "an hourglass"),
        ("unicorn", "a unicorn"),
        ("UFO", "UFO"),
        ("scissors", "scissors"),
        ("glass", "a glass"),
        ("octopus", "an octopus"),
        ("flag of Japan", "flag of Japan"),
        ("two o’clock", "two o’clock"),
        ("a strawberry", "a strawberry"),
        ("men with bunny ears", "men with bunny ears"),
    ],
)
def test_english_articles(name: str, expected: str) -> None:
    assert with_article(name) == expected


def test_languages_come_as_often_as_asked() -> None:
    own = {language: {text.casefold() for text in texts} for language, texts in APPLE.items()}
    found: Counter[str] = Counter()
    for text in many(Described(APPLE)):
        text = text.casefold()
        found[next((language for language in own if any(name in text for name in own[language])), "?")] += 1
    assert found["en"] + found["ko"] + found["de"] + found["fr"] + found["ja"] == 2000
    assert abs(found["en"] / 2000 - 0.55) < 0.04
    assert abs(found["ko"] / 2000 - 0.20) < 0.04
    assert abs(found["de"] / 2000 - 0.20) < 0.04
    assert 0.02 < (found["fr"] + found["ja"]) / 2000 < 0.09


def test_only_the_languages_asked_for_come() -> None:
    texts = many(Described(APPLE, "3d"), 300, languages={"ko": 1.0})
    assert all(any("HANGUL" in unicodedata.name(letter, "") for letter in text) for text in texts)


def test_a_record_without_the_languages_asked_for_falls_back() -> None:
    assert caption(Described({"en": ["sea"]}), Random(0), {"ko": 1.0}) in ("sea", "a sea")
    assert caption(Described({"fr": ["mer"]}), Random(0), {"ko": 1.0}) == "mer"


def test_captions_vary_by_name_tag_article_and_style() -> None:
    texts = Counter(many(Described(APPLE, "3d"), languages={"en": 1.0}))
    assert len(texts) > 50
    for expected in ("red apple", "a red apple", "3D render of a red apple", "red apple, 3D", "fruit"):
        assert texts[expected]
    assert texts["red apple"] / 2000 > 0.2
    assert any(text.startswith("red apple, ") and "ripe" in text for text in texts)
    assert not any("{" in text for text in texts)


def test_a_picture_without_style_gets_no_style_phrase() -> None:
    for text in many(Described(APPLE), 500, languages={"en": 1.0}):
        assert set(text.replace(",", "").split()) <= {"a", "red", "apple", "fruit", "ripe"}


def test_a_style_of_ones_own_is_said_by_its_name() -> None:
    assert phrases("my {odd} style", "en") == ("{n}, my (odd) style",)
    assert "red apple, watercolour" in many(Described(APPLE, "watercolour"), 300, languages={"en": 1.0})


def test_the_sources_own_names_are_used_too() -> None:
    texts = many(Described(APPLE, names=("pippin",)), languages={"en": 1.0})
    assert 0.1 < sum("pippin" in text for text in texts) / 2000 < 0.3
    german = many(Described({"de": ["roter Apfel"]}, names=("Boskoop",)), 300, languages={"de": 1.0})
    assert "Boskoop" in german  # a folder with several captions a picture, in another language than English


@given(st.integers())
def test_the_same_seed_gives_the_same_caption(seed: int) -> None:
    assert caption(Described(APPLE, "flat"), Random(seed)) == caption(Described(APPLE, "flat"), Random(seed))


def test_every_style_of_the_corpus_is_said_in_three_languages() -> None:
    styles = {source.style for source in SOURCES}
    assert styles <= set(STYLE_PHRASES)
    for style, languages in STYLE_PHRASES.items():
        for language in ("en", "ko", "de"):
            said = {fill(phrase, "red apple", language) for phrase in languages[language]}
            assert len(said) == len(languages[language]) >= 2, (style, language)
            assert all("red apple" in text for text in said)


@pytest.mark.parametrize("shares", [{}, {"en": -1.0}, {"en": 0.0}])
def test_shares_that_mean_nothing_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(InputError, match="language shares"):
        check_languages(shares)


def test_tags_are_names_where_asked() -> None:
    """What people call a thing often stands only there, and is then said with style and colour too."""
    car = {"en": ["automobile", "car", "vehicle"], "de": ["Auto", "fahrzeug"]}
    record = Described(car, "watercolour")
    said = many(record, 2000, languages={"en": 1.0}, tags_as_names=0.5, colour="red")
    assert {"red car", "a red car", "red car, watercolour", "red vehicle, watercolour"} <= set(said)
    plain = many(record, 2000, languages={"en": 1.0}, colour="red")
    assert not any("red car" in caption for caption in plain)
    assert "fahrzeug, watercolour" in many(record, 500, languages={"de": 1.0}, tags_as_names=1.0)
    assert set(many(Described({"en": ["kite"]}), 50, tags_as_names=1.0)) <= {"kite", "a kite"}


def test_a_temperature_gives_rare_languages_more() -> None:
    record = Described({"en": ["a"], "ko": ["b"], "fr": ["c"], "es": ["d"]})
    shares = {"en": 0.90, "ko": 0.08, "other": 0.02}

    def counts(temperature: float) -> dict[str, int]:
        said = [caption(record, Random(k), shares, temperature=temperature) for k in range(2000)]
        return {text: said.count(text) for text in "abcd"}

    plain, warm = counts(1.0), counts(2.0)
    assert plain["c"] + plain["d"] < 80
    roots = [share**0.5 for share in (0.90, 0.08, 0.01, 0.01)]
    for text, root in zip("abcd", roots, strict=True):
        assert warm[text] / 2000 == pytest.approx(root / sum(roots), abs=0.04)
