"""The promise that a filtered set, reweighted, has its things in the shares that they had before."""

from __future__ import annotations

import numpy as np

from unclip.data.prepare.reweighting import reweighted


def filtered(dropped: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of three kinds of things, the kinds, and what is kept by a filter of kind 2."""
    random = np.random.default_rng(0)
    kinds = random.choice(3, 3000, p=[0.5, 0.3, 0.2])
    vectors = random.normal(size=(3, 32))[kinds] + 0.5 * random.normal(size=(3000, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16), kinds, (kinds != 2) | (random.random(3000) > dropped)


def shares(kinds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.bincount(kinds, weights, minlength=3) / weights.sum()


def test_what_is_thinned_out_gets_its_share_back() -> None:
    vectors, kinds, kept = filtered(0.7)
    whole, after = shares(kinds, np.ones(3000)), shares(kinds, kept.astype(float))
    weights = reweighted(vectors, kept, 10)
    assert np.abs(whole - after).sum() > 0.2
    assert np.abs(whole - shares(kinds, weights)).sum() < 0.03
    assert not weights[~kept].any()
    assert abs(weights[kept].mean() - 1) < 1e-3


def test_a_filter_that_drops_by_chance_changes_hardly_a_weight() -> None:
    vectors, _, _ = filtered(0)
    kept = np.random.default_rng(1).random(3000) > 0.3
    assert reweighted(vectors, kept, 10)[kept].std() < 0.15


def test_no_weight_is_beyond_its_limit_and_what_drops_nothing_changes_nothing() -> None:
    vectors, _, kept = filtered(0.99)
    weights = reweighted(vectors, kept, 3)[kept]
    assert weights.max() / weights.min() <= 9.01
    assert (reweighted(vectors, np.ones(3000, bool), 3) == 1).all()
    assert (reweighted(vectors, np.zeros(3000, bool), 3) == 0).all()
