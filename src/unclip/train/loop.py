"""The training loop: one for every model, which it neither knows nor asks.

What stands at place p of batch k of a run is a pure function of (seed, k, p), and so is all the noise that
its loss draws. An exact resume therefore needs the weights, the optimiser, the moving averages and the number
of steps, nothing else; and several processes, which share the places out, see together what one would see.
Within a network dropout alone goes by the share that a process computes at once, not by the place: it draws
from torch's own random state, seeded by (seed, k, first place). Batch normalisation sees the part that all
processes compute at once (`nn.batch_norm`): of a batch that `accumulate` cuts into parts one part.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from unclip import recipes
from unclip.config import to_dict, with_defaults
from unclip.errors import InputError, Interrupted, TrainingError, UnclipError, is_out_of_memory
from unclip.native import IMPOSSIBLE, kind_of, save_model
from unclip.runtime import (
    atomic_path,
    autocast,
    noise_seed,
    peak_memory_bytes,
    pick_precision,
)
from unclip.train import parallel, state
from unclip.train.batches import prefetch, to_device
from unclip.train.best import BEST, Best
from unclip.train.config import LoopConfig, Parallel, Precision
from unclip.train.failures import Rhythm
from unclip.train.log import FIRST_STEPS, RunLog, Window, clock
from unclip.train.optim import MovingAverage, Optimisers, rate_factor
from unclip.train.places import CPU, Places
from unclip.train.sam import climbed

BAD_STEPS = 20  # updates in a row that are not finite before the run ends
AGAIN = "start the same command again to go on"
# What a run cannot change when it is resumed: the optimiser's and the averages' state would not fit.
FIXED = ("optimiser", "adamw_only", "ema")


class Task(Protocol):
    """A model that is trained, its data and its loss.

    Optional beside these: `accumulates = False` where the loss needs the whole batch at once (a contrastive
    loss), `evaluate(model) -> dict[str, float]` (see `Evaluates`), and `tables`: the dataclasses, by name,
    that `config` is made of. With them a setting that came after a run was begun has its default there.
    """

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> nn.Module: ...

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the model and its data, as JSON; stored with the weights, and fixed for the run."""
        ...

    def batch(self, places: Places) -> Any:
        """An example for each of `places`, which alone it is drawn by, on the CPU.

        Called in a second thread without gradients; it must not use torch's default random state. Tensors in
        tuples, lists, dictionaries and dataclasses of the result are moved to the training device.
        """
        ...

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        """The mean loss of a batch, and its parts by name (numbers or scalar tensors) for the log.

        Noise is drawn by `places`, on the training device: a row for each example.
        """
        ...

    def preview(self, model: nn.Module) -> Image.Image | None:
        """A picture of what the model (a moving average, in eval mode) can do."""
        ...


class Judged(NamedTuple):
    """The pictures that a task's figures are of."""

    split: str  # of the corpus
    of_pictures: int


