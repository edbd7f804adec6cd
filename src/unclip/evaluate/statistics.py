"""Figures with the interval in which they lie, and the Frechet distance.

Samples of one concept are not independent of each other (a hand in five skin tones is one hand), so concepts,
not pictures, are what is resampled and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

CONFIDENCE_Z = 1.959964  # of 95 %
PERCENTILES = (2.5, 97.5)
RESAMPLES = 1000
HALVINGS = 40  # random halves of the samples that a Frechet distance is averaged over
LEAST_HALF = 8  # samples; a covariance of fewer says nothing


class Method(StrEnum):
    """The way in which an interval was found; all are of 95 %."""

    WILSON = "wilson"  # score interval of a share, with the number of concepts as the number of trials
    BOOTSTRAP = "bootstrap"  # percentiles over 1,000 resamples of the concepts
    HALVES = "halves"  # percentiles over 40 random halvings of the samples


@dataclass(frozen=True)
class Estimate:
    """A value, the ends of its 95 % interval, how many samples it is of, and how the interval was found."""

    value: float
    low: float
    high: float
    count: int
    method: Method


def share(right: np.ndarray, groups: np.ndarray) -> Estimate:
    """The share of True in `right`, bool (N,), with Wilson's interval; `groups`, (N,), are the concepts."""
    value = float(np.mean(right))
    trials = len(np.unique(groups))
    square = CONFIDENCE_Z**2
    middle = (value + square / (2 * trials)) / (1 + square / trials)
    spread = math.sqrt(value * (1 - value) / trials + square / (4 * trials**2)) / (1 + square / trials)
    spread *= CONFIDENCE_Z
    return Estimate(value, max(0.0, middle - spread), min(1.0, middle + spread), len(right), Method.WILSON)


def resampled(
    columns: np.ndarray, groups: np.ndarray, combine: Callable[[np.ndarray], np.ndarray], seed: int
) -> Estimate:
    """A function of sums over the samples, with its bootstrap interval.

    Args:
        columns: (N, C) what is summed.
        groups: (N,) the concepts, which are drawn with replacement, each with all of its samples.
        combine: (..., C + 1) sums, the last of which is the number of samples, to (...) values.
        seed: of the resampling.
    """
    _, group = np.unique(groups, return_inverse=True)
    counted = np.column_stack([columns, np.ones(len(columns))]).astype(np.float64)  # (N, C + 1)
    sums = np.stack([np.bincount(group, weights=column) for column in counted.T], axis=1)  # (G, C + 1)
    count = len(sums)
    random = np.random.default_rng(seed)
    times = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)  # (R, G)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(combine(sums.sum(axis=0)))
        spread = combine(times @ sums)  # (R,)
    spread = spread[np.isfinite(spread)]
    low, high = np.percentile(spread, PERCENTILES) if len(spread) else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(columns), Method.BOOTSTRAP)


def mean(values: np.ndarray, groups: np.ndarray, seed: int) -> Estimate:
    """The mean of `values`, (N,)."""
    return resampled(values[:, None], groups, lambda sums: sums[..., 0] / sums[..., 1], seed)


def ratio(above: np.ndarray, below: np.ndarray, groups: np.ndarray, seed: int) -> Estimate:
    """The mean of `above` over that of `below`, (N,) each, of the same samples."""
    columns = np.column_stack([above, below])
    return resampled(columns, groups, lambda sums: sums[..., 0] / sums[..., 1], seed)


def ratio_of_ratios(columns: np.ndarray, groups: np.ndarray, seed: int) -> Estimate:
    """(a / b) / (c / d) of the means of four columns, (N, 4), of the same samples."""
    return resampled(columns, groups, lambda s: (s[..., 0] / s[..., 1]) / (s[..., 2] / s[..., 3]), seed)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """The Frechet distance (1706.08500, section 3) between normal distributions fitted to (N, E) and (M, E).

    It grows as N and M shrink: compare only distances of the same N and M.
    """
    covariances = [np.cov(rows.astype(np.float64), rowvar=False) for rows in (first, second)]
    gap = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    # the square root of the product has the eigenvalues of root @ second @ root, which is symmetric
    crossed = np.linalg.eigvalsh(root @ covariances[1] @ root)
    trace = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.sqrt(crossed.clip(min=0)).sum()
    return float(max(gap @ gap + trace, 0.0))


@dataclass(frozen=True)
class FrechetDistances:
    """The drawn against the real, the real against itself, and the one over the other."""

    drawn: Estimate
    real: Estimate
    ratio: Estimate


def frechet_distances(drawn: np.ndarray, real: np.ndarray, seed: int) -> FrechetDistances | None:
    """Distances between halves of (N, E) drawn and (N, E) real features whose rows belong together.

    In each halving, real pictures of one half of the captions are held against those of the other half, and
    so are drawn pictures of one half against real ones of the other, both ways: the same number of samples
    everywhere, and captions that differ in the same way. None where there are too few.
    """
    half = len(real) // 2
    if half < LEAST_HALF:
        return None
    random = np.random.default_rng(seed)
    found = []
    for _ in range(HALVINGS):
        order = random.permutation(len(real))
        a, b = order[:half], order[half : 2 * half]
        between = (frechet(drawn[a], real[b]) + frechet(drawn[b], real[a])) / 2
        within = frechet(real[a], real[b])
        found.append((between, within, between / within if within > 0 else math.nan))
    columns = np.array(found)  # (H, 3)
    low, high = np.nanpercentile(columns, PERCENTILES, axis=0)
    values = columns.mean(axis=0)
    values[2] = values[0] / values[1] if values[1] > 0 else math.nan
    estimates = [
        Estimate(float(values[k]), float(low[k]), float(high[k]), len(real), Method.HALVES) for k in range(3)
    ]
    return FrechetDistances(*estimates)


def nearest(
    queries: np.ndarray, base: np.ndarray, itself: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest row of `base`, (M, E), to each of `queries`, (N, E): (its position, its distance), (N,).

    Distances are Euclidean. `base` may be uint8 or a memory map and is read piece by piece; `itself`, (N,),
    are positions in it that do not count, because they are the queries themselves.
    """
    piece = 4096
    rows = queries.astype(np.float32)
    squares = (rows**2).sum(axis=1)  # (N,)
    best, position = np.full(len(rows), np.inf, np.float32), np.zeros(len(rows), np.int64)
    for start in range(0, len(base), piece):
        part = np.asarray(base[start : start + piece], np.float32)  # (P, E)
        distance = squares[:, None] - 2 * (rows @ part.T) + (part**2).sum(axis=1)  # (N, P)
        if itself is not None:
            inside = (itself >= start) & (itself < start + len(part))
            distance[np.flatnonzero(inside), itself[inside] - start] = np.inf
        closest = distance.argmin(axis=1)
        found = distance[np.arange(len(rows)), closest]
        better = found < best
        best[better], position[better] = found[better], closest[better] + start
    return position, np.sqrt(best.clip(min=0))
