"""The training loop: one for every model, which it neither knows nor asks.

Batch k of a run is a pure function of (seed, k, rank), and so is all the noise that its loss draws. An exact
resume therefore needs the weights, the optimiser, the moving averages and the number of steps, nothing else.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from unclip.config import to_dict
from unclip.errors import InputError, Interrupted, TrainingError
from unclip.runtime import (
    atomic_path,
    autocast,
    noise_generator,
    noise_seed,
    peak_memory_bytes,
    pick_precision,
)
from unclip.train import parallel, state
from unclip.train.config import LoopConfig, Precision
from unclip.train.log import RunLog
from unclip.train.optim import MovingAverage, Optimisers, rate_factor

BAD_STEPS = 20  # updates in a row that are not finite before the run ends
PREFETCH = 2  # batches prepared ahead
PREVIEWS = "previews"
# What a run cannot change when it is resumed: the optimiser's and the averages' state would not fit.
FIXED = ("optimiser", "adamw_only", "ema")


class Task(Protocol):
    """What is trained, on what, and for which loss.

    Optional beside these: `accumulates = False` where the loss needs the whole batch at once (a contrastive
    loss), and `evaluate(model) -> dict[str, float]` (see `Evaluates`).
    """

    name: str
    model: nn.Module

    @property
    def config(self) -> dict[str, Any]:
        """What made the model and its data, as JSON; stored with the weights, and fixed for the run."""
        ...

    def batch(self, size: int, generator: torch.Generator) -> Any:
        """`size` examples, drawn with `generator` alone (a CPU generator).

        Called in a second thread without gradients; it must not use torch's default random state. Tensors in
        tuples, lists, dictionaries and dataclasses of the result are moved to the training device.
        """
        ...

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        """The mean loss of a batch, and its parts by name (numbers or scalar tensors) for the log.

        Noise is drawn with `generator`, which is on the training device.
        """
        ...

    def preview(self, model: nn.Module) -> Image.Image | None:
        """A picture of what the model (a moving average, in eval mode) can do."""
        ...


@runtime_checkable
class Evaluates(Protocol):
    """A task that can judge its model."""

    def evaluate(self, model: nn.Module) -> dict[str, float]: ...


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The parts of one step's batch, and the generator that drew them and draws the noise of their losses."""

    parts: list[Any]
    generator: torch.Generator


def train(
    task: Task,
    config: LoopConfig,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = True,
    stop: threading.Event | None = None,
) -> Path:
    """Trains `task.model` for `config.steps` steps and returns the folder with the final weights.

    `out` gets `checkpoints/`, `metrics.jsonl`, `previews/`, `tensorboard/` and at the end
    `final/raw.safetensors` and `final/ema-<k>.safetensors` (k counts the values of `config.ema`). A run that was
    stopped goes on where its newest checkpoint stands and ends with the same bits as one that was not (on one
    device).

    Ctrl-C, SIGTERM or `stop` end it after the step in hand, with a checkpoint.

    Raises:
        InputError: `resume` is off and `out` holds a run.
        TrainingError: the run in `out` is of another task, config, optimiser or average; the loss stays
            non-finite; a file cannot be written.
        Interrupted: it was stopped; the message says how to go on.
    """
    if not getattr(task, "accumulates", True) and config.accumulate > 1:
        raise InputError(
            f"accumulate: got {config.accumulate}, but the loss of {task.name} needs the whole batch: use 1"
        )
    return Run(task, config, out, torch.device(device), resume, stop or threading.Event()).go()


