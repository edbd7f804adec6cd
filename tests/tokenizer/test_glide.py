"""Promises of GLIDE's tokenizer: GPT-2's merges in lower case, no start, padding that is no token."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from reference.noised_clip import VOCABULARY, vocabulary
from unclip.errors import InputError
from unclip.tokenizer import GlideTokenizer
from unclip.tokenizer.clip import byte_alphabet

# GPT-2's words, in Python's own classes: letters, digits, the rest, spaces but for the one before a word
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
MERGES = [("r", "e"), ("\u0120", "a"), ("re", "d")]
TEXTS = [
    "A red apple, isn't it?  Two  spaces",
    "빨간 사과 🍎",
    "ÜBER 123abc_x 4_5",
    " red\n\nred ",
    "rered aa a",
    "<|endoftext|>",
    "",
]


def naive(text: str, ids: dict[str, int]) -> list[int]:
    """One word after the other, one merge after the other."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = [*printable, *(byte for byte in range(256) if byte not in printable)]
    letters = dict(zip(order, byte_alphabet(), strict=True))
    found = []
    for word in WORDS.findall(text.lower()):
        parts = [letters[byte] for byte in word.encode()]
        for first, second in MERGES:
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == (first, second):
                    parts[i : i + 2] = [first + second]
                i += 1
        found += [ids[part] for part in parts]
    return found


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vocabulary(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def tokenizer(words: Path) -> GlideTokenizer:
    return GlideTokenizer.load(words)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_those_of_gpt2_in_lower_case(tokenizer: GlideTokenizer, text: str) -> None:
    names = [*sorted(byte_alphabet()), "re", "\u0120a", "red", "<|endoftext|>"]
    assert tokenizer.encode(text) == naive(text, {name: i for i, name in enumerate(names)})


def test_a_row_is_tokens_and_padding(tokenizer: GlideTokenizer) -> None:
    assert tokenizer.vocabulary == VOCABULARY
    tokens = tokenizer.batch(["Red a", "", "red red red"], context=4, full=True)
    assert tokens.ids.tolist()[0] == [258, 257, 259, 259]
    assert tokens.ids.tolist()[1] == [259] * 4
    assert tokens.mask.tolist() == [[True, True, False, False], [False] * 4, [True] * 4]
    assert tokens.truncated == (None, None, "red")
    short = tokenizer.batch(["Red a", ""], context=4)
    assert torch.equal(short.ids, tokens.ids[:2, :2])
    with pytest.raises(InputError, match="no texts"):
        tokenizer.batch([], context=4)


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
def test_vocabularies_come_as_glide_or_gpt2_has_them(
    tmp_path: Path, tokenizer: GlideTokenizer, names: tuple[str, str]
) -> None:
    ids = {name: i for i, name in enumerate([*sorted(byte_alphabet()), "re", "\u0120a", "red"])}
    (tmp_path / names[0]).write_text(json.dumps(ids | {"<|endoftext|>": 259}))
    (tmp_path / names[1]).write_text("#version: 0.2\n" + "\n".join(map(" ".join, MERGES)) + "\n")
    loaded = GlideTokenizer.load(tmp_path)
    loaded.save(tmp_path / "saved.json")
    again = GlideTokenizer.load(tmp_path / "saved.json")
    for text in TEXTS:
        assert loaded.encode(text) == again.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.bpe", "r e x\n", "no vocabulary and its merges"),
        ("vocab.bpe", "z q\n", "no vocabulary and its merges"),
        ("encoder.json", "{", "no vocabulary and its merges"),
        ("encoder.json", '{"r": 0, "e": 1, "re": 2}', "must be '<|endoftext|>'"),
    ],
)
def test_broken_vocabularies_are_refused(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / "encoder.json").write_text('{"r": 0, "e": 1, "re": 2, "<|endoftext|>": 3}')
    (tmp_path / "vocab.bpe").write_text("r e\n")
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        GlideTokenizer.load(tmp_path)


def test_a_folder_without_one_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="encoder.json and vocab.bpe or vocab.json and merges.txt"):
        GlideTokenizer.load(tmp_path)
