"""The promise that pairs of close vectors are found: all of few, nearly all of many."""

from __future__ import annotations

import numpy as np
import pytest

from unclip.data.prepare.neighbours import MOST, Metric, close_pairs


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


def told(vectors: np.ndarray, metric: Metric, radius: float, **options: int) -> dict[tuple[int, int], float]:
    """Distances by pair, of vectors among themselves."""
    parts = close_pairs(vectors, vectors, metric, radius, **options)
    return {
        (one, other): away
        for part in parts
        for one, other, away in zip(*(column.tolist() for column in part), strict=True)
    }


@pytest.mark.parametrize(("metric", "radius"), [(Metric.HAMMING, 31), (Metric.COSINE, 0.04)])
def test_all_pairs_of_few_vectors_are_found(metric: Metric, radius: float) -> None:
    vectors = clustered(200, metric)
    found = told(vectors, metric, radius)
    assert {(one, other) for one, other in found if one < other} == {
        (row, row + 1) for row in range(0, 200, 2)
    }


@pytest.mark.parametrize(("metric", "radius"), [(Metric.HAMMING, 31), (Metric.COSINE, 0.04)])
def test_nearly_all_pairs_of_many_are_found_with_their_distances(metric: Metric, radius: float) -> None:
    vectors = clustered(2000, metric)
    exact, found = told(vectors, metric, radius), told(vectors, metric, radius, exact_up_to=100)
    assert found.keys() <= exact.keys()
    assert len(found) >= 0.99 * len(exact)
    for pair, distance in found.items():
        assert distance == pytest.approx(exact[pair], abs=2e-3)


def test_the_same_pairs_are_found_each_time() -> None:
    vectors = clustered(1000, Metric.COSINE)
    first, second = (told(vectors, Metric.COSINE, 0.04, exact_up_to=100) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("metric", "radius"), [(Metric.HAMMING, 31), (Metric.COSINE, 0.04)])
def test_more_clusterings_find_more(metric: Metric, radius: float) -> None:
    vectors = clustered(6000, metric)
    vectors = vectors[np.random.default_rng(1).permutation(len(vectors))]
    found = [told(vectors, metric, radius, exact_up_to=100, clusterings=count) for count in (1, 2, 5)]
    assert found[0].keys() < found[1].keys() <= found[2].keys() <= told(vectors, metric, radius).keys()


def test_of_very_many_copies_the_first_and_the_nearest_are_told_of() -> None:
    vectors = np.repeat(clustered(2, Metric.HAMMING)[:1], 300, axis=0)
    vectors[7, 0] ^= 1  # a bit
    found = told(vectors, Metric.HAMMING, 31)
    assert len(found) <= 300 * MOST
    assert all((row, 0) in found for row in range(300))


def test_of_nothing_nothing_is_found() -> None:
    empty = np.zeros((0, 32), np.uint8)
    assert list(close_pairs(empty, empty, Metric.HAMMING, 31)) == []
