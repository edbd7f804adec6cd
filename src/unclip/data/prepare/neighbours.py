"""Pairs of vectors that are close: every one of few vectors, nearly every one of many (usearch's HNSW)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import numpy as np
from usearch.compiled import ScalarKind
from usearch.index import Index

EXACT_UP_TO = 8192  # vectors; more are looked for in a graph
MOST = 16  # neighbours of one vector that a graph is asked for
# Of the graph: links of a vector, and candidates while it is built and asked. Recall against brute force is
# measured by benchmarks/prepare.py.
CONNECTIVITY, BUILDING, ASKING = 24, 160, 128
BLOCK = 1024  # queries that are compared at once
BATCH = 4096


class Metric(StrEnum):
    """The ways to compare vectors; both are distances, 0 for equal ones."""

    COSINE = "cos"  # of float vectors: 1 - cosine
    HAMMING = "hamming"  # of packed bits (uint8): how many differ


def close_pairs(
    vectors: np.ndarray,
    queries: np.ndarray | Iterable[np.ndarray],
    metric: Metric,
    radius: float,
    exact_up_to: int = EXACT_UP_TO,
) -> Iterator[tuple[int, int, float]]:
    """Yields (row of `queries`, row of `vectors`, distance) of what is at most `radius` apart.

    The same pairs come for the same arguments, whatever the number of cores. Of more than `exact_up_to`
    vectors only the nearest `MOST` of each query are looked for, and a few of those are missed.

    Args:
        vectors: (N, E) float32 or float16, L2-normalised; or (N, E) uint8, packed bits.
        queries: (M, E) of the same kind, or parts of them one after the other.
        metric: how they are compared.
        radius: of the distance.
        exact_up_to: vectors up to which all pairs are compared.
    """
    if not len(vectors):
        return
    parts = [queries] if isinstance(queries, np.ndarray) else queries
    near = _compared if len(vectors) <= exact_up_to else _asked
    searched = _comparable(vectors, metric) if near is _compared else graph(vectors, metric)
    start = 0
    for part in parts:
        for begin in range(0, len(part), BLOCK):
            for row, other, distance in near(searched, part[begin : begin + BLOCK], metric, radius):
                yield start + begin + row, other, distance
        start += len(part)


def graph(vectors: np.ndarray, metric: Metric) -> Index:
    """An index of vectors by their rows. One thread builds it: with several it would differ each time."""
    kind = ScalarKind.B1 if metric is Metric.HAMMING else ScalarKind.F16
    dimensions = vectors.shape[1] * (8 if metric is Metric.HAMMING else 1)
    index = Index(
        ndim=dimensions,
        metric=metric.value,
        dtype=kind,
        connectivity=CONNECTIVITY,
        expansion_add=BUILDING,
        expansion_search=ASKING,
    )
    for start in range(0, len(vectors), BATCH):
        part = vectors[start : start + BATCH]
        index.add(np.arange(start, start + len(part)), part, threads=1)
    return index


def _comparable(vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """float32 (N, E): of bits -1 and 1, whose dot product is the bits that agree less those that differ."""
    if metric is Metric.HAMMING:
        return np.unpackbits(vectors, axis=1).astype(np.float32) * 2 - 1
    return vectors.astype(np.float32)


def _compared(
    every: Any, asked: np.ndarray, metric: Metric, radius: float
) -> Iterator[tuple[int, int, float]]:
    products = _comparable(asked, metric) @ every.T
    distances = (every.shape[1] - products) / 2 if metric is Metric.HAMMING else 1 - products
    for row, column in np.argwhere(distances <= radius):
        yield int(row), int(column), float(distances[row, column])


def _asked(index: Any, asked: np.ndarray, metric: Metric, radius: float) -> Iterator[tuple[int, int, float]]:
    found = index.search(np.ascontiguousarray(asked), MOST)
    keys, distances = (np.reshape(value, (len(asked), -1)) for value in (found.keys, found.distances))
    for row, column in np.argwhere(distances <= radius):
        yield int(row), int(keys[row, column]), float(distances[row, column])
