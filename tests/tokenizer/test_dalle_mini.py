"""Promises of DALL-E mini's tokenizer: min-dalle's tokens, an end that no cut takes away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reference import min_dalle as reference
from unclip.errors import InputError
from unclip.tokenizer import DalleMiniTokenizer

TEXTS = [
    "a red apple",
    "  Red   APPLE, blue? ",
    "",
    "naïve 사과 red",
    "apple\tred\napple",
    "<s> red </s>",
    "red apple " * 40,
    "🍎 apple",
    "👨‍👩‍👧 ❤️ red",
]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> DalleMiniTokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    reference.save_vocabulary(folder)
    return DalleMiniTokenizer.load(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_become_min_dalles_tokens(ours: DalleMiniTokenizer, text: str) -> None:
    theirs = reference.text_tokenizer.TextTokenizer(reference.vocabulary(), reference.MERGES)
    assert [0, *ours.encode(text), 2] == theirs.tokenize(text)


def test_a_long_prompt_keeps_its_end_token_and_says_what_is_left_out(ours: DalleMiniTokenizer) -> None:
    """min-dalle cuts the end token off and has the last word in its null prompt; dalle-mini does not."""
    tokens = ours.batch(["red apple " * 40], 64)
    assert tokens.ids.shape == (1, 64)
    assert tokens.ids[0, -1] == ours.end
    assert tokens.truncated[0] is not None
    assert tokens.truncated[0].endswith("red apple")


def test_a_tokenizer_survives_being_saved(ours: DalleMiniTokenizer, tmp_path: Path) -> None:
    ours.save(tmp_path / "tokenizer.json")
    again = DalleMiniTokenizer.load(tmp_path / "tokenizer.json")
    assert again.encode("a red apple, blue <s>") == ours.encode("a red apple, blue <s>")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(InputError, match="token <s> has id 1 and must have 0"):
        DalleMiniTokenizer.load(tmp_path)
    with pytest.raises(InputError, match="not a vocabulary and its merges"):
        DalleMiniTokenizer.load(tmp_path / "..")


def test_ids_that_no_text_has_are_not_counted(tmp_path: Path) -> None:
    """BART's "<mask>" is the last of its vocabulary, and DALL-E mini has no row for it."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "\u0120", "r", "e", "re", "<mask>"]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nr e\n")
    tokenizer = DalleMiniTokenizer.load(tmp_path)
    assert tokenizer.vocabulary == words.index("<mask>")
    assert max(tokenizer.encode("re <mask> er")) < tokenizer.vocabulary
