"""Weights that give back what filtering has thinned out.

A filter also drops pictures of what nobody objects to, of some things more than of others. OpenAI met that in
DALL-E 2's data ("DALL-E 2 pre-training mitigations", "Fixing bias amplification"): a classifier learns to
tell the pictures before filtering from those after it, and a picture that looks more like the first counts
more in training. With f the probability of "before", the weight is f / (1 - f).
"""

from __future__ import annotations

import numpy as np

FOLDS = 4  # parts of the pictures; the weights of one come from a classifier that learned from the others
STEPS = 12  # of Newton's method
PENALTY = 1.0  # on the squared coefficients, of standardised embeddings: a prior of unit variance
LEARNED_FROM = 50_000  # pictures, at the most
BLOCK = 4096


def reweighted(vectors: np.ndarray, kept: np.ndarray, most: float) -> np.ndarray:
    """The weight of each kept picture.

    Args:
        vectors: float (N, E), embeddings of all pictures before filtering.
        kept: bool (N,).
        most: a weight is at most this, and at least one over it.

    Returns:
        float32 (N,): 1 on average over what is kept, 0 of what is not.
    """
    weights = np.zeros(len(vectors), np.float32)
    if kept.all() or not kept.any():
        weights[kept] = 1
        return weights
    random = np.random.default_rng(0)
    folds = random.permutation(len(vectors)) % FOLDS
    for fold in range(FOLDS):
        learned = np.flatnonzero(folds != fold)
        learned = np.sort(random.permutation(learned)[:LEARNED_FROM])
        asked = np.flatnonzero((folds == fold) & kept)
        if kept[learned].any():
            weights[asked] = _ratios(vectors, learned, kept[learned], asked)
        else:
            weights[asked] = 1
    weights[kept] = np.clip(weights[kept] / weights[kept].mean(), 1 / most, most)
    weights[kept] /= weights[kept].mean()
    return weights


def _ratios(vectors: np.ndarray, learned: np.ndarray, kept: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """float64 (A,): f / (1 - f) of the pictures `asked`, by logistic regression between kept and whole."""
    before = vectors[learned].astype(np.float64)
    mean, std = before.mean(axis=0), before.std(axis=0) + 1e-6

    def features(rows: np.ndarray) -> np.ndarray:
        scaled = (vectors[rows].astype(np.float64) - mean) / std
        return np.concatenate([scaled, np.ones((len(rows), 1))], axis=1)  # (B, E + 1)

    # Every picture is in the class "before", and those that are kept are in the class "after" too; both
    # classes count the same on the whole, so f / (1 - f) is the ratio of their densities.
    after = np.where(kept, len(kept) / kept.sum(), 0.0)
    penalty = np.full(before.shape[1] + 1, PENALTY)
    penalty[-1] = 1e-6  # not on the constant
    coefficients = np.zeros(before.shape[1] + 1)
    for _ in range(STEPS):
        gradient, curvature = penalty * coefficients, np.diag(penalty)
        for start in range(0, len(learned), BLOCK):
            part, times = features(learned[start : start + BLOCK]), after[start : start + BLOCK]
            f = 1 / (1 + np.exp(-np.clip(part @ coefficients, -30, 30)))
            gradient = gradient + part.T @ (times * f - (1 - f))
            curvature = curvature + (part * ((1 + times) * f * (1 - f))[:, None]).T @ part
        step = np.linalg.solve(curvature, gradient)
        coefficients -= step
        if np.abs(step).max() < 1e-6:
            break
    found = np.zeros(len(asked))
    for start in range(0, len(asked), BLOCK):
        found[start : start + BLOCK] = features(asked[start : start + BLOCK]) @ coefficients
    return np.exp(np.clip(found, -30, 30))
