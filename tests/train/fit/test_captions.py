"""Promises of what is read off captions: words that all have in common, and which are held out."""

from __future__ import annotations

import pytest

from unclip.data.prompts import says
from unclip.train.fit.captions import MOST_HELD_OUT, common_words, held_out


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["a sks cup", "the sks cup on a table", "a red sks cup"], "sks cup"),
        (["Watercolour of a dog", "watercolour of a cat", "watercolour of two birds"], "watercolour"),
        (["my garden"] * 5, "my garden"),
        (["a dog", "a cat", "a bird"], ""),
        (["a sks cup", "a sks cup"], ""),  # of two captions nothing can be told
        ([], ""),
    ],
)
def test_words_that_all_captions_have_are_found(captions: list[str], expected: str) -> None:
    assert common_words(captions) == expected


def test_a_caption_in_ten_may_lack_the_common_words() -> None:
    assert common_words([*["a sks cup, red"] * 9, "a plain mug"]) == "sks cup"  # colours do not count
    assert common_words([*["a sks cup, red"] * 8, *["a plain mug"] * 2]) == ""


def test_a_tenth_is_held_out_whole_concepts_together() -> None:
    keys, concepts = [f"{k}" for k in range(200)], [f"concept-{k // 2}" for k in range(200)]
    found = held_out(keys, concepts)
    assert 20 <= len(found) <= 22
    assert {concepts[k] for k in found}.isdisjoint(concepts[k] for k in range(200) if k not in found)
    assert held_out(keys, concepts) == found


def test_of_one_concept_single_pictures_are_held_out() -> None:
    assert len(held_out([f"{k}" for k in range(12)], ["sks-cup"] * 12)) == 2


def test_of_very_few_pictures_none_is_held_out_and_of_very_many_no_more_than_are_looked_at() -> None:
    assert held_out(["a", "b", "c", "d", "e"], list("abcde")) == set()
    many = [f"{k}" for k in range(1000)]
    assert len(held_out(many, many)) == MOST_HELD_OUT


def test_a_prompt_says_words_in_any_case_and_not_within_others() -> None:
    assert says("A SKS  cup on the moon", ["sks cup"])
    assert says("the sks-cup", ["sks cup"])
    assert not says("a sks cupboard", ["sks cup"])
    assert not says("a cup", [])
