"""The speed of a bundle here, and what the time and the memory go to."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unclip import __version__
from unclip.config import to_dict
from unclip.errors import InputError, UnclipError
from unclip.processes import cores
from unclip.runtime import peak_memory_bytes, processor_name

if TYPE_CHECKING:
    import torch

    from unclip.evaluate.encoder import Step
    from unclip.pipeline import Pipeline

PROMPT = "a red apple"
COUNTS = (1, 4)  # pictures at once
MATRIX = 2048  # side of the matrices whose product is taken as the machine's peak
PRODUCTS = 20


@dataclass(frozen=True)
class Machine:
    """The machine that was measured on; nothing that names its owner.

    `cores` are those that this process may use; `precision` is what networks compute in.
    """

    processor: str
    cores: int
    threads: int
    device: str
    precision: str
    system: str
    python: str
    torch: str
    unclip: str
    model: str
    weights: str


@dataclass(frozen=True)
class Cold:
    """One picture in a new process, from the command to its end: medians, in seconds.

    `stages` begin with "start" (Python itself, the command line) and "import" (torch and the rest); their sum
    is `total`. `peak_memory_bytes` is the largest resident set of all runs.
    """

    help: float
    total: float
    stages: dict[str, float]
    peak_memory_bytes: int


@dataclass(frozen=True)
class Warm:
    """Pictures drawn by a loaded model: medians, in seconds."""

    pictures: int
    total: float
    stages: dict[str, float]


@dataclass(frozen=True)
class Decoder:
    """The decoder's share of the machine.

    Attributes:
        pictures: drawn at once.
        gigaflop: in convolutions and matrix products, 10^9 operations, all steps and both halves of guidance.
        gigaflop_per_second: with everything else that its stage does in the time.
        peak_gigaflop_per_second: of a product of two square matrices in the same precision.
        share: the one of the other.
    """

    pictures: int
    gigaflop: float
    gigaflop_per_second: float
    peak_gigaflop_per_second: float
    share: float


@dataclass(frozen=True)
class Report:
    """All of it. `peak_memory_bytes` is this process's, after everything warm."""

    machine: Machine
    size: int
    repeats: int
    cold: Cold
    warm: tuple[Warm, ...]
    decoder: Decoder | None  # where the family has one
    peak_memory_bytes: int


Run = tuple[float, dict[str, float], int]
"""Seconds, seconds of each stage, peak memory in bytes."""

Result = TypeVar("Result")


class Benchmark:
    """Measures; `run` tells of its progress, then `report` is there.

    Args:
        source: a bundle's name or folder; None is the shipped one.
        device: as in `unclip.load`.
        size: side of the pictures in pixels.
        repeats: of each measurement, at least 1.
    """

    def __init__(
        self, source: str | None = None, device: str | None = None, size: int = 256, repeats: int = 5
    ) -> None:
        if repeats < 1:
            raise InputError(f"repeats is {repeats}: choose 1 or more")
        self._source, self._device, self._size, self._repeats = source, device, size, repeats
        self.report: Report | None = None

    def run(self) -> Generator[Step, None, None]:
        """Do the measurements, cold ones first: a large parent would count as its children's memory."""
        helps = yield from self._repeated("help", lambda: _timed_process("--help")[0])
        runs = yield from self._repeated("cold", self._cold_run)
        cold = _cold(statistics.median(helps), runs)
        from unclip.model import load

        model = load(self._source, device=self._device)
        warm = []
        for count in COUNTS:
            self._draw(model, count)  # what is only done once is done now
            draws = yield from self._repeated(f"warm {count}", partial(self._draw, model, count))
            warm.append(Warm(count, *_medians(draws)))
        peak = peak_memory_bytes()
        yield "decoder", 0, 1
        decoder = self._decoder(model, warm[-1])
        yield "decoder", 1, 1
        self.report = Report(
            machine=_machine(model),
            size=self._size,
            repeats=self._repeats,
            cold=cold,
            warm=tuple(warm),
            decoder=decoder,
            peak_memory_bytes=peak,
        )

    def _repeated(self, stage: str, measure: Callable[[], Result]) -> Generator[Step, None, list[Result]]:
        results = []
        for done in range(self._repeats):
            results.append(measure())
            yield stage, done + 1, self._repeats
        return results

    def _cold_run(self) -> Run:
        """Seconds, seconds of the stages, and peak bytes of one `unclip generate`."""
        with tempfile.TemporaryDirectory() as folder:
            command = ["generate", PROMPT, "--seed", "1", "--size", str(self._size), "--json"]
            command += ["--out", str(Path(folder) / "{n}.png")]
            command += ["--model", self._source] if self._source else []
            command += ["--device", self._device] if self._device else []
            total, output = _timed_process(*command)
        document = json.loads(output)
        stages = document["seconds"]
        inside = stages.pop("total")
        return total, {"start": total - inside, **stages}, document["peak_memory_bytes"]

    def _draw(self, model: Pipeline, count: int) -> Run:
        """Seconds and seconds of the stages for so many pictures."""
        stages: dict[str, float] = {}
        started = time.perf_counter()
        for event in model.stream(PROMPT, n=count, size=self._size, seed=1):
            stages[event.stage] = stages.get(event.stage, 0.0) + event.seconds
        return time.perf_counter() - started, stages, 0

    def _decoder(self, model: Pipeline, warm: Warm) -> Decoder | None:
        if model.bundle.family != "unclip":
            return None
        from torch.utils.flop_counter import FlopCounterMode

        from unclip.nn.packed import can_pack, flop_formulas

        formulas = flop_formulas() if can_pack(model.device, model.precision) else {}
        with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
            self._draw(model, warm.pictures)
        flop = sum(counter.get_flop_counts()["Decoder"].values())
        peak = _peak_flop_per_second(model.device, model.precision)
        reached = flop / warm.stages["decoder"]
        return Decoder(warm.pictures, flop / 1e9, reached / 1e9, peak / 1e9, reached / peak)


