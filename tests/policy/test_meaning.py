"""Promises of judging by meaning: near to a description and far from what is harmless, at a set share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from unclip.policy.meaning import Meaning, descriptions


class Tower:
    """Reads a text as a direction; those that begin with "bad" lie together."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            row = np.random.default_rng(list(text.encode())).normal(size=32)
            if text.startswith("bad"):
                row[0] += 20
            rows.append(row / np.linalg.norm(row))
        return torch.tensor(np.array(rows))


def judge(share: float = 0.01) -> Meaning:
    background = [f"harmless {number}" for number in range(400)]
    return Meaning.of(Tower(), background, share, {"bad": ["bad thing", "bad act"]})


def test_what_means_the_same_as_a_description_is_found() -> None:
    assert judge().found(["bad idea", "a red apple"]) == ["bad", None]


def test_as_many_harmless_texts_are_refused_as_are_asked_for() -> None:
    texts = [f"another {number}" for number in range(1000)]
    refused = sum(found is not None for found in judge(0.05).found(texts))
    assert 15 <= refused <= 110


def test_too_small_a_background_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 100"):
        Meaning.of(Tower(), ["an apple"], 0.01)


def test_the_packages_descriptions_are_of_three_categories() -> None:
    assert set(descriptions()) == {"sexual", "gore", "hate"}
