"""Progress on stderr: a bar a stage in a terminal, one line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class StageProgress:
    """Shows how far each stage of a piece of work is.

        with StageProgress() as progress:
            for event in model.stream(prompt):
                progress.update(event.stage, event.step, event.total)

    In a terminal every stage has a bar with the time left. Elsewhere (a pipe, a log file) a stage that is
    done writes one line with the time it took. With `quiet` nothing is written at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stage: str | None = None
        self._started = 0.0

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description:>16}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        elif kind is None:
            self._finish_line()

    def update(self, stage: str, step: int, total: int) -> None:
        """Says that `step` of `total` steps of `stage` are done. A new name begins a new stage."""
        if stage != self._stage:
            self._finish_line()
            self._stage, self._started = stage, time.monotonic()
        if self._bars is None:
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=step, total=total)

    def print(self, text: str) -> None:
        """Writes a line to stderr without breaking the bars; terminal colours in it are kept."""
        if self._quiet:
            return
        if self._bars is None:
            print(text, file=sys.stderr)
        else:
            from rich.text import Text

            self._bars.console.print(Text.from_ansi(text))

    def _finish_line(self) -> None:
        if self._stage is not None and self._bars is None and not self._quiet:
            print(f"{self._stage}: {time.monotonic() - self._started:.1f} s", file=sys.stderr)
        self._stage = None
