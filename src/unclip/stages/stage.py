"""The stage, a step from prompts to pictures, and the batch that goes from one stage to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from unclip.drawing import Job
from unclip.embedding import TextRows

Estimate = Tensor | None
"""(B, 3, S, S), what a piece of work takes the pictures to become; None where nothing can be seen yet."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Batch:
    """Jobs that go through the stages together, and what is known of them by now.

    Attributes:
        jobs: B of them.
        text: their prompts as CLIP reads them.
        features: (B, L, W) their prompts as the network that paints reads them.
        read: the same as what writes codes reads them, of the whole batch.
        embeddings: (B, E) CLIP's image embeddings.
        codes: (B, N) of their pictures.
        images: (B, 3, S, S) in [-1, 1], as large as they are by now.
        scores: how well each picture fits its prompt; None where that is not known.
    """

    jobs: tuple[Job, ...]
    text: TextRows | None = None
    features: Tensor | None = None
    read: Any = None
    embeddings: Tensor | None = None
    codes: Tensor | None = None
    images: Tensor | None = None
    scores: tuple[float | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.jobs)

    def rows(self, rows: Sequence[int]) -> Batch:
        """Some of the jobs, in another order perhaps, with what is known of each."""
        if list(rows) == list(range(len(self))):
            return self

        def some(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[list(rows)]
            if isinstance(value, TextRows):
                return value.rows(rows)
            return tuple(value[row] for row in rows)

        return replace(self, **{name: some(value) for name, value in self._known().items()})

    def joins(self, other: Batch) -> bool:
        """Can the two be one batch? They can where the same is known of both, of pictures of one size."""
        own, others = self._known(), other._known()
        if own.keys() != others.keys() or self.read is not None or other.read is not None:
            return False
        tensors = [(own[name], others[name]) for name in own if isinstance(own[name], Tensor)]
        return all(a.shape[1:] == b.shape[1:] for a, b in tensors)

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Several as one, in their order, all of which join the first."""
        if len(batches) == 1:
            return batches[0]

        def together(values: Sequence[Any]) -> Any:
            if isinstance(values[0], Tensor):
                return torch.cat(list(values))
            if isinstance(values[0], TextRows):
                return TextRows.joined(values)
            return tuple(item for value in values for item in value)

        known = [batch._known() for batch in batches]
        return cls(**{name: together([one[name] for one in known]) for name in known[0]})

    def _known(self) -> dict[str, Any]:
        """The jobs and what is known of each, by the name of the field."""
        known = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "read"}
        return {name: value for name, value in known.items() if value is not None}


class Stage(ABC):
    """A step from prompts to pictures.

    Attributes:
        name: what events call it.
        shows: whether its estimates are of pictures.
        at_once: jobs that go through this stage and all behind it together; None is as many as come.
    """

    name: str
    shows: bool = True
    at_once: int | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """Parts of the bundle whose networks it needs, all of them at one time or one after the other."""
        return ()

    def steps(self, jobs: Sequence[Job]) -> int:
        """Of how many pieces of work `run` will tell, with a batch of these jobs."""
        return 0

    @abstractmethod
    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        """Do the work, telling of each piece with the estimate that it gave."""

    def calls(self, jobs: Sequence[Job]) -> list[list[int]]:
        """The rows of each call of its network: those of different calls gain nothing by each other."""
        return [list(range(len(jobs)))]

    def left(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """As many of the jobs as go on to the next stage."""
        return jobs

    def settings(self, job: Job) -> Mapping[str, str]:
        """The texts that the picture's metadata hold of this stage."""
        return {}


def chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    """The items in lists of at most `size` (at least 1), in their order."""
    size = max(1, size)
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def alike(keys: Sequence[Hashable], size: int) -> list[list[int]]:
    """Positions of what has one key, in lists of at most `size`."""
    positions: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        positions.setdefault(key, []).append(position)
    return [chunk for same in positions.values() for chunk in chunks(same, size)]


def finished(work: Generator[Any, None, Result]) -> Result:
    """The result of a piece of work, done to its end."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def images_of(stage: Stage, batch: Batch) -> Tensor:
    """The pictures (B, 3, S, S) that a stage makes of a batch."""
    images = finished(stage.run(batch)).images
    assert images is not None  # not every stage makes some
    return images
