"""Promises of the figures: intervals hold what they should, and distances are those of the textbook."""

from __future__ import annotations

import numpy as np
import pytest

from unclip.evaluate import statistics
from unclip.evaluate.statistics import Method


def test_wilson_is_the_textbook_interval() -> None:
    """8 of 10, frozen from the closed form: (0.4902, 0.9433)."""
    right = np.array([True] * 8 + [False] * 2)
    estimate = statistics.share(right, np.arange(10))
    assert estimate.value == pytest.approx(0.8)
    assert (estimate.low, estimate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert (estimate.count, estimate.method) == (10, Method.WILSON)


def test_a_share_of_none_or_all_is_not_certain() -> None:
    groups = np.arange(20)
    nothing, everything = (statistics.share(np.full(20, value), groups) for value in (False, True))
    assert (nothing.value, nothing.low) == (0, 0)
    assert 0.1 < nothing.high < 0.2
    assert everything.low == pytest.approx(1 - nothing.high)


def test_samples_of_one_concept_make_nothing_more_certain() -> None:
    right = np.array([True, False, True, True])
    once = statistics.share(right, np.arange(4))
    often = statistics.share(np.repeat(right, 50), np.repeat(np.arange(4), 50))
    assert (once.low, once.high) == pytest.approx((often.low, often.high))
    values = np.array([1.0, 2.0, 4.0, 7.0])
    once, often = (statistics.mean(np.repeat(values, n), np.repeat(np.arange(4), n), seed=0) for n in (1, 50))
    assert (once.low, once.high) == pytest.approx((often.low, often.high))
    assert often.count == 200


def test_the_bootstrap_covers_the_truth_nineteen_times_of_twenty() -> None:
    random = np.random.default_rng(0)
    covered = []
    for trial in range(200):
        values = random.normal(3.0, 2.0, 60)
        estimate = statistics.mean(values, np.arange(60), seed=trial)
        assert estimate.low < estimate.value < estimate.high
        covered.append(estimate.low < 3.0 < estimate.high)
    assert 0.89 < np.mean(covered) < 0.99


def test_ratios_are_of_means_and_pair_their_samples() -> None:
    above = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    groups = np.arange(6)
    assert statistics.ratio(above, np.ones(6), groups, 0).value == pytest.approx(4 / 6)
    same = statistics.ratio(above, above, groups, 0)
    assert (same.low, same.value, same.high) == (1, 1, 1)
    columns = np.column_stack([above, np.ones(6), above, np.ones(6) * 2])
    assert statistics.ratio_of_ratios(columns, groups, 0).value == pytest.approx(2)


def test_a_ratio_to_nothing_is_no_number() -> None:
    estimate = statistics.ratio(np.ones(4), np.zeros(4), np.arange(4), 0)
    assert not np.isfinite([estimate.value, estimate.low, estimate.high]).any()


def test_the_same_seed_resamples_alike() -> None:
    values = np.random.default_rng(1).normal(size=30)
    first, second, other = (statistics.mean(values, np.arange(30), seed) for seed in (1, 1, 2))
    assert first == second != other


def test_frechet_of_known_normals() -> None:
    """|difference of means|^2 + trace for commuting covariances: sum of (s1 - s2)^2."""
    random = np.random.default_rng(0)
    a = random.normal(size=(200_000, 3))
    b = random.normal(size=(200_000, 3)) * [2.0, 1.0, 3.0] + [1.0, 0.0, 2.0]
    assert statistics.frechet(a, b) == pytest.approx(5 + 1 + 0 + 4, rel=0.02)
    assert statistics.frechet(a, a) == pytest.approx(0, abs=1e-9)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    assert statistics.frechet(a @ turn, b @ turn) == pytest.approx(statistics.frechet(a, b))


def test_halves_tell_a_copy_from_a_stranger() -> None:
    """Samples of the same distribution have the ratio one, whatever few samples do to the distances."""
    random = np.random.default_rng(0)
    real = random.normal(size=(120, 16))
    alike, unlike = random.normal(size=(120, 16)), random.normal(size=(120, 16)) + 1
    same, other = (statistics.frechet_distances(drawn, real, 0) for drawn in (alike, unlike))
    assert same is not None
    assert other is not None
    assert same.ratio.value == pytest.approx(1, abs=0.1)
    assert other.ratio.value > 3
    assert other.ratio.low > same.ratio.high
    assert same.real.value > 1  # 60 samples in 16 dimensions are never the same
    assert statistics.frechet_distances(real[:10], real[:10], 0) is None


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_nearest_is_what_comparing_all_finds(dtype: type) -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 255, (5000, 8)).astype(dtype)  # more than one piece
    queries = base[[3, 4321]].copy()
    queries[0, 0] += 1
    position, distance = statistics.nearest(queries, base)
    assert position.tolist() == [3, 4321]
    assert distance == pytest.approx([1, 0], abs=0.1)
    position, distance = statistics.nearest(base[[3, 4321]], base, itself=np.array([3, 4321]))
    for row, query in enumerate([3, 4321]):
        every = np.linalg.norm(base.astype(float) - base[query].astype(float), axis=1)
        every[query] = np.inf
        assert position[row] == every.argmin()
        assert distance[row] == pytest.approx(every.min(), rel=1e-3)
