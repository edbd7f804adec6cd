"""The promise that pairs of close vectors are found: all of few, nearly all of many."""

from __future__ import annotations

import numpy as np
import pytest

from unclip.data.prepare.neighbours import Metric, close_pairs


def clustered(count: int, kind: Metric) -> np.ndarray:
    """Vectors of which every second one is close to the one before it."""
    random = np.random.default_rng(0)
    if kind is Metric.HAMMING:
        bits = random.integers(0, 2, (count, 256), dtype=np.uint8)
        bits[1::2] = bits[::2]
        for row in range(1, count, 2):
            bits[row, random.choice(256, 12, replace=False)] ^= 1
        return np.packbits(bits, axis=1)
    vectors = random.normal(size=(count, 64)).astype(np.float32)
    vectors[1::2] = vectors[::2] + 0.1 * random.normal(size=(count // 2, 64))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("metric", "radius"), [(Metric.HAMMING, 31), (Metric.COSINE, 0.04)])
def test_all_pairs_of_few_vectors_are_found(metric: Metric, radius: float) -> None:
    vectors = clustered(200, metric)
    found = {(one, other) for one, other, _ in close_pairs(vectors, vectors, metric, radius) if one < other}
    assert found == {(row, row + 1) for row in range(0, 200, 2)}


@pytest.mark.parametrize(("metric", "radius"), [(Metric.HAMMING, 31), (Metric.COSINE, 0.04)])
def test_nearly_all_pairs_of_many_are_found_with_their_distances(metric: Metric, radius: float) -> None:
    vectors = clustered(2000, metric)
    exact = {pair[:2]: pair[2] for pair in close_pairs(vectors, vectors, metric, radius)}
    found = {pair[:2]: pair[2] for pair in close_pairs(vectors, vectors, metric, radius, exact_up_to=100)}
    assert found.keys() <= exact.keys()
    assert len(found) >= 0.99 * len(exact)
    for pair, distance in found.items():
        assert distance == pytest.approx(exact[pair], abs=2e-3)


def test_the_same_pairs_are_found_each_time() -> None:
    vectors = clustered(1000, Metric.COSINE)
    first, second = (
        list(close_pairs(vectors, vectors, Metric.COSINE, 0.04, exact_up_to=100)) for _ in range(2)
    )
    assert first == second


def test_of_nothing_nothing_is_found() -> None:
    empty = np.zeros((0, 32), np.uint8)
    assert list(close_pairs(empty, empty, Metric.HAMMING, 31)) == []
