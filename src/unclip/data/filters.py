"""Duplicates and near-duplicates of one style, which are dropped from a corpus after drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

THUMB = 32  # pixels of the side of the reduced picture that near-duplicates are compared on
NEAR_RMS = 2.5  # of 255, over the reduced picture
NEAR_PEAK = 32  # of 255, in any of its channels
CELLS = 4  # a reduced picture's means over so many cells a side are compared first
BLOCK = 512
PAIRS = 1024  # that are read at once


class Thumbs(Protocol):
    """Reduced pictures, uint8 (N, 32, 32, 3): an array, or what is read like one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


class Part:
    """Some rows of `Thumbs`, in another order; nothing is read before it is asked for."""

    def __init__(self, thumbs: Thumbs, rows: Sequence[int] | np.ndarray) -> None:
        self._thumbs = thumbs
        self._rows = np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self._thumbs[self._rows[rows]]


def duplicates(groups: np.ndarray, hashes: np.ndarray, thumbs: Thumbs) -> dict[int, tuple[str, int]]:
    """Finds pictures that repeat an earlier one of their group (source and style).

    Args:
        groups: int64 (N,), the group of each picture.
        hashes: (N,) of raw bytes ("V16"), the hash of each picture's pixels.
        thumbs: uint8 (N, 32, 32, 3).

    Returns:
        position -> ("duplicate" or "near-duplicate", position of the picture that stays).
    """
    _, alike = np.unique(hashes, return_inverse=True)
    _, first, alike = np.unique(groups * len(hashes) + alike, return_index=True, return_inverse=True)
    kept = first[alike]  # the first of those of the same group and hash
    dropped = {
        int(index): ("duplicate", int(kept[index])) for index in np.flatnonzero(kept != np.arange(len(kept)))
    }
    first = np.sort(first)
    for group in np.unique(groups):
        indices = first[groups[first] == group]
        for later, earlier in _near(Part(thumbs, indices)).items():
            dropped[int(indices[later])] = ("near-duplicate", int(indices[earlier]))
    return dropped


def seen(held_out: Thumbs, train: Thumbs) -> dict[int, int]:
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


def _near(thumbs: Thumbs) -> dict[int, int]:
    """later -> earlier, for pictures (N, 32, 32, 3) that look the same; the earlier one is itself not
    dropped.
    """
    found: dict[int, int] = {}
    for later, earlier in _close(thumbs, thumbs):
        if earlier < later and later not in found and earlier not in found:
            found[later] = earlier
    return found


def _close(first: Thumbs, second: Thumbs) -> Iterator[tuple[int, int]]:
    """Positions (in `first`, in `second`) of all pairs that look the same, in ascending order."""
    if not len(first) or not len(second):
        return
    found: list[tuple[int, int]] = []
    cells = _cells(first)
    for rows, columns in _candidates(cells, cells if second is first else _cells(second)):
        for start in range(0, len(rows), PAIRS):
            one, other = rows[start : start + PAIRS], columns[start : start + PAIRS]
            gap = np.abs(first[one].astype(np.int16) - second[other]).reshape(len(one), -1)
            same = gap.max(axis=1) <= NEAR_PEAK
            same &= np.square(gap, dtype=np.float32).mean(axis=1) < NEAR_RMS**2
            found += zip(one[same].tolist(), other[same].tolist(), strict=True)
    yield from sorted(found)


def _cells(thumbs: Thumbs) -> np.ndarray:
    """float32 (N, 48): the mean colours of 4 x 4 cells, scaled so that distances are at most those of the
    pictures themselves: of a cell the mean difference, squared, is at most the mean squared difference.
    """
    cells = np.zeros((len(thumbs), 3 * CELLS**2), np.float32)
    side = THUMB // CELLS
    for start in range(0, len(thumbs), BLOCK):
        part = thumbs[np.arange(start, min(len(thumbs), start + BLOCK))]
        means = part.reshape(-1, CELLS, side, CELLS, side, 3).mean(axis=(2, 4), dtype=np.float32)
        cells[start : start + BLOCK] = means.reshape(len(part), -1) * side
    return cells


def _candidates(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions (in `first`, in `second`) of pairs that may look the same, from their cells (N, 48)."""
    limit = NEAR_RMS * THUMB * 3**0.5  # of the distance of whole pictures
    # Along one direction, brightness, only neighbours can be as close as that.
    bright = [cells.sum(axis=1) / cells.shape[1] ** 0.5 for cells in (first, second)]
    orders = [np.argsort(values, kind="stable") for values in bright]
    sorted_second = bright[1][orders[1]]
    mean = second.mean(axis=0)  # around it few digits are lost
    for start in range(0, len(first), BLOCK):
        rows = orders[0][start : start + BLOCK]
        low, high = np.searchsorted(sorted_second, bright[0][rows[[0, -1]]] + [-1.01 * limit, 1.01 * limit])
        for begin in range(low, high, 16 * BLOCK):
            columns = orders[1][begin : min(high, begin + 16 * BLOCK)]
            left, right = first[rows] - mean, second[columns] - mean
            # by |a - b|^2 = a^2 + b^2 - 2ab, a matrix product a block
            distance = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1) - 2 * left @ right.T
            near = np.argwhere(distance < 1.1 * limit**2)  # what rounding left in doubt is judged exactly
            yield rows[near[:, 0]], columns[near[:, 1]]
