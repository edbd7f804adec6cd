"""Pictures that are nearly the same: another size, another compression, a small edit.

Two have to agree in two ways: CLIP finds the same in them (cosine), and so do their pixels, reduced to a
signature of 8 x 8 (each the mean of its part of the picture, in colour). CLIP alone takes two drawings of one
thing for the same; so small a picture alone takes two line drawings for the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

SIGNATURE_SIDE = 8
LEAST_COSINE = 0.95
# Root mean square difference of two signatures: a share of the pictures' own contrast, and some levels more.
MOST_OF_CONTRAST = 0.15
MOST_LEVELS = 2.0
MOST_STRETCH = 1.05  # ratio of the two aspect ratios


def signatures(stored: Sequence[bytes]) -> np.ndarray:
    """Stored signatures as float32 (N, 192)."""
    return np.frombuffer(b"".join(stored), np.uint8).reshape(len(stored), -1).astype(np.float32)


def alike(a: np.ndarray, b: np.ndarray, aspect_a: np.ndarray, aspect_b: np.ndarray) -> np.ndarray:
    """True where the pixels of pairs are nearly the same, (N,) bool.

    Takes their signatures (N, 192) and aspect ratios (N,).
    """
    difference = np.sqrt(np.square(a - b).mean(-1))
    contrast = np.maximum(_contrast(a), _contrast(b))
    stretch = np.maximum(aspect_a / aspect_b, aspect_b / aspect_a)
    return (difference <= MOST_OF_CONTRAST * contrast + MOST_LEVELS) & (stretch <= MOST_STRETCH)


def _contrast(stored: np.ndarray) -> np.ndarray:
    """Spread of the parts of pictures around their mean, of signatures (N, 192), in levels (N,)."""
    parts = stored.reshape(len(stored), -1, 3)  # (N, 64, 3)
    return np.sqrt(parts.var(axis=1).mean(axis=-1))


def groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Positions 0 to count - 1 that pairs connect, in groups of two or more, the first of each in order."""
    leader = list(range(count))

    def find(position: int) -> int:
        while leader[position] != position:
            leader[position] = leader[leader[position]]
            position = leader[position]
        return position

    for one, other in pairs:
        first, second = sorted((find(one), find(other)))
        leader[second] = first
    found: dict[int, list[int]] = {}
    for position in range(count):
        found.setdefault(find(position), []).append(position)
    return [members for members in found.values() if len(members) > 1]
