"""Promises of our own tokenizer: the same ids for the same words, nothing unknown, cuts that are told."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.errors import InputError
from unclip.tokenizer import BytePairTokenizer, Tokenizer

CAPTIONS = [
    "a red apple",
    "a green apple, flat style",
    "a rocket in the sky",
    "빨간 사과",
    "초록 사과",
    "ein roter Apfel",
    "ein grüner Apfel",
] * 4


@pytest.fixture(scope="module")
def ours() -> BytePairTokenizer:
    return BytePairTokenizer.train(CAPTIONS, vocabulary=400)


def test_ours_has_the_contracted_special_ids(ours: BytePairTokenizer) -> None:
    assert isinstance(ours, Tokenizer)
    assert (ours.pad, ours.start, ours.end) == (0, 1, 2)
    assert 259 < ours.vocabulary <= 400


def test_case_width_and_white_space_make_no_difference(ours: BytePairTokenizer) -> None:
    plain = ours.encode("a red apple")
    assert ours.encode("  A   Red\tAPPLE\n") == plain
    assert ours.encode("ａ　ｒｅｄ　ａｐｐｌｅ") == plain  # full-width letters
    assert ours.encode(unicodedata.normalize("NFD", "빨간 사과")) == ours.encode("빨간 사과")


def test_a_word_has_the_same_tokens_wherever_it_stands(ours: BytePairTokenizer) -> None:
    assert ours.encode("apple apple") == ours.encode("apple") * 2


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_has_tokens_and_none_of_them_is_special(ours: BytePairTokenizer, text: str) -> None:
    ids = ours.encode(text)
    assert all(3 <= i < ours.vocabulary for i in ids)
    assert ids or not text.strip()


def test_special_tokens_in_a_prompt_are_text(ours: BytePairTokenizer) -> None:
    assert min(ours.encode("an <end> apple <pad> <start>")) >= 3


def test_batch_is_as_long_as_its_longest_text(ours: BytePairTokenizer) -> None:
    tokens = ours.batch(["a red apple", "", "빨간 사과"], context=32)
    lengths = [len(ours.encode(text)) + 2 for text in ("a red apple", "", "빨간 사과")]
    assert tokens.ids.shape == tokens.mask.shape == (3, max(lengths))
    assert tokens.ids.dtype == torch.int64
    assert tokens.mask.sum(dim=1).tolist() == lengths
    for i, length in enumerate(lengths):
        assert tokens.ids[i, 0] == ours.start
        assert tokens.ids[i, length - 1] == ours.end
        assert (tokens.ids[i, length:] == ours.pad).all()
    assert tokens.truncated == (None, None, None)
    assert ours.batch(["a"], context=9, full=True).ids.shape == (1, 9)


@pytest.mark.parametrize(
    "text", ["A red apple and then   a rocket", "빨간 사과 " * 4 + "끝", "Äpfel — Äpfel"]
)
def test_what_was_cut_off_is_told_in_the_words_of_the_text(ours: BytePairTokenizer, text: str) -> None:
    tokens = ours.batch([text], context=8)
    assert tokens.ids.shape == (1, 8)
    assert tokens.ids[0, -1] == ours.end
    rest = tokens.truncated[0]
    assert rest
    assert text.endswith(rest)
    assert len(rest) < len(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("🍎", "red apple"),
        ("a 🚀 and 🍎🍎", "a rocket and red apple red apple"),
        ("❤ ❤️", "red heart red heart"),  # with and without the selector of its picture
        ("🇰🇷🏴󠁧󠁢󠁳󠁣󠁴󠁿", "flag: south korea flag: scotland"),
        ("👩🏿‍🚀 👍🏽", "woman astronaut with dark skin tone thumbs up with medium skin tone"),
        ("1️⃣", "keycap 1"),
    ],
)
def test_emoji_are_read_by_their_names(ours: BytePairTokenizer, text: str, words: str) -> None:
    assert ours.encode(text) == ours.encode(words)
    cut = ours.batch([text + words], context=4).truncated[0]
    assert cut
    assert cut.endswith(words)
    assert (
        BytePairTokenizer.train([text] * 4, 320).vocabulary
        == BytePairTokenizer.train([words] * 4, 320).vocabulary
    )


def test_ours_survives_a_file(ours: BytePairTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    ours.save(path)
    again = BytePairTokenizer.load(path)
    for text in (*CAPTIONS, "<end> Größe 🍎"):
        assert again.encode(text) == ours.encode(text)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_training_is_the_same_every_time() -> None:
    first, second = (BytePairTokenizer.train(iter(CAPTIONS), vocabulary=320) for _ in range(2))
    assert first.encode("ein roter apfel, 빨간 사과") == second.encode("ein roter apfel, 빨간 사과")


def test_bad_input_is_refused_with_a_reason(ours: BytePairTokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no texts"):
        ours.batch([], context=8)
    with pytest.raises(InputError, match="context 2"):
        ours.batch(["a"], context=2)
    with pytest.raises(InputError, match="at least 259"):
        BytePairTokenizer.train(CAPTIONS, vocabulary=100)
    with pytest.raises(InputError, match="no such tokenizer"):
        BytePairTokenizer.load(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        BytePairTokenizer.load(broken)
