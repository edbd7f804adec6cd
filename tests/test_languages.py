"""Promises of languages: a prompt that a model does not read is noticed, and one that it reads is let be."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import unclip
from support.tiny_bundles import dalle_mini_parts, parts_of
from unclip.bundle import Bundle, save_bundle
from unclip.errors import BundleError, UnclipWarning
from unclip.languages import LANGUAGES, named, unread
from unclip.manifest import ENGLISH

SHIPPED = ("en", "ko", "de")
PROMPTS = Path(__file__).parent.parent / "benchmarks" / "prompts.txt"


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("красное яблоко", "Cyrillic letters"),
        ("赤いりんご", "Japanese letters"),
        ("红苹果", "Chinese letters"),
        ("تفاحة حمراء", "Arabic letters"),
        ("हरा सेब", "Devanagari letters"),
        ("une pomme rouge", "another language"),
        ("una manzana roja", "another language"),
        ("een rode appel", "another language"),
        ("jabłko", "another language"),
    ],
)
def test_prompts_in_other_languages_are_noticed(prompt: str, written: str) -> None:
    assert unread(prompt, SHIPPED) == written
    assert unread(prompt, ()) is None  # nothing is known of what is read
    assert unread(prompt, ("en", "tlh")) is None


@pytest.mark.parametrize(
    "prompt",
    [
        *(
            "a red apple",
            "빨간 사과",
            "ein roter Apfel",
            "🍎",
            "café au lait",
            "crème brûlée",
            "naïve art",
            "１２３",
        ),
        *(
            "the letter Ω on a red card",
            "Los Angeles",
            "film noir",
            "piñata",
            "Die Straße im Winter",
            "la la land",
        ),
        *("강아지 emoji", "a sign that says 안녕", "𝐁old apple", ""),
    ],
)
def test_prompts_that_are_read_are_let_be(prompt: str) -> None:
    assert unread(prompt, SHIPPED) is None


def test_no_prompt_of_the_contact_sheet_is_taken_for_another_language() -> None:
    assert [line for line in PROMPTS.read_text().splitlines() if unread(line, SHIPPED)] == []


def test_a_model_that_reads_english_alone_notices_korean_and_german() -> None:
    assert unread("빨간 사과", ("en",)) == "Hangul letters"
    assert unread("ein roter Apfel", ("en",)) == "another language"
    assert unread("一个红苹果", ("zh-Hant", "en")) is None


def test_every_language_has_a_name_and_a_script() -> None:
    assert all(name[0].isupper() and scripts for name, scripts in LANGUAGES.values())
    assert named(SHIPPED) == "English, Korean and German"
    assert named(("en",)) == "English"
    assert named(("en", "tlh")) == "English and tlh"


@pytest.fixture
def reading(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Bundle]:
    def save(*languages: str) -> Bundle:
        parts = parts_of(Bundle.load(tiny_bundle))
        return save_bundle(tmp_path / "reading", name="reading", parts=parts, card="#", languages=languages)

    return save


def test_a_bundle_names_its_languages(reading: Callable[..., Bundle], tiny_bundle: Path) -> None:
    assert reading("en", "ko").languages == ("en", "ko")
    assert Bundle.load(tiny_bundle).languages == ()
    assert Bundle.load().languages == SHIPPED
    assert "Reads English, Korean and German" in (Bundle.load().folder / "README.md").read_text()
    with pytest.raises(BundleError, match="languages: got 'English!', expected codes such as en"):
        reading("English!")


def test_bundles_with_published_tokenizers_read_english(tmp_path: Path) -> None:
    """Karlo and CLIP have CLIP's tokenizer, GLIDE and DALL-E mini their own."""
    assert set(ENGLISH) == {"clip-bpe", "glide-bpe", "dalle-mini-bpe"}
    parts = dalle_mini_parts(tmp_path)
    folder = save_bundle(tmp_path / "mini", name="mini", parts=parts, card="#", family="dalle-mini").folder
    assert Bundle.load(folder).languages == ("en",)
    manifest = json.loads((folder / "bundle.json").read_text())
    assert manifest.pop("languages") == ["en"]  # of an older bundle it is known all the same
    (folder / "bundle.json").write_text(json.dumps(manifest))
    assert Bundle.load(folder).languages == ("en",)


def test_a_prompt_in_another_language_warns_once(reading: Callable[..., Bundle]) -> None:
    model = unclip.load(reading("en").folder, device="cpu", precision="float32")
    with pytest.warns(
        UnclipWarning, match=r"'빨간 사과' is in Hangul letters, and reading reads English: .*--translate"
    ) as told:
        model.generate(["빨간 사과", "사과", "a red apple"], size=64)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(["사과", "a red apple"], size=64)
    with pytest.warns(UnclipWarning, match="Cyrillic letters"):
        model.generate("яблоко", size=64)
