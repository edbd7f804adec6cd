"""Promises of the order of a streamed corpus: of seed, epoch and lane alone, shard by shard, by weight."""

from __future__ import annotations

import numpy as np
import pytest

from unclip.data.order import WINDOW, Order

SHARDS = [f"shard-{row // 10}" for row in range(120)]
EVEN = np.full(120, 1 / 120)
BATCH = 24


class Kept:
    """Stands for a cache, and keeps what it is told."""

    def __init__(self) -> None:
        self.now: list[list[str]] = []
        self.soon: list[list[str]] = []

    def __call__(self, now: list[str], soon: list[str]) -> None:
        self.now.append(now)
        self.soon.append(soon)


def order(weights: np.ndarray = EVEN, kept: Kept | None = None) -> Order:
    return Order(weights, SHARDS, kept or Kept())


def batches(
    drawn: Order, steps: range, lanes: int = 4, seed: int = 0, places: range = range(BATCH)
) -> np.ndarray:
    """(steps, places) positions."""
    return np.stack([drawn.positions(seed, step, places, BATCH, lanes) for step in steps])


def test_an_epoch_has_every_picture_once_in_another_order_each_time() -> None:
    found = batches(order(), range(10), lanes=1).reshape(2, 120)
    for epoch in found:
        assert sorted(epoch) == list(range(120))
    assert (found[0] != found[1]).mean() > 0.9


@pytest.mark.parametrize("step", [1, 7, 23])
def test_any_step_is_drawn_without_those_before_it(step: int) -> None:
    whole = batches(order(), range(30))
    assert (batches(order(), range(step, 30)) == whole[step:]).all()
    assert (batches(order(), range(step, step + 1)) == whole[step]).all()


@pytest.mark.parametrize("processes", [2, 4, 6, 8])
def test_any_number_of_processes_sees_together_what_one_sees(processes: int) -> None:
    whole, share = batches(order(), range(30)), BATCH // processes
    parts = [
        batches(order(), range(30), places=range(rank * share, (rank + 1) * share))
        for rank in range(processes)
    ]
    assert (np.concatenate(parts, axis=1) == whole).all()


def test_processes_that_have_whole_lanes_read_other_shards() -> None:
    one, other = Kept(), Kept()
    order(kept=one).positions(0, 0, range(12), BATCH, 4)
    order(kept=other).positions(0, 0, range(12, 24), BATCH, 4)
    assert len(one.now[0]) == len(other.now[0]) == 2 * WINDOW
    assert not {*one.now[0]} & {*other.now[0]}


def test_a_batch_is_of_the_open_shards_and_the_next_ones_are_told_before_they_come() -> None:
    kept = Kept()
    drawn = order(kept=kept)
    told: set[str] = set()
    for step, positions in enumerate(batches(drawn, range(40), lanes=2)):
        here = {SHARDS[position] for position in positions}
        assert here <= {*kept.now[step]}
        assert len(kept.now[step]) <= 2 * 2 * WINDOW  # a lane may end a window and begin the next
        assert step == 0 or here <= told
        told |= {*kept.now[step], *kept.soon[step]}


def test_weights_say_how_often_a_picture_comes() -> None:
    weights = np.linspace(0, 2, 120)
    weights[50:60] = 0  # a whole shard
    weights /= weights.sum()
    counts = np.bincount(batches(order(weights), range(2000)).ravel(), minlength=120)
    assert (counts[weights == 0] == 0).all()
    np.testing.assert_allclose(counts / counts.sum(), weights, atol=0.0008)


def test_seeds_differ_and_one_is_the_same_again() -> None:
    first = batches(order(), range(5))
    assert (first == batches(order(), range(5))).all()
    assert (first != batches(order(), range(5), seed=1)).any()


def test_the_order_is_that_of_the_version_before() -> None:
    """Frozen, so that a run that a version began another one goes on with the same pictures."""
    assert batches(order(), range(1))[0].tolist() == FROZEN


def test_there_are_no_more_lanes_than_places_or_shards() -> None:
    assert order().lanes(64, 24) == 12
    assert order().lanes(64, 5) == 5
    assert order().lanes(3, 24) == 3
    found = [order().positions(0, step, range(5), 5, 64) for step in range(3)]
    assert all(len({*positions.tolist()}) == 5 for positions in found)


FROZEN = [28, 78, 72, 75, 76, 27, 14, 12, 16, 39, 10, 30, 112, 64, 60, 110, 117, 119, 49, 3, 6, 46, 1, 40]