class Run:
    """One call of `train`: the state of the run, and the steps that change it."""

    def __init__(
        self,
        task: Task,
        config: LoopConfig,
        out: Path,
        device: torch.device,
        resume: bool,
        stop: threading.Event,
    ) -> None:
        self.task, self.config, self.out, self.stop = task, config, out, stop
        self.world = parallel.join(device)
        self.device = self.world.device
        name = None if config.precision is Precision.AUTO else config.precision.value
        self.precision = pick_precision(self.device, name)
        self.model = task.model.to(self.device)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step = self.pictures = self.skipped = self.bad = 0
        self.seconds = 0.0
        self.notes: list[str] = []
        found = self._find_state(resume)
        if found:
            self.model.load_state_dict(found["model"])
        self.module = parallel.distribute(self.model, task.loss, self.world, config)
        self.averages = [MovingAverage(self.model, value, config.ema_ramp) for value in config.ema]
        self.optimisers = Optimisers(self.model, config)
        if found:
            self._restore(found)
        if config.compile:
            compile_in_place(self.model)

    def _find_state(self, resume: bool) -> dict[str, Any] | None:
        if not resume:
            if state.checkpoint_paths(self.out):
                raise InputError(f"{self.out} holds a run already: resume it, or choose another folder")
            return None
        found = state.load_checkpoint(self.out)
        if found is None:
            return None
        now = {"task": self.task.name, "config": self.task.config}
        changed = state.differences({"task": found["task"], "config": found["config"]}, now)
        before, after = found["loop"], to_dict(self.config)
        changed += [
            f"{key}: was {before[key]!r}, is {after[key]!r}" for key in FIXED if before[key] != after[key]
        ]
        if changed:
            raise TrainingError(
                f"the run in {self.out} cannot go on with other settings ({'; '.join(changed)}): "
                "give back the old ones, or train in another folder"
            )
        self.notes += state.differences(before, after)
        return found

    def _restore(self, found: Mapping[str, Any]) -> None:
        for average, weights in zip(self.averages, found["ema"], strict=True):
            average.load_state_dict(weights)
        self.optimisers.load_state_dict(found["optimisers"])
        self.step, self.pictures, self.skipped = found["step"], found["pictures"], found["skipped"]
        self.bad, self.seconds = found["bad"], found["seconds"]
        self.notes.insert(0, f"resumes at step {self.step:,}")

    def go(self) -> Path:
        with self._open_log() as self.log, stop_signals(self.stop):
            for note in self.notes if self.world.writes else ():
                self.log.say(note)
            self._steps()
            final = self._finish()
        self.world.barrier()
        return final

    def _open_log(self) -> RunLog:
        config = self.config
        return RunLog(
            self.out,
            self.task.name,
            self.step,
            config.steps,
            writes=self.world.writes,
            tensorboard=config.tensorboard,
        )

    def _steps(self) -> None:
        config, window = self.config, Window(self.step, self.pictures)
        began = saved = time.monotonic()
        before = self.seconds
        for prepared in prefetch(self._draw, self.step, config.steps):
            loss, parts, norm, rate = self._update(prepared)
            now = time.monotonic()
            self.seconds = before + now - began
            window.add(loss, parts, norm)
            due = now - saved >= config.checkpoint_minutes * 60
            due, stopping = self.world.any(due, self.stop.is_set())
            if due or (stopping and self.step < config.steps):
                self._save()
                saved = time.monotonic()
            if self.step % config.log_steps == 0 or self.step == config.steps:
                self._report(window, rate)
                window = Window(self.step, self.pictures)
            if self._is_time(config.evaluate_steps):
                self._evaluate()
            if self._is_time(config.preview_steps):
                self._preview()
            self.log.advance(self.step)
            if stopping and self.step < config.steps:
                raise Interrupted(
                    f"{self.task.name} stopped at step {self.step:,} of {config.steps:,}; "
                    f"start the same command again to go on from {self.out}"
                )

    def _is_time(self, every: int) -> bool:
        return bool(every) and (self.step % every == 0 or self.step == self.config.steps)

    def _draw(self, step: int) -> Prepared:
        generator = noise_generator(self.config.seed, step, f"train/batch/{self.world.rank}")
        size = self.config.batch // self.config.accumulate
        with torch.no_grad():
            parts = [self.task.batch(size, generator) for _ in range(self.config.accumulate)]
        return Prepared(parts, generator)

    def _update(self, prepared: Prepared) -> tuple[float, dict[str, float], float, float]:
        """One step; returns loss, its parts, the gradient's length and the learning rate."""
        config, count = self.config, len(prepared.parts)
        # dropout draws from torch's own random state: seeded here, it needs no place in the checkpoint
        torch.manual_seed(noise_seed(config.seed, self.step, f"train/dropout/{self.world.rank}"))
        generator = on_device(prepared.generator, self.device)
        factor = rate_factor(config.schedule, self.step, config.steps, config.warmup, config.decay_fraction)
        rate = config.learning_rate * factor
        self.optimisers.set_rate(rate)
        self.model.train()
        total, sums = 0.0, dict[str, float]()
        for index, part in enumerate(prepared.parts):
            last = index == count - 1
            with nullcontext() if last else parallel.without_exchange(self.module):
                with autocast(self.device, self.precision):
                    loss, parts = self.module(to_device(part, self.device), generator)
                (loss / count).backward()
            total += float(loss.detach()) / count
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value) / count
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or math.inf))
        (bad,) = self.world.any(not (math.isfinite(total) and math.isfinite(norm)))
        self.step += 1
        self.pictures += config.batch * self.world.size
        if bad:
            self._skip(total, norm)
        else:
            self.bad = 0
            self.optimisers.step()
            for average in self.averages:
                average.update(self.model, config.batch * self.world.size, self.pictures)
        self.optimisers.zero_grad()
        return total, sums, norm, rate

    def _skip(self, loss: float, norm: float) -> None:
        self.bad += 1
        self.skipped += 1
        self.log.say(
            f"step {self.step:,} is left out: loss {loss:g}, gradient {norm:g} ({self.skipped} so far)"
        )
        if self.bad >= BAD_STEPS:
            raise TrainingError(
                f"{BAD_STEPS} steps in a row up to step {self.step:,} had a loss or gradient that is not finite: "
                f"resume from {self.out} with a lower learning_rate, a longer warmup or precision = 'float32'"
            )

    def _state(self) -> dict[str, Any]:
        return {
            "task": self.task.name,
            "config": self.task.config,
            "loop": to_dict(self.config),
            "model": self.model.state_dict(),
            "ema": [average.state_dict() for average in self.averages],
            "optimisers": self.optimisers.state_dict(),
            "pictures": self.pictures,
            "skipped": self.skipped,
            "bad": self.bad,
            "seconds": self.seconds,
        }

    def _save(self) -> None:
        if self.world.writes:
            state.save_checkpoint(self.out, self.step, self._state(), self.config.keep)

    def _finish(self) -> Path:
        final = self.out / state.FINAL
        if self.world.writes:
            self._save()
            about = {
                "name": self.task.name,
                "config": self.task.config,
                "step": self.step,
                "pictures": self.pictures,
            }
            state.write_weights(final / "raw.safetensors", self.model.state_dict(), about)
            for index, average in enumerate(self.averages):
                weights = average.module.state_dict()
                path = final / f"ema-{index}.safetensors"
                state.write_weights(path, weights, {**about, "ema": average.value})
        return final

    def _report(self, window: Window, rate: float) -> None:
        steps, pictures = self.step - window.step, self.pictures - window.pictures
        seconds = time.monotonic() - window.began
        on_gpu = self.device.type == "cuda"
        values = {
            "pictures": self.pictures,
            "loss": window.mean(window.loss),
            "parts": {name: window.mean(values) for name, values in window.parts.items()},
            "learning_rate": rate,
            "gradient_norm": window.mean(window.norm),
            "pictures_per_second": pictures / seconds,
            "seconds": self.seconds,
            "memory_bytes": torch.cuda.max_memory_allocated(self.device) if on_gpu else peak_memory_bytes(),
            "skipped": self.skipped,
        }
        self.log.write("train", self.step, values)
        left = (self.config.steps - self.step) * seconds / steps
        self.log.report(self.step, window.mean(window.loss), pictures / seconds, left)

    @property
    def _judged(self) -> nn.Module:
        """The model that previews and evaluation look at: the first moving average, else the model itself."""
        return self.averages[0].module if self.averages else self.model

    @contextmanager
    def _looking(self) -> Iterator[nn.Module]:
        model = self._judged.eval()
        with torch.no_grad(), autocast(self.device, self.precision):
            yield model

    def _evaluate(self) -> None:
        if self.world.writes and isinstance(self.task, Evaluates):
            with self._looking() as model:
                self.log.write("evaluate", self.step, self.task.evaluate(model))

    def _preview(self) -> None:
        if not self.world.writes:
            return
        with self._looking() as model:
            image = self.task.preview(model)
        if image is not None:
            path = self.out / PREVIEWS / f"step-{self.step:06d}.png"
            with state.writing(self.out, path.name), atomic_path(path) as temporary:
                image.save(temporary)


