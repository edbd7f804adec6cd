"""Training for a time and not for a number of steps: on a rented machine the minutes are given.

A stage first takes some steps to see how fast it is, then as many as there is time for, so that its learning
rate has decayed when the time is over. What is cut off goes on from its newest checkpoint by the same call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from unclip.errors import InputError, Interrupted
from unclip.train import checks, state
from unclip.train.config import LoopConfig, RateSchedule
from unclip.train.run import Run
from unclip.train.stages import TASKS, TOKENIZER

TRIAL_SECONDS, TRIAL_SHARE = 30.0, 0.15  # at most; of a stage's time
TRIAL_STEPS = 10  # at least
WARM = 3  # steps that no speed is taken from: the first ones allocate, and fill caches
MARGIN_SECONDS, MARGIN_SHARE = 3.0, 0.06  # of a stage's time, for its last evaluation and its files
SLOWER = 0.95  # of the speed so far, that is reckoned with
ENDLESS = 10**9  # steps


class Stopwatch(threading.Event):
    """Is set when the time is over, counted from the first question on; the loop asks once a step."""

    def __init__(self, seconds: float, end: float, least: int = 0) -> None:
        """At least `least` questions are answered no, but none after `end`, a time of `time.monotonic`."""
        super().__init__()
        self.seconds, self.end, self.least = seconds, end, least
        self.asked: list[float] = []

    def is_set(self) -> bool:
        """True when it was set, or the time is over."""
        now = time.monotonic()
        self.asked.append(now)
        over = now - self.asked[0] >= self.seconds and len(self.asked) > self.least
        return super().is_set() or over or now >= self.end

    @property
    def told(self) -> bool:
        """True when somebody set it: a signal came."""
        return super().is_set()

    @property
    def per_second(self) -> float | None:
        """Steps a second so far; None where there were too few."""
        steps = self.asked[WARM:]
        return None if len(steps) < 2 else (len(steps) - 1) / max(steps[-1] - steps[0], 1e-9)


def train_for(
    run: Run,
    minutes: float,
    shares: Mapping[str, float],
    say: Callable[[str], None] = print,
    expected: Mapping[str, int] | None = None,
) -> dict[str, Path]:
    """Trains stages of a run for some minutes in all, one after the other, and returns their weights.

    A stage that was ended before stays as it is, and leaves its time to those that come after it.

    Args:
        run: its recipe's `train.steps` of these stages are changed to what there is time for.
        minutes: for all stages together, with what is worked out between them.
        shares: of the time, by stage; they need not add up to 1. Stages that are not named are not trained,
            and must be there where others need them.
        say: is told what is done.
        expected: steps, by stage, that are said to be its number until its speed is known.

    Raises:
        InputError: minutes or shares are not above 0, or a stage is none that the recipe trains.
        Interrupted: a signal came; there is a checkpoint.
        What `Run.check` raises.
    """
    if not (minutes > 0 and shares and min(shares.values()) > 0):
        raise InputError(f"got {minutes} minutes and the shares {dict(shares)}: allowed are numbers above 0")
    if unknown := sorted(set(shares) - set(run.trained)):
        raise InputError(f"unknown stage {unknown[0]!r}: this recipe trains {', '.join(run.trained)}")
    end = time.monotonic() + 60 * minutes
    stages = [stage for stage in TASKS if stage in shares]
    for stage in stages:
        config = run.part(stage, "train", LoopConfig)
        if config.schedule is RateSchedule.COSINE:
            raise InputError(f"{stage}.train.schedule: got cosine, which has to know its steps: use wsd")
    checks.check(run, [stage for stage in run.named if stage in {TOKENIZER, *shares}])
    with run.alone():
        run.tokenizer()
        for stage in run.trained:
            _keep(run, stage)
        left = dict(shares)
        for stage in stages:
            began = time.monotonic()
            seconds = (end - began) * left[stage] / sum(left.values())
            del left[stage]
            _train(run, stage, began + seconds, say, (expected or {}).get(stage, ENDLESS))
    return {stage: run.result(stage) for stage in stages}


def _keep(run: Run, stage: str) -> None:
    """A result that is there was trained for as many steps as are asked for."""
    steps = state.newest_step(run.out / stage)
    if steps is not None and run.result(stage).exists():
        run.recipe[stage].setdefault("train", {})["steps"] = steps


def _train(run: Run, stage: str, end: float, say: Callable[[str], None], expected: int) -> None:
    """Trains one stage until `end`, a time of `time.monotonic`, by which so many steps are expected."""
    if run.result(stage).exists():
        say(f"{stage}: is there")
        return
    began = time.monotonic()
    whole = end - began
    last = end - min(MARGIN_SECONDS + MARGIN_SHARE * whole, 0.3 * whole)  # for steps
    trial = Stopwatch(min(TRIAL_SECONDS, TRIAL_SHARE * whole), last, TRIAL_STEPS)
    before = state.newest_step(run.out / stage) or 0
    if _go(run, stage, max(expected, before + 1), trial):
        return
    steps = state.newest_step(run.out / stage) or 1
    if rate := trial.per_second:
        left = last - time.monotonic() - (trial.asked[0] - began)  # it is set up once more
        more = int(SLOWER * rate * max(0.0, left))
        batch = run.part(stage, "train", LoopConfig).batch
        say(f"{stage}: {rate:.3g} steps of {batch} a second, {steps:,} taken, {more:,} to go")
        if more and _go(run, stage, steps + more, Stopwatch(float("inf"), last)):
            return
        steps = state.newest_step(run.out / stage) or 1
        say(f"{stage}: the time was over at step {steps:,}")
    _go(run, stage, steps, Stopwatch(float("inf"), float("inf")))  # writes the weights of this step


def _go(run: Run, stage: str, steps: int, watch: Stopwatch) -> bool:
    """Trains up to a step or until the watch stops it; True if the step was reached."""
    run.recipe[stage].setdefault("train", {})["steps"] = steps
    run.stop = watch
    try:
        run.weights(stage)
    except Interrupted:
        if watch.told:
            raise
    return run.result(stage).exists()
