"""Values that are known here and there, continued smoothly over the rest: a membrane (Laplace's equation)."""

from __future__ import annotations

import numpy as np

ROUNDS = 24  # of relaxation at each resolution; the coarser one has done the rest


def membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values where they are known, elsewhere the smooth surface that is spanned by them.

    Solved from coarse to fine: each resolution begins with the one below and relaxes it by averages of four
    neighbours.

    Args:
        values: (H, W, C), whatever stands where they are not known.
        known: (H, W) bool, True somewhere.

    Returns:
        float32 (H, W, C).
    """
    values = np.where(known[..., None], values, 0).astype(np.float32)
    if known.all():
        return values
    height, width = known.shape
    if min(height, width) < 2 or known.sum() == 0:
        mean = values[known].mean(0) if known.any() else np.zeros(values.shape[2], np.float32)
        return np.where(known[..., None], values, mean)
    rows, columns = height % 2, width % 2
    weight = np.pad(known, ((0, rows), (0, columns))).astype(np.float32)[..., None]  # (H', W', 1)
    padded = np.pad(values, ((0, rows), (0, columns), (0, 0)))
    share = _quartered(weight)
    coarse = _quartered(padded * weight) / np.maximum(share, 1e-6)
    coarse = membrane(coarse, share[..., 0] > 0)
    filled = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    free = ~known
    filled[known] = values[known]
    for _ in range(ROUNDS):
        around = np.pad(filled, ((1, 1), (1, 1), (0, 0)), mode="edge")
        means = (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4
        filled[free] = means[free]
    return filled


def _quartered(values: np.ndarray) -> np.ndarray:
    """Means of squares of four, (H, W, C) to (H / 2, W / 2, C)."""
    height, width, channels = values.shape
    squares = values.reshape(height // 2, 2, width // 2, 2, channels)
    means: np.ndarray = squares.mean(axis=(1, 3))
    return means
