"""Promises of tools/teacher_words.py: a word is embedded once, a held-out name never."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgpack
import numpy as np
import pytest

from support.styled_corpus import drawings
from unclip.data import splits
from unclip.data.build import Input, build
from unclip.train.teacher import TEACHER_FILE, Said, Words

TOOLS = Path(__file__).parent.parent / "tools"
NOUNS = """\
  1 This is a licence
00000001 13 n 01 banana 0 000 | a fruit
00000002 06 n 01 tool_box 0 000 | a box
00000003 18 n 01 einstein 0 001 @i 00000009 n 0000 | a physicist
00000004 09 n 01 idea 0 000 | a thought
00000005 06 n 01 zzyzx 0 000 | nobody says it
"""
INDEX = """\
  1 This is a licence
banana n 1 0 1 0 00000001
einstein n 1 0 1 0 00000003
idea n 1 0 1 0 00000004
tool_box n 1 0 1 0 00000002
zzyzx n 1 0 1 0 00000005
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("teacher_words")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    dictionary, data = tmp_path / "package/dict", tmp_path / "wordfreq/data"
    dictionary.mkdir(parents=True)
    data.mkdir(parents=True)
    (dictionary / "data.noun").write_text(NOUNS)
    (dictionary / "index.noun").write_text(INDEX)
    for name, frequent in {
        "large_en": ["banana", "einstein", "idea", "tool", "box"],
        "small_fr": ["banane", "de", "x"],
    }.items():
        packed = msgpack.dumps([{"format": "cB"}, *[[]] * 400, frequent])
        (data / f"{name}.msgpack.gz").write_bytes(gzip.compress(packed))
    return tmp_path


class Telling:
    """A teacher that knows a word by its first letter, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return np.eye(128, dtype=np.float32)[[ord(text[0]) % 128 for text in texts]]


def test_things_are_nouns_that_are_used_and_no_names(script: ModuleType, packages: Path) -> None:
    assert list(script.things(packages)) == ["banana", "tool box"]


def test_the_nearest_are_those_of_the_highest_cosine_to_any_in_their_own_order(script: ModuleType) -> None:
    words = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]])
    assert script.nearest(words, np.array([[0.0, 1.0]]), 2).tolist() == [1, 3]


def test_what_is_embedded_is_not_embedded_again_and_two_languages_share_a_word(
    script: ModuleType, tmp_path: Path
) -> None:
    teacher, path = Telling(), tmp_path / "words.parquet"
    script.embed(path, [Said("en", "taxi"), Said("de", "Taxi")], teacher)
    found = script.embed(path, [Said("en", "taxi"), Said("fr", "taxi"), Said("fr", "a" * 61)], teacher)
    assert teacher.asked == ["taxi", "Taxi"]
    assert found.said == [Said("en", "taxi"), Said("de", "Taxi"), Said("fr", "taxi")]
    assert np.array_equal(found.vectors[2], found.vectors[0])


def test_a_corpus_gets_its_names_and_further_words_but_no_held_out_names(
    script: ModuleType, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "is_unseen_concept", lambda concept: concept.startswith("green"))
    monkeypatch.setattr(script, "LEAST_NAMED", 1)
    monkeypatch.setattr(script, "NEAREST", 1)

    def said() -> list:
        found = []
        for drawing in drawings("seen", {"thin": 3, "fat": 14}):
            (name,) = drawing.captions["en"]
            captions = {"en": [name, "shape"], "fr": [f"{name} (fr)"]}
            found.append(type(drawing)(**{**vars(drawing), "captions": captions}))
        return found

    corpus = tmp_path / "corpus"
    for _ in build(corpus, [Input("seen", said)], size=32, fingerprint="", title="Shapes"):
        pass
    teacher = Telling()
    script.main(corpus, packages, teacher)
    words = Words.load(corpus / TEACHER_FILE)
    english = [one.text for one in words.said if one.language == "en"]
    assert {"red circle", "blue square", "banana", "tool box", "shape"} <= set(english)
    assert not any("green" in one.text for one in words.said)
    meaning = dict(zip(words.said, words.meanings, strict=True))
    assert meaning[Said("fr", "red circle (fr)")] == meaning[Said("en", "red circle")] == "red circle"
    assert meaning[Said("en", "banana")] == meaning[Said("en", "shape")] == ""
    french = [one.text for one in words.said if one.language == "fr"]
    assert "banane" in french  # nearest to a thing
    assert "de" not in french
    before = len(teacher.asked)
    script.main(corpus, packages, teacher)
    assert len(teacher.asked) == before
    assert Words.load(corpus / TEACHER_FILE).said == words.said