def table(report: Report) -> str:
    """A report for people."""
    machine = report.machine
    lines = [
        f"{machine.processor}, {machine.cores} cores, {machine.precision} on {machine.device}, "
        f"torch {machine.torch}; {machine.model} at {report.size} px, medians of {report.repeats}",
        f"unclip --help                {report.cold.help:7.2f} s",
        f"1 picture, new process       {report.cold.total:7.2f} s",
        *_stage_lines(report.cold.stages),
    ]
    for warm in report.warm:
        lines.append(f"{warm.pictures} picture{'s' * (warm.pictures > 1)}, loaded model".ljust(28))
        lines[-1] += f" {warm.total:7.2f} s"
        lines += _stage_lines(warm.stages)
    memory = max(report.cold.peak_memory_bytes, report.peak_memory_bytes)
    decoder = report.decoder
    lines.append(f"peak memory                  {memory / 2**20:7.0f} MiB")
    if decoder is not None:
        lines.append(
            f"decoder                      {decoder.gigaflop_per_second:7.0f} GFLOP/s, {decoder.share:.0%} "
            f"of the {decoder.peak_gigaflop_per_second:.0f} GFLOP/s of a matrix product"
        )
    return "\n".join(lines)


def document(report: Report) -> dict[str, Any]:
    """A report as JSON would hold it, times to a tenth of a millisecond."""
    text = json.dumps(to_dict(report))
    rounded: dict[str, Any] = json.loads(text, parse_float=lambda number: round(float(number), 4))
    return rounded


def _stage_lines(stages: dict[str, float]) -> list[str]:
    return [f"  {stage:<26} {seconds:7.3f} s" for stage, seconds in stages.items()]


def _timed_process(*arguments: str) -> tuple[float, str]:
    """Seconds that `unclip` takes in a new process, and what it prints."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "unclip", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise UnclipError(process.stderr.strip().splitlines()[-1].removeprefix("unclip: error: "))
    return seconds, process.stdout


def _medians(runs: list[Run]) -> tuple[float, dict[str, float]]:
    stages = {stage: statistics.median(run[1][stage] for run in runs) for stage in runs[0][1]}
    return statistics.median(run[0] for run in runs), stages


def _cold(help_seconds: float, runs: list[Run]) -> Cold:
    return Cold(help_seconds, *_medians(runs), max(run[2] for run in runs))


def _peak_flop_per_second(device: torch.device, precision: torch.dtype) -> float:
    import torch

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    a = torch.randn(MATRIX, MATRIX, device=device).to(precision)
    b = torch.randn(MATRIX, MATRIX, device=device).to(precision)
    seconds = []
    for _ in range(PRODUCTS):
        finish()
        started = time.perf_counter()
        torch.mm(a, b)
        finish()
        seconds.append(time.perf_counter() - started)
    return 2 * MATRIX**3 / statistics.median(seconds)


def _machine(model: Pipeline) -> Machine:
    import torch

    processor = processor_name()
    if model.device.type == "cuda":
        processor = torch.cuda.get_device_name(model.device)
    return Machine(
        processor=processor,
        cores=cores(),
        threads=torch.get_num_threads(),
        device=model.device.type,
        precision=str(model.precision).removeprefix("torch."),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        unclip=__version__,
        model=model.bundle.name,
        weights=model.bundle.identity,
    )
