"""Promises of styles in prompts: all templates are recognised, ordinary prompts are not."""

from __future__ import annotations

import pytest

from unclip.data.captions import fill
from unclip.data.prompts import in_style, language_of, names_style
from unclip.data.styles import STYLE_PHRASES

NAMES = {"en": "red apple", "ko": "빨간 사과", "de": "roter Apfel"}


@pytest.mark.parametrize("style", STYLE_PHRASES)
def test_every_template_of_a_style_is_recognised(style: str) -> None:
    for language, templates in STYLE_PHRASES[style].items():
        for template in templates:
            assert names_style(fill(template, NAMES[language], language)), template
            assert names_style(f"{fill(template, NAMES[language], language).upper()} ."), template


@pytest.mark.parametrize(
    "prompt",
    [
        *("a banana", "a flat tyre", "a photo album", "a black cat", "a blue ground", "a symbol"),
        *("a gradient", "바나나", "사진기", "ein schwarzer Hund", "une banane", "バナナ", "an old computer"),
    ],
)
def test_an_ordinary_prompt_names_no_style(prompt: str) -> None:
    assert not names_style(prompt)


def test_a_bundle_s_own_style_is_recognised_where_it_is_said_apart() -> None:
    assert names_style("a cat, Mosaic", ("mosaic",))
    assert not names_style("a mosaic floor", ("mosaic",))


@pytest.mark.parametrize(
    ("prompt", "style", "text"),
    [
        ("a banana", "flat", "a banana, flat"),
        ("a banana.", "noto", "a banana, Noto emoji"),
        ("바나나", "flat", "바나나, 플랫"),
        ("eine Banane", "3d", "eine Banane, 3D"),
        ("une banane", "flat", "une banane, flat"),
        ("a banana", "photo", "a banana, photograph"),
        ("a banana", "mosaic", "a banana, mosaic"),
    ],
)
def test_a_style_is_said_in_the_language_of_the_prompt(prompt: str, style: str, text: str) -> None:
    assert in_style(prompt, style) == text
    assert names_style(text, (style,))


def test_languages_are_told_apart() -> None:
    told = {text: language_of(text) for text in ("a die", "die Katze", "zwei Hunde", "Löwe", "개", "le chat")}
    assert list(told.values()) == ["en", "de", "de", "de", "ko", "en"]
