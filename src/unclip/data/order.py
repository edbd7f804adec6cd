"""The order in which a streamed corpus is read: by shards, of (seed, epoch, lane) alone.

A batch is cut into lanes, and each lane reads shards of its own: so the processes of many machines, each of
which computes some of the lanes, fetch different shards, and any number of them sees the same pictures. In
each epoch all shards are dealt to the lanes anew; a lane opens a few at a time (a window) and takes their
pictures in random order. Where a run goes on follows from its step: there is no position to be saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from unclip.runtime import noise_seed

WINDOW = 2  # shards that a lane has open at a time
DEALS = 4  # epochs whose deals are kept: lanes come to an epoch's end one after the other


@dataclass
class _Lane:
    """The standing of a lane: sample k of it is sample k - starts[epoch] of an epoch."""

    starts: list[int] = field(default_factory=lambda: [0])
    epoch: int = -1  # of what follows
    windows: list[tuple[list[int], np.ndarray]] = field(default_factory=list)  # shards, positions in order
    ends: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # of the windows, in the epoch
    open: dict[int, None] = field(default_factory=dict)  # the shards that the last batch was taken from
    soon: Sequence[int] = ()  # those of the window after it


class Order:
    """Draws positions of a corpus, each in an epoch as often as its weight says.

    A picture with weight w of N with a weight comes floor(w N + u) times in an epoch, u uniform in [0, 1): in
    the mean w N times.

    Args:
        weights: (N,), of sum 1.
        shards: the name of the shard of each picture.
        keep: is told the shards that are read now, and those that are read next.
    """

    def __init__(
        self,
        weights: np.ndarray,
        shards: Sequence[str],
        keep: Callable[[list[str], list[str]], None],
    ) -> None:
        drawn = np.flatnonzero(weights > 0)
        names, number = np.unique(np.array(shards)[drawn], return_inverse=True)
        self.names: list[str] = names.tolist()
        self._rows = [drawn[number == shard] for shard in range(len(names))]
        self._expected = weights / weights.sum() * len(drawn)
        self._keep = keep
        self._lanes: dict[tuple[int, int, int], _Lane] = {}  # by seed, number of lanes, lane
        self._deals: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # by seed, epoch

    def lanes(self, asked: int, total: int) -> int:
        """The number of lanes: as many as are asked for, if there are as many places and shards."""
        return max(1, min(asked, total, len(self.names)))

    def positions(self, seed: int, step: int, numbers: Sequence[int], total: int, lanes: int) -> np.ndarray:
        """(B,) int64, the pictures at the places `numbers` of the `total` places of a step's batch."""
        lanes = self.lanes(lanes, total)
        of = [place * lanes // total for place in numbers]
        for lane in {*of}:
            self._lanes.setdefault((seed, lanes, lane), _Lane()).open = {}
        found = []
        for place, lane in zip(numbers, of, strict=True):
            first = -(-lane * total // lanes)  # place of the lane
            size = -(-(lane + 1) * total // lanes) - first
            found.append(self._sample(seed, lanes, lane, step * size + place - first))
        # a batch that is cut into parts comes back to the lanes of the others
        here = [state for (own, count, _), state in self._lanes.items() if (own, count) == (seed, lanes)]
        now = dict.fromkeys(shard for state in here for shard in state.open)
        soon = dict.fromkeys(shard for state in here for shard in state.soon if shard not in now)
        self._keep([self.names[k] for k in now], [self.names[k] for k in soon])
        return np.array(found, np.int64)

    def _sample(self, seed: int, lanes: int, lane: int, k: int) -> int:
        """The picture of sample k of a lane."""
        state = self._lanes[seed, lanes, lane]
        while state.starts[-1] <= k:
            counts, dealt = self._deal(seed, len(state.starts) - 1)
            length = sum(int(counts[self._rows[shard]].sum()) for shard in dealt[lane::lanes])
            state.starts.append(state.starts[-1] + length)
        epoch = int(np.searchsorted(state.starts, k, side="right")) - 1
        if epoch != state.epoch:
            state.epoch, state.windows = epoch, self._windows(seed, epoch, lanes, lane)
            state.ends = np.cumsum([len(rows) for _, rows in state.windows])
        within = k - state.starts[epoch]
        window = int(np.searchsorted(state.ends, within, side="right"))
        shards, rows = state.windows[window]
        state.open |= dict.fromkeys(shards)
        if window + 1 < len(state.windows):
            state.soon = state.windows[window + 1][0]
        else:
            state.soon = self._deal(seed, epoch + 1)[1][lane::lanes][:WINDOW].tolist()
        return int(rows[within - (state.ends[window] - len(rows))])

    def _windows(self, seed: int, epoch: int, lanes: int, lane: int) -> list[tuple[list[int], np.ndarray]]:
        counts, dealt = self._deal(seed, epoch)
        own = dealt[lane::lanes].tolist()
        random = _random(seed, epoch, f"lane {lane} of {lanes}")
        windows = []
        for start in range(0, len(own), WINDOW):
            shards = own[start : start + WINDOW]
            rows = np.concatenate([self._rows[shard] for shard in shards])
            rows = np.repeat(rows, counts[rows])
            windows.append((shards, rows[_shuffled(random, len(rows))]))
        return windows

    def _deal(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The times that each picture comes in an epoch (N,), and the shards in the order of their deal."""
        if (seed, epoch) not in self._deals:
            random = _random(seed, epoch, "deal")
            counts = np.floor(self._expected + random.random(len(self._expected))).astype(np.int64)
            counts[self._expected == 0] = 0
            if len(self._deals) == DEALS:
                del self._deals[min(self._deals)]
            self._deals[seed, epoch] = counts, _shuffled(random, len(self.names))
        return self._deals[seed, epoch]


def _random(seed: int, epoch: int, what: str) -> np.random.Generator:
    return np.random.default_rng(noise_seed(seed, epoch, f"stream/{what}"))


def _shuffled(random: np.random.Generator, count: int) -> np.ndarray:
    """0 to below `count` in random order, by uniform numbers: how numpy permutes may change."""
    return np.argsort(random.random(count), kind="stable")
