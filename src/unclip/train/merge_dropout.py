"""BPE dropout (1910.13267): now and then a merge is left out, so that a word comes in other pieces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import torch

from unclip.errors import InputError
from unclip.tokenizer import BytePairTokenizer, Tokenizer, Tokens
from unclip.tokenizer.spelling import spell_out


class MergeDropout:
    """A tokenizer whose merges are left out with a probability, drawn from outside.

    The library behind the tokenizer can do this too, but from a random state of its own: a run that was
    resumed would read other pieces than one that was not.

    Raises:
        InputError: a share outside [0, 1), or a tokenizer that is not our own.
    """

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        if not 0 <= share < 1:
            raise InputError(f"merge dropout {share}: choose from 0 to below 1")
        if not isinstance(tokenizer, BytePairTokenizer):
            raise InputError(
                f"merge dropout needs our own byte-pair tokenizer, not {type(tokenizer).__name__}"
            )
        self.tokenizer = tokenizer
        self.share = share
        self._inner = tokenizer._tokenizer
        model = json.loads(self._inner.to_str())["model"]
        self._ids: dict[str, int] = model["vocab"]
        pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        self._ranks = {(first, second): rank for rank, (first, second) in enumerate(pairs)}

    def batch(self, texts: Sequence[str], context: int, randoms: Sequence[Random]) -> Tokens:
        """Texts as one batch padded to `context`; without a share as the tokenizer's own, at its speed."""
        if not self.share:
            return self.tokenizer.batch(texts, context, full=True)
        ids = torch.full((len(texts), context), self.tokenizer.pad, dtype=torch.int64)
        mask = torch.zeros((len(texts), context), dtype=torch.bool)
        for i, (text, random) in enumerate(zip(texts, randoms, strict=True)):
            row = [self.tokenizer.start, *self.encode(text, random)[: context - 2], self.tokenizer.end]
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        return Tokens(ids, mask, (None,) * len(texts))

    def encode(self, text: str, random: Random) -> list[int]:
        """Ids of the text alone, without start and end."""
        text = spell_out(text)
        if self._inner.normalizer is not None:
            text = self._inner.normalizer.normalize_str(text)
        words = [word for word, _ in self._inner.pre_tokenizer.pre_tokenize_str(text)]
        return [self._ids[piece] for word in words for piece in self._pieces(word, random)]

    def _pieces(self, word: str, random: Random) -> list[str]:
        """Merged in the order that was learned, but for what is left out at each step."""
        pieces = list(word)
        while len(pieces) > 1:
            ranked = [
                (self._ranks[pair], place)
                for place, pair in enumerate(pairwise(pieces))
                if pair in self._ranks and random.random() >= self.share
            ]
            if not ranked:
                break
            _, place = min(ranked)
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        return pieces
