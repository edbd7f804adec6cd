"""Promises of resampling: one round is ancestral sampling, more rounds keep the distribution."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.diffusion.samplers import Variance, ancestral, resampled
from unclip.diffusion.schedule import cosine
from unclip.errors import InputError

SCHEDULE = cosine(1000)[tuple(range(0, 1000, 27))]
DATA_STD = 0.5


def optimal(x: Tensor, i: int) -> Denoised:
    """Exact for data N(0, DATA_STD^2)."""
    alpha, sigma = float(SCHEDULE.alpha[i]), float(SCHEDULE.sigma[i])
    x0 = alpha * DATA_STD**2 / (alpha**2 * DATA_STD**2 + sigma**2) * x
    return Denoised(x0, (x - alpha * x0) / sigma, None)


DENOISER = Denoiser(SCHEDULE, optimal)


def last(rounds: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        return torch.randn(count, 1, generator=generator, dtype=torch.float64)

    return deque(resampled(DENOISER, noise(), noise, rounds=rounds), maxlen=1)[0].x


def test_one_round_is_ancestral_sampling() -> None:
    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        return torch.randn(50, 1, generator=generator, dtype=torch.float64)

    *_, step = ancestral(DENOISER, noise(), noise, variance=Variance.SMALL)
    torch.testing.assert_close(last(1, 50), step.x)


def test_more_rounds_give_the_same_distribution() -> None:
    assert float(last(3, 20_000).std()) == pytest.approx(float(last(1, 20_000).std()), rel=0.05)


def test_no_round_is_refused() -> None:
    with pytest.raises(InputError, match="rounds is 0"):
        last(0, 1)
