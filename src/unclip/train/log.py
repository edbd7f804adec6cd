"""The log of a run: metrics as JSON lines, TensorBoard, progress on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from unclip.runtime import atomic_path
from unclip.train.state import writing

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
FIRST_STEPS = 10  # by which the time of all is told


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics file; a line that a killed run left half written is passed over."""
    path = out / METRICS
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


class RunLog:
    """Metrics, TensorBoard and progress of one run; a context manager.

    On resume the lines past `start` are taken out: those steps are done again. Only the process that `writes`
    (of several that train together) writes and says anything.
    """

    def __init__(
        self, out: Path, name: str, start: int, steps: int, *, writes: bool, tensorboard: bool
    ) -> None:
        self.out, self.name, self.start, self.steps, self.writes = out, name, start, steps, writes
        self._file: TextIO | None = None
        self._board: SummaryWriter | None = None
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        if not writes:
            return
        kept = [line for line in read_metrics(out) if line["step"] <= start]
        with writing(out, METRICS):
            with atomic_path(out / METRICS) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            self._file = (out / METRICS).open("a", encoding="utf-8", buffering=1)
        if tensorboard:
            self._board = self._open_board()
        if sys.stderr.isatty():
            self._progress = self._open_progress()
            self._bar = self._progress.add_task(name, total=steps, completed=start, note="")

    def _open_board(self) -> SummaryWriter | None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.say("TensorBoard is not installed (pip install tensorboard): its log is left out")
            return None
        return SummaryWriter(str(self.out / TENSORBOARD), purge_step=self.start + 1)

    def _open_progress(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        progress = Progress(*columns, console=Console(stderr=True))
        progress.start()
        return progress

    def say(self, text: str) -> None:
        """One line for the user."""
        line = f"{self.name}: {text}"
        if self._progress:
            self._progress.console.print(line, markup=False, highlight=False)
        elif self.writes:
            print(line, file=sys.stderr, flush=True)

    def advance(self, step: int) -> None:
        if self._progress and self._bar is not None:
            self._progress.update(self._bar, completed=step)

    def write(
        self, kind: str, step: int, values: Mapping[str, Any], about: Mapping[str, Any] | None = None
    ) -> None:
        """One line of metrics: `kind` is "train" or "evaluate". A number that is not finite becomes null.

        `about` goes into the line and not to TensorBoard.
        """
        if self._file is None:
            return
        line = {"kind": kind, "step": step, **(about or {}), **_finite(values)}
        with writing(self.out, METRICS):
            self._file.write(json.dumps(line) + "\n")
            if self._board is not None:
                for key, value in _flat(values).items():
                    self._board.add_scalar(f"{kind}/{key}", value, step)

    def report(self, step: int, loss: float, rate: float, seconds_left: float) -> None:
        """The state of the run for a person: in the bar on a terminal, else one line."""
        note = f"loss {loss:.4g}  {rate:.4g} pictures/s"
        if self._progress and self._bar is not None:
            self._progress.update(self._bar, completed=step, note=note)
        else:
            self.say(f"{step:,}/{self.steps:,}  {note}  {clock(seconds_left)} left")

    def close(self) -> None:
        if self._progress:
            self._progress.stop()
        if self._board is not None:
            self._board.close()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Window:
    """The values since the last line of the log."""

    def __init__(self, step: int, pictures: int) -> None:
        self.step, self.pictures, self.began = step, pictures, time.monotonic()
        self.values: dict[str, list[float]] = {"loss": [], "gradient_norm": []}
        self.parts: dict[str, list[float]] = {}

    def add(self, loss: float, parts: Mapping[str, float], norm: float) -> None:
        self.values["loss"].append(loss)
        self.values["gradient_norm"].append(norm)
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)

    def means(self) -> dict[str, Any]:
        parts = {name: _mean(values) for name, values in self.parts.items()}
        return {**{name: _mean(values) for name, values in self.values.items()}, "parts": parts}

    def per_second(self, pictures: int) -> float:
        """Pictures per second up to now, when `pictures` have been seen in all."""
        return (pictures - self.pictures) / (time.monotonic() - self.began)


def _mean(values: list[float]) -> float:
    """The mean of the finite ones: a step that was left out does not hide the others."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, float]:
    result: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result.update(_flat(value, f"{where}{key}/"))
        else:
            result[f"{where}{key}"] = float(value)
    return result
