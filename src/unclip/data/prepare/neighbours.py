"""Pairs of vectors that are close: every one of few vectors, nearly every one of many.

Many are put into clusters, and only those of a cluster are compared: several times, with other clusters each
time, so that a pair which one clustering parts is found by the next. So OpenAI looked for the duplicates in
DALL-E 2's training data ("DALL-E 2 pre-training mitigations": five clusterings found 97 % of the pairs).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np

EXACT_UP_TO = 16384  # vectors; of more only those in the same cluster are compared
CLUSTERINGS = 5
CLUSTER = 2048  # vectors in a cluster, on average
LEARNED_FROM, ROUNDS = (
    32,
    3,
)  # vectors a centre, and rounds, that centres are learned with (Lloyd's algorithm)
MOST = 16  # vectors in a block that are told of one query: the nearest, and the first; always even
BLOCK, WIDE = 1024, 8192  # queries, and vectors, that are compared at once
Pairs = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # rows of queries (P,), rows of vectors (P,), distances (P,)


class Metric(StrEnum):
    """The ways to compare vectors; both are distances, 0 for equal ones."""

    COSINE = "cos"  # of float vectors: 1 - cosine
    HAMMING = "hamming"  # of packed bits (uint8): how many differ


def close_pairs(
    vectors: np.ndarray,
    queries: np.ndarray,
    metric: Metric,
    radius: float,
    *,
    exact_up_to: int = EXACT_UP_TO,
    clusterings: int = CLUSTERINGS,
) -> Iterator[Pairs]:
    """Yields what is at most `radius` apart, in parts; a pair may come several times.

    The same pairs come for the same arguments. Where very many are close to one query only the nearest and
    the first of them come, at least half of `MOST`. Of more than `exact_up_to` vectors a few are missed.

    Args:
        vectors: (N, E) float32 or float16, L2-normalised; or (N, E) uint8, packed bits.
        queries: (M, E) of the same kind.
        metric: how they are compared.
        radius: of the distance.
        exact_up_to: vectors up to which all pairs are compared.
        clusterings: of more vectors, how many times they are put into clusters.
    """
    if len(vectors) <= exact_up_to:
        yield from _within(np.arange(len(vectors)), np.arange(len(queries)), vectors, queries, metric, radius)
        return
    for seed in range(clusterings):
        centres = _centres(vectors, metric, seed)
        own, asked = (_Clusters(rows, centres, metric) for rows in (vectors, queries))
        for cluster in range(len(centres)):
            yield from _within(own[cluster], asked[cluster], vectors, queries, metric, radius)


class _Clusters:
    """Vectors by the centre (K, E) that each is nearest to: `[k]` are the rows of cluster k, ascending."""

    def __init__(self, vectors: np.ndarray, centres: np.ndarray, metric: Metric) -> None:
        nearest = np.zeros(len(vectors), np.int32)
        for start in range(0, len(vectors), BLOCK):
            part = _comparable(vectors[start : start + BLOCK], metric)
            nearest[start : start + BLOCK] = (part @ centres.T).argmax(axis=1)
        self._order = np.argsort(nearest, kind="stable").astype(np.int32)
        self._bounds = np.cumsum(np.bincount(nearest, minlength=len(centres)))

    def __getitem__(self, cluster: int) -> np.ndarray:
        start = self._bounds[cluster - 1] if cluster else 0
        return self._order[start : self._bounds[cluster]]


def _centres(vectors: np.ndarray, metric: Metric, seed: int) -> np.ndarray:
    """float32 (K, E): means of unit length, learned from some of the vectors."""
    count = -(-len(vectors) // CLUSTER)
    random = np.random.default_rng(seed)
    chosen = random.choice(len(vectors), min(len(vectors), LEARNED_FROM * count), replace=False)
    learned = _comparable(vectors[np.sort(chosen)], metric)  # (L, E)
    centres = _unit(learned[np.sort(random.choice(len(learned), count, replace=False))])
    for _ in range(ROUNDS):
        nearest = np.concatenate(
            [
                (learned[start : start + BLOCK] @ centres.T).argmax(axis=1)
                for start in range(0, len(learned), BLOCK)
            ]
        )
        order = np.argsort(nearest, kind="stable")
        there, starts = np.unique(nearest[order], return_index=True)
        centres[there] = _unit(np.add.reduceat(learned[order], starts, axis=0))  # others stay as they are
    return centres


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def _comparable(vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """float32 (N, E): of bits -1 and 1, whose dot product is the bits that agree less those that differ."""
    if metric is Metric.HAMMING:
        return np.unpackbits(vectors, axis=1).astype(np.float32) * 2 - 1
    return vectors.astype(np.float32)


def _within(
    rows: np.ndarray,
    asked: np.ndarray,
    vectors: np.ndarray,
    queries: np.ndarray,
    metric: Metric,
    radius: float,
) -> Iterator[Pairs]:
    """The close pairs among some rows of `queries` and some of `vectors`."""
    for first in range(0, len(rows) if len(asked) else 0, WIDE):
        own = rows[first : first + WIDE]
        every = _comparable(vectors[own], metric)
        least = every.shape[1] - 2 * radius if metric is Metric.HAMMING else 1 - radius
        for start in range(0, len(asked), BLOCK):
            part = asked[start : start + BLOCK]
            products = _comparable(queries[part], metric) @ every.T  # (B, W)
            found = np.flatnonzero(products >= least)
            close = products.ravel()[found]
            distances = (every.shape[1] - close) / 2 if metric is Metric.HAMMING else 1 - close
            lines, columns = np.divmod(found, len(own))
            kept = _few(lines, distances)
            yield part[lines[kept]], own[columns[kept]], distances[kept]


def _few(lines: np.ndarray, distances: np.ndarray) -> np.ndarray | slice:
    """The pairs to tell of, at most `MOST` a line: the first half in order, the other by distance.

    Args:
        lines: (P,), ascending.
        distances: (P,).
    """
    counts = np.bincount(lines) if len(lines) else np.zeros(1, np.int64)
    if counts.max() <= MOST:
        return slice(None)
    starts = np.cumsum(counts) - counts
    place = np.arange(len(lines)) - starts[lines]
    nearest = np.lexsort((distances, lines))  # lines stay together, so places are the same
    rank = np.empty(len(lines), np.int64)
    rank[nearest] = place
    return np.flatnonzero((place < MOST // 2) | (rank < MOST // 2))
