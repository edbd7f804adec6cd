"""Promises of BPE dropout: other pieces of the same text, the same from the same random state."""

from __future__ import annotations

from random import Random

import pytest
import torch

from unclip.errors import InputError
from unclip.tokenizer import BytePairTokenizer
from unclip.train.merge_dropout import MergeDropout

CAPTIONS = ["a red apple", "a green apple tree", "빨간 사과", "ein roter Apfel", "a red apple and a tree"] * 4


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train(CAPTIONS, vocabulary=330)


def test_almost_no_dropout_is_the_tokenizer_itself(tokenizer: BytePairTokenizer) -> None:
    """The merges are made in the order that was learned."""
    dropout = MergeDropout(tokenizer, 1e-12)
    for text in (*CAPTIONS, "An APPLE, please!  treetop", "🙂"):
        assert dropout.encode(text, Random(0)) == tokenizer.encode(text)


def test_without_a_share_the_batch_is_the_tokenizers(tokenizer: BytePairTokenizer) -> None:
    found = MergeDropout(tokenizer, 0.0).batch(CAPTIONS[:3], 12, [Random(0)] * 3)
    expected = tokenizer.batch(CAPTIONS[:3], 12, full=True)
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.mask, expected.mask)


def test_pieces_differ_and_mean_the_same(tokenizer: BytePairTokenizer) -> None:
    dropout = MergeDropout(tokenizer, 0.3)
    found = {tuple(dropout.encode("a red apple", Random(seed))) for seed in range(30)}
    assert len(found) > 5
    assert {tokenizer.decode(ids) for ids in found} == {"a red apple"}
    assert tuple(dropout.encode("a red apple", Random(3))) in found


def test_rows_are_start_text_end_padding(tokenizer: BytePairTokenizer) -> None:
    tokens = MergeDropout(tokenizer, 0.5).batch(["a", "a red apple and a tree"], 6, [Random(0)] * 2)
    assert tokens.ids.shape == (2, 6)
    assert tokens.ids[:, 0].eq(tokenizer.start).all()
    assert tokens.ids[1, 5] == tokenizer.end  # cut to fit
    assert tokens.ids[0][~tokens.mask[0]].eq(tokenizer.pad).all()
    assert tokens.ids[0][tokens.mask[0]][-1] == tokenizer.end


def test_what_it_cannot_do_is_refused(tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(InputError, match="merge dropout 1"):
        MergeDropout(tokenizer, 1.0)
    with pytest.raises(InputError, match="our own byte-pair tokenizer, not object"):
        MergeDropout(object(), 0.1)
