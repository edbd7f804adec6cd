"""Progress on stderr: a bar a stage in a terminal, one line a stage elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Generator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import typer

from unclip.errors import warn

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

REPORT_SECONDS = 10.0
Result = TypeVar("Result")
DUMB = ("dumb", "unknown")  # terminals that cannot go back to a line


class StageProgress:
    """Shows how far each stage of a piece of work is; stages may take turns.

        with StageProgress() as progress:
            for event in model.stream(prompt):
                progress.update(event.stage, event.step, event.total)

    In a terminal every stage has a bar with the time left. Elsewhere (a pipe, a log file, a terminal that
    cannot go back to a line) a stage that is done writes one line with the time it took. With `quiet`
    nothing is written at all. With `sizes` steps are bytes, and bars show megabytes and their speed. With
    `rates` a bar also says how much is done in a second, and elsewhere a line with rate and time left is
    written every 10 seconds: for work of hours.
    """

    def __init__(self, quiet: bool = False, sizes: bool = False, rates: bool = False) -> None:
        self._quiet = quiet
        self._sizes = sizes
        self._rates = rates
        self._reported = time.monotonic()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._seconds: dict[str, float] = defaultdict(float)  # of the stages whose line is not written yet
        self._latest = time.monotonic()

    def __enter__(self) -> Self:
        self._latest = time.monotonic()
        if not self._quiet and sys.stderr.isatty() and os.environ.get("TERM") not in DUMB:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            self._bars = Progress(
                TextColumn("{task.description:>16}"),
                BarColumn(),
                *((DownloadColumn(), TransferSpeedColumn()) if self._sizes else (MofNCompleteColumn(),)),
                *([_rate_column()] if self._rates else []),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=Console(stderr=True),
                redirect_stdout=False,  # results are not progress: stdout may be a pipe
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
            for stage in list(self._seconds):  # those whose total was not known
                self._finish(stage)

    def update(self, stage: str, step: int, total: int) -> None:
        """Says that `step` of `total` steps of `stage` are done; a total of 0 is not known yet."""
        if self._bars is None:
            now = time.monotonic()
            self._seconds[stage] += now - self._latest
            self._latest = now
            if total and step >= total:
                self._finish(stage)
            elif self._rates and step and total and now - self._reported >= REPORT_SECONDS:
                self._reported = now
                self._report(stage, step, total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total or None, completed=step)
        self._bars.update(self._tasks[stage], completed=step, total=total or None)

    def follow(self, work: Generator[tuple[str, int, int], None, Result]) -> Result:
        """Shows the steps (stage, step, total) that work yields, and returns what it returns."""
        while True:
            try:
                stage, step, total = next(work)
            except StopIteration as stop:
                found: Result = stop.value
                return found
            self.update(stage, step, total)

    def print(self, text: str) -> None:
        """Writes a line to stderr without breaking the bars; terminal colours in it are kept."""
        if self._quiet:
            return
        if self._bars is None:
            print(text, file=sys.stderr)
        else:
            from rich.text import Text

            self._bars.console.print(Text.from_ansi(text))

    def print_result(self, text: str) -> None:
        """Writes a line to stdout; in the terminal of the bars above them, or they would wipe it."""
        if self._bars is not None and _one_terminal():
            from rich.text import Text

            self._bars.console.print(Text(text), soft_wrap=True)
        else:
            typer.echo(text)

    def _report(self, stage: str, step: int, total: int) -> None:
        rate = step / max(self._seconds[stage], 1e-9)
        if not self._quiet:
            left = timedelta(seconds=round((total - step) / rate))
            print(f"{stage}: {step} of {total}, {rate:.3g}/s, {left} left", file=sys.stderr)

    def _finish(self, stage: str) -> None:
        seconds = self._seconds.pop(stage)
        if not self._quiet:
            print(f"{stage}: {seconds:.1f} s", file=sys.stderr)


def without_colours() -> str:
    """The environment variable that forbids colours, for a message; empty where they may be shown."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        return "NO_COLOR"
    return "TERM" if os.environ.get("TERM") in DUMB else ""


def check_preview() -> bool:
    """True where pictures can be shown in the terminal; else a warning says why they are not."""
    if variable := without_colours():
        warn(f"{variable}={os.environ[variable]} allows no colours: the pictures are not shown")
    return not variable


def _one_terminal() -> bool:
    """True where stdout and stderr are one terminal: then it does not matter which is written to."""
    return sys.stdout.isatty() and os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())


def _rate_column() -> ProgressColumn:
    """Pieces a second, once that is known."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    return Rate()
