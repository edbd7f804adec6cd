"""Sampling in which every step is taken several times, so that what is drawn fits what is known."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.sample import Noise, Step
from unclip.errors import InputError


@torch.no_grad()
def resampled(denoiser: Denoiser, x: Tensor, noise: Noise, *, rounds: int = 1) -> Iterator[Step]:
    """Ancestral sampling that goes back up `rounds` - 1 times before it leaves a step (2201.09865, 4.2).

    For `steering.with_known`: a step alone fits the drawn pixels to the known ones as they were a step
    before; after noise is added again, the network sees both together. Jumps are of one step.

    Args:
        denoiser: what says x0.
        x: (B, C, ...), noise at the last index.
        noise: see `diffusion.sample`.
        rounds: evaluations of every step but the last; 1 is plain ancestral sampling with the small variance.

    Raises:
        InputError: rounds is below 1.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}: take 1 or more")
    schedule = denoiser.schedule
    posterior = schedule.posterior
    for i in reversed(range(len(schedule))):
        alpha_below, sigma_below = schedule.below(i)
        ratio = float(schedule.alpha[i]) / alpha_below
        added = math.sqrt(max(0.0, float(schedule.sigma[i]) ** 2 - (ratio * sigma_below) ** 2))
        for left in reversed(range(rounds if i > 0 else 1)):
            x0 = denoiser(x, i).x0
            below = float(posterior.x0_weight[i]) * x0 + float(posterior.x_weight[i]) * x
            if i > 0:
                below = below + math.exp(float(posterior.log_variance_small[i]) / 2) * noise()
            x = ratio * below + added * noise() if left else below
        yield Step(i, x, x0)
