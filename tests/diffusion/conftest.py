"""A target whose perfect denoiser is known: pictures of independent Gaussian values, N(mean, std^2)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.diffusion.schedule import Schedule

MakeGaussian = Callable[..., Denoiser]


@pytest.fixture
def gaussian() -> MakeGaussian:
    """Perfect denoiser of N(mean, std^2); `learned` adds the exact variance of q(x_s | x_t)."""

    def make(schedule: Schedule, mean: float = 0.0, std: float = 1.0, learned: bool = False) -> Denoiser:
        def function(x: Tensor, i: int) -> Denoised:
            alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
            variance = alpha**2 * std**2 + sigma**2
            x0 = mean + alpha * std**2 / variance * (x - alpha * mean)
            epsilon = (x - alpha * x0) / sigma
            if not learned:
                return Denoised(x0, epsilon, None)
            alpha_below, sigma_below = schedule.below(i)
            beta = sigma**2 - (alpha / alpha_below * sigma_below) ** 2
            variance_below = alpha_below**2 * std**2 + sigma_below**2
            # by Bayes, from q(x_t | x_s) = N(alpha / alpha_below x_s, beta) and the marginal of x_s
            exact = beta * variance_below / variance
            return Denoised(x0, epsilon, torch.full_like(x, math.log(exact)))

        return Denoiser(schedule, function)

    return make
