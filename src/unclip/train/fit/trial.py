"""A trial of a fit's stages: some real steps and one evaluation, timed, of which nothing is kept."""

from __future__ import annotations

import time
from typing import NamedTuple, cast

import torch

from unclip.runtime import autocast, pick_precision
from unclip.train.batches import to_device
from unclip.train.config import LoopConfig, Precision
from unclip.train.loop import Evaluates
from unclip.train.optim import Optimisers
from unclip.train.places import Places
from unclip.train.results import Results

STEPS = 4  # the first of which, that allocates, does not count where there are others
SECONDS = 30.0  # after which no further step is taken


class Trial(NamedTuple):
    """The speed of a stage, in seconds: of a step, and of an evaluation with its preview."""

    step: float
    evaluation: float


def try_stage(run: Results, stage: str) -> Trial:
    """Times the steps and the evaluation of a stage of a run."""
    task, config = run.task(stage), run.part(stage, "train", LoopConfig)
    model, device = task.model.to(run.device), run.device
    name = None if config.precision is Precision.AUTO else config.precision.value
    precision = pick_precision(device, name)
    began = time.monotonic()
    model.eval()
    with torch.no_grad(), autocast(device, precision):
        cast(Evaluates, task).evaluate(model)
        task.preview(model)
    evaluation = time.monotonic() - began
    optimisers, times = Optimisers(model, config), list[float]()
    model.train()
    for step in range(STEPS):
        began = time.monotonic()
        with torch.no_grad():
            batch = task.batch(Places.whole(config.batch, step=step))
        places = Places.whole(config.batch, step=step, device=device)
        with autocast(device, precision):
            loss, _ = task.loss(model, to_device(batch, device), places)
        loss.backward()
        optimisers.step()
        optimisers.zero_grad()
        times.append(time.monotonic() - began)
        if sum(times) > SECONDS:
            break
    counted = times[1:] or times
    return Trial(sum(counted) / len(counted), evaluation)
