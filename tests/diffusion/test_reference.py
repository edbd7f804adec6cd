"""The published sampler of guided-diffusion, written again the plain way: betas and arrays.

The project's tables and samplers must agree with it to 1e-12 in float64, respaced or not. It follows
2006.11239 and 2102.09672 in the form of the published code: betas of the kept steps from the ratio of
alpha_bar, clipped logarithm of the posterior variance, x0 clipped before the mean is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from reference.sampler import STEPS, cosine_betas, linear_betas
from unclip.diffusion.denoiser import Threshold, denoiser, threshold
from unclip.diffusion.samplers import Variance, ancestral, ddim
from unclip.diffusion.schedule import Prediction, cosine, linear, respace


class Published:
    """Tables of a respaced process, as the published code makes them."""

    def __init__(self, betas: Sequence[float], kept: tuple[int, ...]) -> None:
        new_betas, last = [], 1.0
        for i, alpha_bar in enumerate(np.cumprod(1 - np.array(betas))):
            if i in kept:
                new_betas.append(1 - alpha_bar / last)
                last = alpha_bar
        self.timestep_map = kept
        self.betas = np.array(new_betas)
        self.alpha_bar = np.cumprod(1 - self.betas)
        self.alpha_bar_prev = np.append(1.0, self.alpha_bar[:-1])
        self.posterior_variance = self.betas * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        self.posterior_log_variance = np.log(
            np.append(self.posterior_variance[1], self.posterior_variance[1:])
        )
        self.coefficient_x0 = self.betas * np.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)
        self.coefficient_x = (1 - self.alpha_bar_prev) * np.sqrt(1 - self.betas) / (1 - self.alpha_bar)

    def x0(self, case: Case, x: np.ndarray, output: np.ndarray, t: int) -> np.ndarray:
        if case.prediction is Prediction.EPSILON:
            ab = self.alpha_bar[t]
            output = np.sqrt(1 / ab) * x - np.sqrt(1 / ab - 1) * output
        return np.clip(output, -1, 1) if case.clip else output

    def p_sample(self, case: Case, x: np.ndarray, t: int, noise: np.ndarray) -> np.ndarray:
        output = network(x, self.timestep_map[t], 2 if case.learned else 1)
        if case.learned:
            output, v = np.split(output, 2, axis=1)
            fraction = (v + 1) / 2
            log_variance = fraction * np.log(self.betas[t]) + (1 - fraction) * self.posterior_log_variance[t]
        elif case.large:
            log_variance = np.log(np.append(self.posterior_variance[1], self.betas[1:]))[t]
        else:
            log_variance = self.posterior_log_variance[t]
        x0 = self.x0(case, x, output, t)
        mean = self.coefficient_x0[t] * x0 + self.coefficient_x[t] * x
        return mean + (t != 0) * np.exp(0.5 * log_variance) * noise

    def ddim_sample(self, case: Case, x: np.ndarray, t: int, noise: np.ndarray, eta: float) -> np.ndarray:
        output = network(x, self.timestep_map[t], 2 if case.learned else 1)[:, : x.shape[1]]
        x0 = self.x0(case, x, output, t)
        ab, ab_prev = self.alpha_bar[t], self.alpha_bar_prev[t]
        epsilon = (np.sqrt(1 / ab) * x - x0) / np.sqrt(1 / ab - 1)
        sigma = eta * np.sqrt((1 - ab_prev) / (1 - ab)) * np.sqrt(1 - ab / ab_prev)
        mean = x0 * np.sqrt(ab_prev) + np.sqrt(1 - ab_prev - sigma**2) * epsilon
        return mean + (t != 0) * sigma * noise


@dataclass(frozen=True)
class Case:
    prediction: Prediction
    learned: bool = False
    large: bool = False
    clip: bool = False


CASES = [
    Case(Prediction.EPSILON, learned=True, clip=True),
    Case(Prediction.EPSILON, clip=True),
    Case(Prediction.EPSILON, large=True, clip=True),
    Case(Prediction.X0),
    Case(Prediction.X0, learned=True),
]
SHAPE = (3, 2, 5)


def network(x: np.ndarray, label: float, halves: int) -> np.ndarray:
    """Something smooth that depends on x and the label, in [-1, 1]."""
    parts = [np.sin((1 + k) * x + 0.001 * label + k) for k in range(halves)]
    return np.concatenate(parts, axis=1)


def ours(case: Case, x: Tensor, label: Tensor) -> Tensor:
    assert bool((label == label[0]).all())
    return torch.from_numpy(network(x.numpy(), float(label[0]), 2 if case.learned else 1))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("steps", ["25", "fast27", "100", "ddim50", "1000"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("eta", [None, 0.0, 0.7])
def test_samplers_agree_with_the_published_one(case: Case, steps: str, name: str, eta: float | None) -> None:
    kept = respace(STEPS, steps)
    published = Published(linear_betas() if name == "linear" else cosine_betas(), kept)
    schedule = (linear() if name == "linear" else cosine())[kept]
    inner = denoiser(lambda x, label: ours(case, x, label), schedule, case.prediction, case.learned)
    clipped = threshold(inner, Threshold.STATIC if case.clip else Threshold.NONE)

    noises = np.random.default_rng(0).standard_normal((len(kept) + 1, *SHAPE))
    expected = noises[-1]
    for t in reversed(range(len(kept))):
        if eta is None:
            expected = published.p_sample(case, expected, t, noises[t])
        else:
            expected = published.ddim_sample(case, expected, t, noises[t], eta)

    left = iter(torch.from_numpy(noises[1:-1]).flip(0))
    start = torch.from_numpy(noises[-1])
    if eta is None:
        variance = Variance.LARGE if case.large else None
        steps_taken = list(ancestral(clipped, start, lambda: next(left), variance=variance))
    else:
        steps_taken = list(ddim(clipped, start, lambda: next(left), eta=eta))
    np.testing.assert_allclose(steps_taken[-1].x.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_tables_agree_with_the_published_ones(name: str) -> None:
    for steps in ("25", "fast27", "1000"):
        kept = respace(STEPS, steps)
        published = Published(linear_betas() if name == "linear" else cosine_betas(), kept)
        schedule = (linear() if name == "linear" else cosine())[kept]
        posterior = schedule.posterior
        for found, expected in (
            (schedule.alpha, np.sqrt(published.alpha_bar)),
            (schedule.sigma, np.sqrt(1 - published.alpha_bar)),
            (schedule.beta, published.betas),
            (posterior.variance, published.posterior_variance),
            (posterior.x0_weight, published.coefficient_x0),
            (posterior.x_weight, published.coefficient_x),
        ):
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)
