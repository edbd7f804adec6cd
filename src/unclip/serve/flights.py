"""Batches under way that take their steps together: rows at different steps share the calls of a network.

A sampler is a generator that calls its network in the middle of a step. So that several can wait there for
one call, each runs in a greenlet: where its network is called it goes aside, the calls of all are joined
along their rows, computed as one, and each goes on with its own rows. A row's label says its step; nothing
else of a network knows of one. While a greenlet stands aside no setting of torch's is its own: the call is
computed outside of its contexts, and `step` holds those that all of them enter.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import Tensor

from unclip.model import Model
from unclip.pipeline import Part, Piece
from unclip.runtime import return_freed_memory
from unclip.stages.networks import Call, Networks
from unclip.stages.painting import Painting
from unclip.stages.stage import Stage


def can_fly(stage: Stage, networks: Networks) -> bool:
    """Can rows at different steps share the calls of a stage? They can where it paints from noise.

    What enlarges fills a processor with a picture or two. Exact pictures are computed one by one.
    """
    paints = isinstance(stage, Painting) and not stage.enlarges and stage.at_once is None
    return paints and not networks.exact


class _Aside(greenlet):
    """Where a batch runs; its network's calls are computed by whoever let it go on."""

    def hand(self, found: Call | Piece) -> Any:
        """Give something to that one, and come back with the answer."""
        assert self.parent is not None
        return self.parent.switch(found)


def share(call: Call) -> Tensor | None:
    """Have a call computed with those of others, where a batch is under way; None where none is."""
    aside = getcurrent()
    if not isinstance(aside, _Aside):
        return None
    output: Tensor = aside.hand(call)
    return output


@dataclass(eq=False)
class Flight:
    """A batch under way through a stage.

    Attributes:
        part: its jobs.
        model: draws them.
        bundle: the name that it is served by.
        arrived: orders them among what waits.
        steps, done: how many steps it takes, and has taken.
        most: rows that shared a call with its own, at most, and its own.
        seconds: its share of the time.
    """

    part: Part
    model: Model
    bundle: str
    arrived: tuple[int, int]
    done: int = 0
    most: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.steps = self.stage.steps(self.part.batch.jobs)
        self.model.networks.share = share
        self._aside = _Aside(self._run)

    @property
    def stage(self) -> Stage:
        return self.part.left[0]

    def _run(self, _: Any = None) -> Part:
        work = self.model.advanced(self.part)
        try:
            while True:
                try:
                    piece = next(work)
                except StopIteration as stop:
                    after: Part = stop.value
                    return after
                self._aside.hand(piece)
        finally:
            work.close()

    def goes_on(self, answer: Any = None) -> Call | Piece | Part:
        """Go on until a call is to be computed, a step is done, or all are. Raises what it fails with."""
        if isinstance(answer, Exception):
            found: Call | Piece | Part = self._aside.throw(answer)
        else:
            found = self._aside.switch(answer)
        return found

    def end(self) -> None:
        """Stop between two steps."""
        if self._aside:
            self._aside.throw(GreenletExit)


class Joined:
    """The conditions of calls that are made together, joined once for all the steps that they share."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Any, ...], Any] = ((), None)

    def of(self, conditions: tuple[Any, ...]) -> Any:
        """Several conditions as one of all their rows."""
        before, joined = self._last
        if len(before) != len(conditions) or any(a is not b for a, b in zip(before, conditions, strict=True)):
            joined = _together(conditions)
            self._last = (conditions, joined)
        return joined


def step(flights: Sequence[Flight], joined: Joined) -> list[tuple[Flight, Piece | Part | Exception]]:
    """Have each flight of a model take a step.

    Returns:
        Of each the piece of work that is done, the part behind the stage, or what went wrong.
    """
    networks = flights[0].model.networks
    told: list[tuple[Flight, Piece | Part | Exception]] = []
    asking: list[tuple[Flight, Call]] = []

    def advance(flight: Flight, answer: Tensor | Exception | None) -> None:
        try:
            found = flight.goes_on(answer)
        except Exception as error:
            told.append((flight, error))
            return
        if isinstance(found, Call):
            asking.append((flight, found))
        else:
            told.append((flight, found))

    with networks.settled(), torch.no_grad():
        for flight in flights:
            advance(flight, None)
        while asking:
            answers = list(_answers(asking, networks, joined))
            asking.clear()
            for flight, answer in answers:
                advance(flight, answer)
    return told


def _answers(
    asking: Sequence[tuple[Flight, Call]], networks: Networks, joined: Joined
) -> Iterator[tuple[Flight, Tensor | Exception]]:
    """The output of each call: those of one network and shape are computed as one."""
    alike: dict[Hashable, list[tuple[Flight, Call]]] = {}
    for flight, call in asking:
        key = (id(call.network), call.x.shape[1:], call.x.dtype, call.label.dtype, _form(call.condition))
        alike.setdefault(key, []).append((flight, call))
    for group in alike.values():
        calls = [call for _, call in group]
        rows = sum(len(flight.part) for flight, _ in group)
        for flight, _ in group:
            flight.most = max(flight.most, rows)
        try:
            outputs = _computed(calls, networks, joined)
        except Exception as error:
            if len(group) == 1:
                yield group[0][0], error
                continue
        else:
            yield from ((flight, output) for (flight, _), output in zip(group, outputs, strict=True))
            continue
        return_freed_memory()
        for flight, call in group:  # what fails in company may do alone
            try:
                yield flight, networks.computed(call)
            except Exception as error:
                yield flight, error


def _computed(calls: Sequence[Call], networks: Networks, joined: Joined) -> Sequence[Tensor]:
    if len(calls) == 1:
        return (networks.computed(calls[0]),)
    x, label = (torch.cat([getattr(call, name) for call in calls]) for name in ("x", "label"))
    condition = joined.of(tuple(call.condition for call in calls))
    output = networks.computed(Call(calls[0].network, x, label, condition))
    return output.split([len(call.x) for call in calls])


def _form(condition: Any) -> Hashable:
    """All of a condition but its rows: conditions of one form can be joined."""
    if isinstance(condition, Tensor):
        return (condition.shape[1:], condition.dtype)
    if isinstance(condition, tuple):
        return tuple(map(_form, condition))
    if is_dataclass(condition):
        return (type(condition), *(_form(getattr(condition, item.name)) for item in fields(condition)))
    setting: Hashable = condition
    return setting


def _together(several: Sequence[Any]) -> Any:
    """Conditions of one form as one, along their rows."""
    first = several[0]
    if isinstance(first, Tensor):
        return torch.cat(list(several))
    if isinstance(first, tuple):
        return tuple(_together(parts) for parts in zip(*several, strict=True))
    if is_dataclass(first) and not isinstance(first, type):
        names = [item.name for item in fields(first)]
        return replace(first, **{name: _together([getattr(one, name) for one in several]) for name in names})
    return first