@runtime_checkable
class Evaluates(Protocol):
    """A task that can judge its model. Its property `judged`, where it has one, says on what."""

    def evaluate(self, model: nn.Module) -> dict[str, float]: ...


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
    `final/raw.safetensors` and `final/ema-<k>.safetensors` (k counts the values of `config.ema`; see
    `unclip.native`), with `config.best` also `final/best.safetensors`: the first moving average (or the
    model) as it was when an evaluation had the highest of that figure. A run that was stopped goes on where
    its newest checkpoint stands and ends with the same bits as one that was not (on one device).

    Ctrl-C, SIGTERM or `stop` end it after the step in hand, with a checkpoint.

    Raises:
        InputError: `resume` is off and `out` holds a run; the processes cannot share the batch out evenly;
            evaluations have no figure `config.best`.
        TrainingError: the run in `out` is of another task, config, optimiser or average; the loss stays
            non-finite; a file cannot be written.
        Interrupted: it was stopped; the message says how to go on.
    """
    if not getattr(task, "accumulates", True) and config.accumulate > 1:
        raise InputError(
            f"accumulate: got {config.accumulate}, but the loss of {task.name} needs the whole batch: use 1"
        )
    return Trainer(task, config, out, torch.device(device), resume, stop or threading.Event()).go()


class Trainer:
    """One call of `train`: its state, and the steps that change it."""

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
        # a model whose weights could not be written is better refused now than at the end
        kind_of(task.model)
        self.about = json.loads(json.dumps({"task": task.name, "config": task.config}))
        self.world = parallel.join(device)
        self.device = self.world.device
        shares = self.world.size * config.accumulate
        if config.batch % shares:
            raise InputError(
                f"batch: got {config.batch}, allowed is a multiple of {shares}: {self.world.size} processes "
                f"take {config.accumulate} parts each, all of one size"
            )
        name = None if config.precision is Precision.AUTO else config.precision.value
        self.precision = pick_precision(self.device, name)
        # processes that hold shares have no room for the whole
        self.cut = self.world.size > 1 and config.parallel is not Parallel.DDP
        self.model = task.model if self.cut else task.model.to(self.device)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it
        self.rhythm = Rhythm(config.checkpoint_minutes, config.failure_hours / self.world.size)
        self.step = self.pictures = self.skipped = self.bad = 0
        self.saved = -1  # the step of the newest checkpoint
        self.seconds = 0.0
        self.notes: list[str] = []
        self.best = Best(config.best) if config.best else None
        if self.best and not isinstance(task, Evaluates):
            raise InputError(
                f"train.best: got {config.best!r}, but {task.name} evaluates nothing: leave it out"
            )
        found = self._find_state(resume)
        if found and "shares" not in found:
            self.model.load_state_dict(found["model"])
        self.world.equalise_(self.model)
        self.averages = [MovingAverage(self.model, value, config.ema_ramp) for value in config.ema]
        if found and "shares" not in found:
            for average, weights in zip(self.averages, found["ema"], strict=True):
                average.load_state_dict(weights)
        averaged = [average.module for average in self.averages]
        self.gathered = parallel.Gathered(self.model, self.world, config)
        mesh = parallel.machines_and_shares(self.world, config)
        self.module = parallel.distribute_(self.model, averaged, task.loss, self.world, config, mesh)
        self.between = parallel.between_machines(self.module, config, mesh)
        if self.between is not None:
            self.notes.append(
                f"PowerSGD sends {self.between.share_sent:.0%} of the gradients between machines, from step "
                f"{config.powersgd_start:,} on"
            )
        self.optimisers = Optimisers(self.model, config)
        if found:
            self._restore(found)
        if config.compile:
            compile_(self.model)

    def _find_state(self, resume: bool) -> dict[str, Any] | None:
        if not resume:
            if state.checkpoint_paths(self.out):
                raise InputError(f"{self.out} holds a run already: resume it, or choose another folder")
            return None
        found = state.load_checkpoint(self.out)
        if found is None:
            return None
        about = found["about"]
        settings = recipes.renamed({**about["config"], "train": found["loop"]})
        before, after = with_defaults(settings.pop("train"), self.config), to_dict(self.config)
        for name, config in getattr(self.task, "tables", {}).items():
            if name in settings:  # what has come since is as it was: absent
                settings[name] = with_defaults(settings[name], config)
        changed = state.differences({**about, "config": settings}, self.about)
        changed += [line for key in FIXED for line in state.differences(before[key], after[key], key)]
        if changed:
            raise TrainingError(
                f"the run in {self.out} cannot go on with other settings ({'; '.join(changed)}): "
                "give back the old ones, or train in another folder"
            )
        self.notes += [f"changed since: {line}" for line in state.differences(before, after)]
        return found

    def _restore(self, found: Mapping[str, Any]) -> None:
        if "shares" in found:
            self._load_shares(found)
        else:
            self.optimisers.load_state_dict(found["optimisers"])
        self.step, self.pictures, self.skipped = found["step"], found["pictures"], found["skipped"]
        self.saved, self.bad, self.seconds = found["step"], found["bad"], found["seconds"]
        if self.best:
            self.best.restore(found.get("best"))
        self.notes.insert(0, f"goes on from step {self.step:,}")

    def _shares(self) -> dict[str, Any]:
        """All tensors of the run that its processes share, cut as they are."""
        return {
            "model": self.model.state_dict(),
            "ema": [average.state_dict() for average in self.averages],
            "optimisers": self.optimisers.shares(),
        }

    def _load_shares(self, found: Mapping[str, Any]) -> None:
        """Takes over a checkpoint of shares, whatever number of processes wrote it."""
        path, tensors = found["shares"], self._shares()
        state.load_shares(path, tensors)
        self.model.load_state_dict(tensors["model"])
        for average, weights in zip(self.averages, tensors["ema"], strict=True):
            average.load_state_dict(weights)
        self.optimisers.load_shares(tensors["optimisers"])
        if self.between is None:
            return
        if found["processes"] != self.world.size:
            self.notes.append("PowerSGD begins without what was lost: another number of processes saved")
            return
        own = state.tensors_in_shares(path, f"between.{self.world.rank}.")
        state.load_shares(path, {"between": {str(self.world.rank): own}})
        self.between.load_state_dict(own)

    def go(self) -> Path:
        log = RunLog(
            self.out,
            self.task.name,
            self.step,
            self.config.steps,
            writes=self.world.writes,
            tensorboard=self.config.tensorboard,
        )
        devices = [self.device] if self.device.type == "cuda" else []
        with log as self.log, stop_signals(self.stop), torch.random.fork_rng(devices):
            for note in self.notes:
                self.log.say(note)
            with self._explained(), closing(prefetch(self._draw, self.step, self.config.steps)) as batches:
                self._steps(batches)
            self._finish()
        self.world.barrier()
        if self.stop.is_set():  # in the last step: a sequence of stages must end here too
            raise Interrupted(f"{self.task.name} is done, and stopped before what comes next; {AGAIN}")
        return self.out / state.FINAL

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what a network says of sizes that do not fit, or of full memory, into one clear error."""
        first, name = self.step, self.task.name
        try:
            yield
        except UnclipError:
            raise
        except (*IMPOSSIBLE, MemoryError) as error:
            step = f"step {self.step + 1:,} of {name}"
            if is_out_of_memory(error):
                raise TrainingError(
                    f"out of memory in {step}: take a smaller batch, or cut it: train.accumulate = 2 or more"
                ) from error
            if self.step > first:  # then it is no wrong setting
                raise
            raise TrainingError(
                f"{step} fails, and with it all others ({error}): settings of its model, task and diffusion "
                "do not go together"
            ) from error

    def _steps(self, batches: Iterable[list[Any]]) -> None:
        self._check_best()
        config, window = self.config, Window(self.step, self.pictures)
        began = saved = time.monotonic()
        before, first = self.seconds, self.step
        for batch in batches:
            loss, parts, norm = self._gradients(batch)
            # the process that writes knows what that costs
            due = self.world.writes and time.monotonic() - saved >= self.rhythm.seconds
            bad = not (math.isfinite(loss) and math.isfinite(norm))
            bad, due, stopping = self.world.any(bad, due, self.stop.is_set())
            rate = self._change_weights(loss, norm, bad)
            self.seconds = before + time.monotonic() - began
            window.add(loss, parts, norm)
            stopping = stopping and self.step < config.steps
            if due or stopping:
                self._save()
                saved = time.monotonic()
            if self.step % config.log_steps == 0 or self.step == config.steps:
                self._report(window, rate)
                window = Window(self.step, self.pictures)
            if self.step == first + 1:
                warm = time.monotonic()  # the first step compiles, and fills caches
            elif self.step == first + FIRST_STEPS < config.steps - FIRST_STEPS:
                left = (time.monotonic() - warm) / (FIRST_STEPS - 1) * (config.steps - self.step)
                self.log.say(f"about {clock(left)} for the {config.steps - self.step:,} steps left")
            self._look()
            self.log.advance(self.step)
            if stopping:
                raise Interrupted(
                    f"{self.task.name} stopped at step {self.step:,} of {config.steps:,}; {AGAIN}"
                )
            if self.bad >= BAD_STEPS:
                raise TrainingError(
                    f"{BAD_STEPS} steps in a row up to step {self.step:,} had a loss or gradient that is not "
                    "finite: go on from the last checkpoint with a lower learning_rate, a longer warmup or "
                    "precision = 'float32'"
                )

    def _places(self, step: int, stream: str, device: torch.device) -> list[Places]:
        """The places of this process in each part of a batch, which the processes share out in order."""
        config, world = self.config, self.world
        size = config.batch // (config.accumulate * world.size)
        firsts = range(world.rank * size, config.batch, world.size * size)
        return [
            Places(range(first, first + size), config.batch, config.seed, step, stream, device, config.lanes)
            for first in firsts
        ]

    @torch.no_grad()
    def _draw(self, step: int) -> list[Any]:
        return [self.task.batch(places) for places in self._places(step, "batch", CPU)]

    def _gradients(self, batch: list[Any]) -> tuple[float, dict[str, float], float]:
        """Fills in (clipped) gradients; returns loss, its parts and the gradient's length before clipping."""
        self.model.train()
        loss, parts = self._backward(batch)
        if self.config.sam_rho:
            with climbed(self.model, self.config.sam_rho):
                self._backward(batch)  # the same loss, of other weights
        parallel.average_numbers_(self.module, self.world, self.config)
        if self.between is not None:
            self.between.average_(self.step)
        return loss, parts, parallel.clip_(self.model, self.config.clip or math.inf)

    def _backward(self, batch: list[Any]) -> tuple[float, dict[str, float]]:
        """Adds to the gradients; returns loss and its parts."""
        count = len(batch)
        total, sums = 0.0, dict[str, float]()
        shares = zip(batch, self._places(self.step, "loss", self.device), strict=True)
        for index, (part, places) in enumerate(shares):
            last = index == count - 1
            # dropout draws from torch's own random state: seeded here, it needs no place in the checkpoint
            torch.manual_seed(noise_seed(self.config.seed, self.step, f"train/dropout/{places.numbers[0]}"))
            with nullcontext() if last else parallel.without_exchange(self.module):
                with autocast(self.device, self.precision, keeps=not self.cut):
                    loss, parts = self.module(to_device(part, self.device), places)
                (loss / count).backward()
            total += float(loss.detach()) / count
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value) / count
        return total, sums

    def _change_weights(self, loss: float, norm: float, bad: bool) -> float:
        """The update of this step, left out where it is bad; returns the learning rate."""
        config = self.config
        factor = rate_factor(config.schedule, self.step, config.steps, config.warmup, config.decay_fraction)
        rate = config.learning_rate * factor
        self.step += 1
        self.pictures += config.batch
        if bad:
            self.bad += 1
            self.skipped += 1
            self.log.say(
                f"step {self.step:,} is left out: loss {loss:g}, gradient {norm:g} ({self.skipped} so far)"
            )
        else:
            self.bad = 0
            self.optimisers.set_rate(rate)
            self.optimisers.step()
            for average in self.averages:
                average.update_(self.model, config.batch, self.pictures)
        self.optimisers.zero_grad()
        return rate

    def _save(self) -> None:
        if self.saved == self.step:
            return
        began = time.monotonic()
        plain = {
            "about": self.about,
            "loop": to_dict(self.config),
            "pictures": self.pictures,
            "skipped": self.skipped,
            "bad": self.bad,
            "seconds": self.seconds,
            "best": self.best and self.best.state(),
        }
        keep, writes = self.config.keep, self.world.writes
        if self.cut:
            tensors = self._shares()
            if self.between is not None:
                tensors["between"] = {str(self.world.rank): self.between.state_dict()}
            plain["processes"] = self.world.size
            state.save_shares(self.out, self.step, plain, tensors, keep, writes)
        elif writes:
            tensors = {
                "model": self.model.state_dict(),
                "ema": [average.state_dict() for average in self.averages],
                "optimisers": self.optimisers.state_dict(),
            }
            state.save_checkpoint(self.out, self.step, {**plain, **tensors}, keep)
        self.saved = self.step
        news = self.rhythm.written(time.monotonic() - began)
        if news and self.step < self.config.steps and not self.stop.is_set():
            self.log.say(self.rhythm.text)

    def _finish(self) -> None:
        self._save()
        details = {"task": self.about, "step": self.step, "pictures": self.pictures}
        weights = {"raw": (self.model, details)}
        for index, average in enumerate(self.averages):
            weights[f"ema-{index}"] = (average.module, {**details, "ema": average.value})
        for name, (module, about) in weights.items():
            with self.gathered(module) as model:
                if self.world.writes:
                    state.write_weights(self.out, name, model, about)
        if self.best is not None:
            with self._evaluated() as model:
                if model is not None:
                    if not self.best.found:  # it was asked for when all steps were done
                        self._write_best(model)
                    state.publish(self.out, BEST)

    def _report(self, window: Window, rate: float) -> None:
        on_gpu = self.device.type == "cuda"
        speed = window.per_second(self.pictures)
        values = {
            "pictures": self.pictures,
            **window.means(),
            "learning_rate": rate,
            "pictures_per_second": speed,
            "seconds": self.seconds,
            "memory_bytes": torch.cuda.max_memory_allocated(self.device) if on_gpu else peak_memory_bytes(),
            "skipped": self.skipped,
        }
        self.log.write("train", self.step, values)
        left = (self.config.steps - self.step) * self.config.batch / speed
        self.log.report(self.step, values["loss"], speed, left)

    def _look(self) -> None:
        """Preview and evaluation, where this step has them, of the first moving average, else the model."""
        judge = isinstance(self.task, Evaluates) and self._is_time(self.config.evaluate_steps)
        draw = self._is_time(self.config.preview_steps)
        if not (judge or draw):
            return
        image, better = None, False
        with self._evaluated() as model:
            if model is not None:
                if judge:
                    figures = cast(Evaluates, self.task).evaluate(model)
                    self._log_figures(figures)
                    if self.best is not None:
                        better = self.best.is_beaten(self.step, figures)
                        self.log.say(self.best.told(self.step, figures))
                image = self.task.preview(model) if draw else None
                if better:
                    self._write_best(model)
        if self.world.any(better)[0]:
            self._save()  # a run that goes on from here knows what it has to beat
        if image is not None:
            path = self.out / state.PREVIEWS / f"step-{self.step:06d}.png"
            with state.writing(self.out, path.name), atomic_path(path) as temporary:
                image.save(temporary)

    def _log_figures(self, figures: Mapping[str, float]) -> None:
        judged: Judged | None = getattr(self.task, "judged", None)
        self.log.write("evaluate", self.step, figures, {} if judged is None else judged._asdict())

    @contextmanager
    def _evaluated(self) -> Iterator[nn.Module | None]:
        """The model that evaluations are of, in eval mode; None in processes that do not write."""
        with self.gathered(self.averages[0].module if self.averages else self.model) as model:
            if not self.world.writes:
                yield None
                return
            model.eval()
            with torch.no_grad(), autocast(self.device, self.precision):
                yield model

    def _check_best(self) -> None:
        """Evaluates once before the first step: a figure that there is not is better refused now.

        It counts as the others do: the best weights may be those that training began with.
        """
        if self.best is not None and self.step < self.config.steps:
            with self._evaluated() as model:
                if model is not None:
                    figures = cast(Evaluates, self.task).evaluate(model)
                    self.best.check(figures)
                    if not self.step:
                        self._log_figures(figures)
                        self.best.is_beaten(self.step, figures)
                        self._write_best(model)

    def _write_best(self, model: nn.Module) -> None:
        """Writes the best weights; not into `final`, where they would pass for those of a run's end."""
        assert self.best is not None
        details = {
            "task": self.about,
            "step": self.step,
            "pictures": self.pictures,
            "best": self.best.state(),
        }
        path = self.out / f"{BEST}.safetensors"
        with state.writing(self.out, path.name):
            save_model(path, model, details=details)

    def _is_time(self, every: int) -> bool:
        return bool(every) and (self.step % every == 0 or self.step == self.config.steps)


def compile_(model: nn.Module) -> None:
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
