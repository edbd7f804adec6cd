"""Where pictures are drawn: the contract of a worker, and the tasks that it is given.

There are two workers: `scheduler.Scheduler`, a thread of this process, and `replicas.Replicas`, which hands
tasks to the schedulers of other processes. Whoever submits does not know which it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from unclip.drawing import Event, Picture
from unclip.errors import UnclipError
from unclip.model import Model

Result = TypeVar("Result")
Begin = Callable[[Model], Iterator[Event]]
"""Makes events of a model: a verb with its arguments. It may be pickled, and called more than once."""
Observe = Callable[[str, int, float], None]
"""Hears of each batch: the stage, its rows, and the seconds that it took."""


class Cancelled(UnclipError):
    """Nobody wants the pictures any more."""


class OutOfMemory(UnclipError):
    """There is not enough memory for a picture, not even alone."""


@dataclass(eq=False)
class Task:
    """A request on its way.

    Attributes:
        bundle: name of the bundle that draws.
        begin: the verb; it is called by the worker, and refuses what is wrong.
        prompt: whose tokens are counted.
        every_estimate: whether somebody looks at each estimate, and not at the newest alone.
        tell: hears of the events; called in a thread of the worker's, as the next.
        end: is given the pictures, or what went wrong.
        arrived: orders the tasks.
        warnings, tokens, seconds: what was warned of, the prompt's tokens that are read, and the computing
            time; known when it ends.
    """

    bundle: str
    begin: Begin
    prompt: str = ""
    every_estimate: bool = False
    tell: Callable[[Event], None] = lambda event: None
    end: Callable[[Sequence[Picture] | Exception], None] = lambda outcome: None
    arrived: int = 0
    warnings: list[str] = field(default_factory=list)
    tokens: int = 0
    cancelled: bool = False
    seconds: float = 0.0
    # the scheduler's own
    _events: Iterator[Event] | None = None
    _inbox: deque[Event] = field(default_factory=deque)
    _failure: Exception | None = None
    _finished: list[Picture] = field(default_factory=list)
    _waits: bool = False


class Worker(Protocol):
    """Draws what is submitted, until it is stopped. Its methods may be called from any thread."""

    def start(self) -> None:
        """Begin to work. May be called once."""

    def submit(self, task: Task) -> None:
        """Draw a task; it hears of its end whatever happens."""

    def cancel(self, task: Task) -> None:
        """End a task before the next step that it would take. What has ended is left as it is."""

    def with_model(self, bundle: str, work: Callable[[Model], Result]) -> Future[Result]:
        """Do something with a model, between two steps. `work` and what it returns may be pickled."""

    def load(self, bundle: str) -> Future[None]:
        """Have a bundle read its networks, as a first picture would."""

    def unload(self, bundle: str) -> Future[None]:
        """Let a bundle's networks go."""

    @property
    def loaded(self) -> Collection[str]:
        """Names of the bundles whose networks are in memory."""

    def stop(self) -> None:
        """End when nothing is left to draw."""

    def join(self) -> None:
        """Wait for the end."""

    def is_alive(self) -> bool:
        """Can something be drawn?"""
