"""Pairs of vectors that are close: every one of few vectors, nearly every one of many (usearch's HNSW)."""

from __future__ import annotations

from collections.abc import Iterator
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
BLOCK = 512
BATCH = 4096


class Metric(StrEnum):
    """The ways to compare vectors; both are distances, 0 for equal ones."""

    COSINE = "cos"  # of float vectors: 1 - cosine
    HAMMING = "hamming"  # of packed bits (uint8): how many differ


def close_pairs(
    vectors: np.ndarray, queries: np.ndarray, metric: Metric, radius: float, exact_up_to: int = EXACT_UP_TO
) -> Iterator[tuple[int, int, float]]:
    """Yields (row of `queries`, row of `vectors`, distance) of what is at most `radius` apart.

    The same pairs come for the same arguments, whatever the number of cores. Of more than `exact_up_to`
    vectors only the nearest `MOST` of each query are looked for, and a few of those are missed.

    Args:
        vectors: (N, E) float32 or float16, L2-normalised; or (N, E) uint8, packed bits.
        queries: (M, E) of the same kind.
        metric: how they are compared.
        radius: of the distance.
        exact_up_to: vectors up to which all pairs are compared.
    """
    if not len(vectors) or not len(queries):
        return
    if len(vectors) <= exact_up_to:
        yield from _compared(vectors, queries, metric, radius)
        return
    index = graph(vectors, metric)
    for start in range(0, len(queries), BATCH):
        found: Any = index.search(queries[start : start + BATCH], MOST)
        for row in range(len(found)):
            matches = found[row]
            for key, distance in zip(matches.keys, matches.distances, strict=True):
                if distance <= radius:
                    yield start + row, int(key), float(distance)


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


def _compared(
    vectors: np.ndarray, queries: np.ndarray, metric: Metric, radius: float
) -> Iterator[tuple[int, int, float]]:
    if metric is Metric.HAMMING:
        # of -1 and 1 the dot product is the bits that agree less those that differ
        every = np.unpackbits(vectors, axis=1).astype(np.float32) * 2 - 1
        for start in range(0, len(queries), BLOCK):
            asked = np.unpackbits(queries[start : start + BLOCK], axis=1).astype(np.float32) * 2 - 1
            yield from _within((every.shape[1] - asked @ every.T) / 2, start, radius)
    else:
        every = vectors.astype(np.float32)
        for start in range(0, len(queries), BLOCK):
            asked = queries[start : start + BLOCK].astype(np.float32)
            yield from _within(1 - asked @ every.T, start, radius)


def _within(distances: np.ndarray, start: int, radius: float) -> Iterator[tuple[int, int, float]]:
    for row, column in np.argwhere(distances <= radius):
        yield start + int(row), int(column), float(distances[row, column])
