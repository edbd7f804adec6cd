"""A job that is not over, and how whoever waits for it hears of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from torch import Tensor

from unclip.drawing import Picture
from unclip.policy.guard import Withheld
from unclip.serve.contract import Asked
from unclip.serve.errors import ApiError
from unclip.serve.jobs import State, Stored
from unclip.serve.worker import Task


@dataclass(eq=False)
class Live:
    """A job that is not over.

    Attributes:
        id, asked, owner, kept: see `jobs.Job`.
        who: whom admission counts it for.
        work: pixels times steps.
        ahead: work that was there before it came.
        state: how far it is.
        stage, step, total: what is being done.
        fraction: how much of it is done, 0 to 1.
        preview: (1, 3, S, S) the picture as it looks by now.
        partials: the pictures on the way that a stream shall show.
        pictures: when it is done.
        withheld: those that the policy does not let out.
        stored: of those that are let out, what is on disk.
        error: what went wrong.
        tokens: of the prompt, as many as are read.
        told: seconds that the work said when it was let in, its own and what was ahead.
        ended: set when it is over.
    """

    id: str
    asked: Asked
    owner: str
    who: str
    kept: bool
    work: int
    ahead: int
    created: float = field(default_factory=time.time)
    state: State = State.QUEUED
    stage: str = ""
    step: int = 0
    total: int = 0
    fraction: float = 0.0
    preview: Tensor | None = None
    partials: list[Tensor] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: ApiError | None = None
    tokens: int = 0
    told: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    task: Task | None = None
    listeners: set[asyncio.Event] = field(default_factory=set)

    @property
    def kind(self) -> str:
        """Jobs of one kind take alike long for their work."""
        return f"{self.asked.bundle} {self.asked.verb} {self.asked.size}"

    def notify(self) -> None:
        for listener in self.listeners:
            listener.set()

    async def changes(self) -> AsyncIterator[None]:
        """Comes by whenever something has changed, and at last when the job is over."""
        changed = asyncio.Event()
        self.listeners.add(changed)
        try:
            while not self.ended.is_set():
                yield
                await changed.wait()
                changed.clear()
        finally:
            self.listeners.discard(changed)
