"""Published models that are fetched while the server answers, one at a time, each with its progress."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unclip.catalogue import Published
from unclip.checkpoints.download import Transfer
from unclip.checkpoints.pulling import pull
from unclip.errors import UnclipError
from unclip.runtime import data_folder
from unclip.serve.jobs import State
from unclip.serve.log import log

IN_THE_LOG = "it failed: see the server's log"


@dataclass
class Pull:
    """A model on its way.

    Attributes:
        state: as of a job.
        stage: the file that comes, or the step of the conversion.
        done, total: of the file, in bytes; 0 where that is not known, and in the conversion.
        error: what went wrong, for a person.
    """

    model: Published
    state: State = State.QUEUED
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str | None = None
    stopped: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """As it is told of."""
        return {
            "state": str(self.state),
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "error": self.error,
        }


class Pulls:
    """The models that are fetched. Its methods may be called from any thread.

    Args:
        fetched: told the name of a model whose bundle stands.
    """

    def __init__(self, fetched: Callable[[str], None] = lambda name: None) -> None:
        self.fetched = fetched
        self.found: dict[str, Pull] = {}
        self._waiting: queue.SimpleQueue[Pull | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, model: Published) -> Pull:
        """Fetch a model, after those that came before; the one on its way where there is."""
        there = self.found.get(model.name)
        if there is not None and not there.state.ended:
            return there
        begun = self.found[model.name] = Pull(model)
        self._waiting.put(begun)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="unclip-pulls", daemon=True)
            self._thread.start()
        return begun

    def cancel(self, name: str) -> None:
        """Stop fetching a model; what has come stays, and the next time goes on from there."""
        if (there := self.found.get(name)) is not None:
            there.stopped = True

    def stop(self) -> None:
        """End at the next piece that comes."""
        for one in self.found.values():
            one.stopped = True
        self._waiting.put(None)

    def _work(self) -> None:
        while (one := self._waiting.get()) is not None:
            if one.stopped:
                one.state = State.CANCELLED
                continue
            one.state = State.RUNNING
            try:
                self._pull(one)
            except UnclipError as error:
                log("failed", pull=one.model.name, error=str(error))
                one.error, one.state = _told(str(error)), State.FAILED
            except Exception as error:  # whatever it is, it must not end the thread
                log("failed", pull=one.model.name, error=repr(error))
                one.error, one.state = IN_THE_LOG, State.FAILED

    def _pull(self, one: Pull) -> None:
        for event in pull(one.model):
            if isinstance(event, Transfer):
                one.stage, one.done, one.total = event.file, event.done, event.total
            else:
                one.stage, one.done, one.total = event.stage, event.done, 0
            if one.stopped:
                one.state = State.CANCELLED
                return
        self.fetched(one.model.name)
        one.state = State.DONE


def _told(message: str) -> str:
    """An error for whoever asks: without what the owner may do by hand, and without paths of the server."""
    said = message.partition("; by hand")[0]
    return IN_THE_LOG if str(data_folder()) in said else said