class Window:
    """The values since the last line of the log."""

    def __init__(self, step: int, pictures: int) -> None:
        self.step, self.pictures, self.began = step, pictures, time.monotonic()
        self.loss: list[float] = []
        self.norm: list[float] = []
        self.parts: dict[str, list[float]] = {}

    def add(self, loss: float, parts: Mapping[str, float], norm: float) -> None:
        self.loss.append(loss)
        self.norm.append(norm)
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)

    @staticmethod
    def mean(values: list[float]) -> float:
        """The mean of the finite ones: a step that was left out does not hide the others."""
        finite = [value for value in values if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else math.nan


def prefetch(draw: Callable[[int], Prepared], first: int, end: int) -> Iterator[Prepared]:
    """`draw(step)` for each step from `first` to before `end`, prepared in a thread ahead of its use."""
    ahead: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        try:
            for step in range(first, end):
                while len(ahead) <= PREFETCH and step + len(ahead) < end:
                    ahead.append(pool.submit(draw, step + len(ahead)))
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """The generator itself on the CPU; on another device one that is seeded by its next number."""
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def to_device(value: Any, device: torch.device) -> Any:
    """The value with every tensor in it (in tuples, lists, dictionaries, dataclasses) on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        moved = {
            f.name: to_device(getattr(value, f.name), device) for f in dataclasses.fields(value) if f.init
        }
        return dataclasses.replace(value, **moved)
    return value


def compile_in_place(model: nn.Module) -> None:
    """Compiles the model's forward pass, or where it has none of its own that of each of its children."""
    if type(model).forward is not nn.Module.forward:
        model.compile()
    else:
        for child in model.children():
            child.compile()


@contextmanager
def stop_signals(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM sets `stop`; a second one acts as it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in signals:
        signal.signal(number, note)
    try:
        yield
    finally:
        restore()
