"""The promise that an emoji is found by code point or name, and that its variants share a concept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.data.emojibase import TONES, EmojiNames, code_key, concept_of
from unclip.data.wording import plain_words, slug, split_words


@pytest.mark.parametrize(
    ("code", "concept"),
    [
        ("1f34e", "u1f34e"),
        ("0031-FE0F-20E3", "u31-20e3"),
        ("1F44D-1F3FD", "u1f44d"),
        ("1F468-200D-1F680", "u1f9d1-200d-1f680"),  # man, woman and person astronaut
        ("1F469-1F3FF-200D-1F680", "u1f9d1-200d-1f680"),
        ("1F3C3-200D-2640-FE0F", "u1f3c3"),  # woman running
        ("1F3C3-200D-2640-FE0F-200D-27A1-FE0F", "u1f3c3-200d-27a1"),  # facing right is another picture
        ("1F468-200D-1F469-200D-1F467", "u1f9d1-200d-1f9d1-200d-1f9d2"),
        ("1F469-200D-2764-FE0F-200D-1F48B-200D-1F468", "u1f48f"),
        ("1F468-200D-2764-FE0F-200D-1F468", "u1f491"),
        ("1FAF1-1F3FB-200D-1FAF2-1F3FF", "u1f91d"),  # a handshake in two tones
        ("1F46C-1F3FB", "u1f9d1-200d-1f91d-200d-1f9d1"),
        ("1F934", "u1fac5"),
        ("2640-FE0F", "u2640"),  # the sign itself
        ("1F3FB", "u1f3fb"),
    ],
)
def test_variants_share_a_concept(code: str, concept: str) -> None:
    assert concept_of(code_key(code)) == concept


@given(
    st.lists(st.sampled_from([0x1F468, 0x1F469, 0x1F9D1, 0x1F680, 0x1F34E, 0x2764]), min_size=1, max_size=3),
    st.sampled_from([*TONES, None]),
    st.sampled_from([0x2640, 0x2642, None]),
)
def test_tone_and_gender_never_change_the_concept(
    points: list[int], tone: int | None, sign: int | None
) -> None:
    plain = "-200d-".join(f"{point:x}" for point in points)
    toned = "-200d-".join(f"{point:x}" + (f"-{tone:x}" if tone else "") for point in points)
    varied = toned + (f"-200d-{sign:x}-fe0f" if sign else "")
    assert concept_of(code_key(varied)) == concept_of(code_key(plain))


@pytest.mark.parametrize(
    "name",
    ["rocket", "Rocket", "spaceship", "apple-old-is-none"],
)
def test_names_of_several_tables_lead_to_the_emoji(names: EmojiNames, name: str) -> None:
    found = names.find_name(name)
    assert (found is None) == (name == "apple-old-is-none")
    if found:
        assert found.key == (0x1F680,)


def test_aliases_of_icon_sets_are_names_too(names: EmojiNames) -> None:
    found = names.find_name("apple-old")
    assert found is not None
    assert found.captions["ko"][0] == "빨간 사과"


@pytest.mark.parametrize("ending", ["-dark-skin-tone", "-dark", "-tone5"])
def test_tones_at_the_end_of_a_name_are_understood(names: EmojiNames, ending: str) -> None:
    found = names.find_name(f"woman-astronaut{ending}")
    assert found is not None
    assert found.tone == 5
    assert found.captions["de"][0] == "Astronautin: dunkle Hautfarbe"
    assert found.captions["ko"][0] == "여자 우주비행사: 검은색 피부"
    assert names.find_name(f"rocket{ending}") is None


def test_codes_are_found_with_and_without_variation_selectors(names: EmojiNames) -> None:
    assert names.find_code("1f34e-fe0f") is names.find_code("1F34E")
    assert names.find_code("1f600") is None


def test_a_short_code_that_a_name_happens_to_be_is_no_name(names: EmojiNames) -> None:
    assert names.find_name("go") is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alarm-clock-02", "alarm clock"),
        ("MarchingBand", "marching band"),
        ("abstract", ""),
        ("7", "7"),
        ("a__b", "a b"),
    ],
)
def test_numbering_is_no_part_of_a_name(name: str, expected: str) -> None:
    assert plain_words(name) == expected


def test_names_without_spaces_are_taken_apart() -> None:
    vocabulary = frozenset({"aerial", "tram", "way", "tramway", "a", "e"})
    assert split_words("aerialtramway", vocabulary) == "aerial tramway"
    assert split_words("aerialqq", vocabulary) == "aerialqq"


@given(st.text(max_size=40))
def test_a_slug_is_stable(text: str) -> None:
    assert slug(slug(text)) == slug(text)
    assert " " not in slug(text)
