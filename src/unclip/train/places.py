"""The chance of training: what each place of a batch draws, in whichever process its loss is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any, Self

import torch
from torch import Tensor

from unclip.data.corpus import Corpus
from unclip.data.order import Order
from unclip.runtime import noise_generator, noise_seed

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Places:
    """Some places of the batch of one step, each with a random stream of its own.

    Row i of a draw comes from the stream of the i-th of these places alone, which is a function of seed, step
    and place: so a batch is the same in one process, shared out over several, or cut into parts. A draw goes
    on in each stream where the one before it ended.

    Attributes:
        numbers: of the places, from 0 to below `total`.
        total: places of the whole batch.
        seed: of the run.
        step: of the run.
        stream: what is drawn for: a batch, or its loss.
        device: on which draws are made.
        lanes: parts of the whole batch that shards of a streamed corpus are dealt to (`data.order`).
    """

    numbers: Sequence[int]
    total: int
    seed: int = 0
    step: int = 0
    stream: str = "batch"
    device: torch.device = CPU
    lanes: int = 1

    @classmethod
    def whole(cls, size: int, seed: int = 0, step: int = 0, device: torch.device = CPU) -> Self:
        """All places of a batch of so many."""
        return cls(range(size), size, seed, step, device=device)

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def generators(self) -> list[torch.Generator]:
        """The places' streams."""
        stage = f"train/{self.stream}/{self.step}"
        seeds = (noise_seed(self.seed, place, stage) for place in self.numbers)
        return [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    @cached_property
    def common(self) -> torch.Generator:
        """The stream that the whole batch has in common, on the CPU: all that share it must draw alike."""
        return noise_generator(self.seed, self.step, f"train/{self.stream}/common")

    def rand(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape), uniform in [0, 1)."""
        return self._drawn(Tensor.uniform_, shape, dtype)

    def randn(self, *shape: int) -> Tensor:
        """(B, *shape), standard normal."""
        return self._drawn(Tensor.normal_, shape)

    def exponential(self, *shape: int) -> Tensor:
        """(B, *shape), exponential of mean 1."""
        return self._drawn(Tensor.exponential_, shape)

    def randint(self, low: int, high: int, *shape: int) -> Tensor:
        """(B, *shape) int64, from `low` to below `high`."""
        return self._drawn(Tensor.random_, shape, torch.int64, low, high)

    def multinomial(self, weights: Tensor) -> Tensor:
        """(B,) int64, positions in `weights` (N,), each as often as its weight says."""
        return by_weight(weights, self.rand(dtype=torch.float64))

    def randoms(self) -> list[Random]:
        """A random state of Python for each place."""
        return [Random(seed) for seed in self.randint(0, 2**62).tolist()]

    def stratified(self) -> Tensor:
        """(B,) in [0, 1]: the whole batch in random order, spread evenly from a common random offset.

        A mean over a batch varies less so than with independent draws.
        """
        order = torch.randperm(self.total, generator=self.common)
        spread = (order + torch.rand((), generator=self.common)) / self.total
        return spread[list(self.numbers)].to(self.device, non_blocking=True)

    def _drawn(
        self,
        fill_: Callable[..., Tensor],
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        *arguments: Any,
    ) -> Tensor:
        rows = torch.empty(len(self), *shape, dtype=dtype, device=self.device)
        for row, generator in zip(rows, self.generators, strict=True):
            fill_(row, *arguments, generator=generator)
        return rows


def chooser(corpus: Corpus, weights: Tensor) -> Callable[[Places], Tensor]:
    """Chooses pictures (B,) of a corpus by weights (N,) for places: to be drawn first at each.

    Of a corpus in a folder any picture by chance, of a streamed one the next ones of its order.
    """
    order = corpus.order(weights.numpy())
    if order is None:
        return lambda places: places.multinomial(weights)
    return lambda places: in_order(order, places)


def in_order(order: Order, places: Places) -> Tensor:
    """(B,) int64, the pictures of a streamed corpus at these places."""
    numbers = places.numbers
    return torch.from_numpy(order.positions(places.seed, places.step, numbers, places.total, places.lanes))


def by_weight(weights: Tensor, chance: Tensor) -> Tensor:
    """Positions (B,) int64 in weights (N,), where the cumulated weights pass the shares (B,) in [0, 1)."""
    shares = weights.cumsum(0)  # (N,)
    return torch.searchsorted(shares / shares[-1], chance, right=True)
