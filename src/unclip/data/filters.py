"""Duplicates and near-duplicates of one style, which are dropped from a corpus after drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

THUMB = 32  # pixels of the side of the reduced picture that near-duplicates are compared on
NEAR_RMS = 2.5  # of 255, over the reduced picture
NEAR_PEAK = 32  # of 255, in any of its channels
BLOCK = 1024


def duplicates(
    groups: Sequence[str], hashes: Sequence[bytes], thumbs: np.ndarray
) -> dict[int, tuple[str, int]]:
    """Finds pictures that repeat an earlier one of their group (source and style).

    Args:
        groups: (N) the group of each picture.
        hashes: (N) hash of each picture's pixels.
        thumbs: uint8 (N, 32, 32, 3).

    Returns:
        position -> ("duplicate" or "near-duplicate", position of the picture that stays).
    """
    dropped: dict[int, tuple[str, int]] = {}
    members: dict[str, list[int]] = {}
    first: dict[tuple[str, bytes], int] = {}
    for index, (group, digest) in enumerate(zip(groups, hashes, strict=True)):
        kept = first.setdefault((group, digest), index)
        if kept != index:
            dropped[index] = ("duplicate", kept)
        else:
            members.setdefault(group, []).append(index)
    for indices in members.values():
        for later, earlier in _near(thumbs[indices]).items():
            dropped[indices[later]] = ("near-duplicate", indices[earlier])
    return dropped


def seen(held_out: np.ndarray, train: np.ndarray) -> dict[int, int]:
    """Held-out pictures that look the same as one to train on, whatever its style or name: position ->
    position.

    Args:
        held_out: uint8 (M, 32, 32, 3).
        train: uint8 (N, 32, 32, 3).
    """
    found: dict[int, int] = {}
    for first, second in _close(held_out, train):
        found.setdefault(first, second)
    return found


def _near(thumbs: np.ndarray) -> dict[int, int]:
    """later -> earlier, for pictures (N, 32, 32, 3) that look the same; the earlier one is itself not
    dropped.
    """
    found: dict[int, int] = {}
    for later, earlier in _close(thumbs, thumbs):
        if earlier < later and later not in found and earlier not in found:
            found[later] = earlier
    return found


def _close(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int]]:
    """Positions (in `first`, in `second`) of all pairs that look the same, in ascending order."""
    if not len(first) or not len(second):
        return
    # By |a - b|^2 = a^2 + b^2 - 2ab, a matrix product a block; around the mean, so that few digits are
    # lost.
    mean = second.reshape(len(second), -1).mean(axis=0, dtype=np.float32)
    right = second.reshape(len(second), -1) - mean
    squares = (right * right).sum(axis=1)
    limit = NEAR_RMS**2 * right.shape[1]
    for start in range(0, len(first), BLOCK):
        left = first[start : start + BLOCK].reshape(-1, right.shape[1]) - mean
        distance = (left * left).sum(axis=1)[:, None] + squares[None, :] - 2 * left @ right.T
        for row, column in np.argwhere(
            distance < limit * 1.1
        ):  # what rounding left in doubt is judged exactly
            gap = np.abs(first[start + row].astype(np.int16) - second[column])
            if gap.max() <= NEAR_PEAK and float(np.square(gap, dtype=np.float32).mean()) < NEAR_RMS**2:
                yield start + int(row), int(column)
