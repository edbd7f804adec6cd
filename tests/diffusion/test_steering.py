"""Promises of steering: guidance is published guidance, known pixels come out as they went in."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from reference.sampler import PublishedSampler, cosine_betas, gradient_of, linear_betas
from unclip.diffusion.denoiser import Denoiser, Threshold, denoiser, threshold
from unclip.diffusion.guidance import classifier, mean_shifted, with_known
from unclip.diffusion.samplers import Sampler, ancestral, ddim
from unclip.diffusion.schedule import Prediction, cosine, linear, respace

SHAPE = (2, 3, 4, 4)
SCALE = 2.5


def network(x: Tensor, label: Tensor, halves: int = 2) -> Tensor:
    """Something smooth that depends on x and the label, in [-1, 1]."""
    turn = 0.001 * label.reshape(-1, 1, 1, 1)
    return torch.cat([torch.sin((1 + k) * x + turn + k) for k in range(halves)], dim=1)


def log_probability(x: Tensor, label: Tensor) -> Tensor:
    return torch.cos(x + 0.002 * label.reshape(-1, 1, 1, 1)).flatten(1).sum(1)


def noises(count: int) -> Iterator[Tensor]:
    return iter(torch.randn(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))


def guide(inner: Denoiser) -> Denoiser:
    return classifier(inner, log_probability, SCALE)


def gradient(x: Tensor, step: int) -> Tensor:
    label = torch.full((len(x),), float(step), dtype=x.dtype)
    return SCALE * gradient_of(lambda position: log_probability(position, label), x)


@pytest.mark.parametrize("steps", ["25", "fast27", "1000"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_classifier_guides_the_mean_as_published(name: str, steps: str) -> None:
    kept = respace(1000, steps)
    published = PublishedSampler(linear_betas() if name == "linear" else cosine_betas(), kept)
    schedule = (linear() if name == "linear" else cosine())[kept]
    inner = denoiser(network, schedule, Prediction.EPSILON, learned_range=True)
    guided = mean_shifted(threshold(inner, Threshold.STATIC), guide)

    left = noises(len(kept))
    start = next(left)
    found = list(ancestral(guided, start, lambda: next(left)))[-1].x
    left = noises(len(kept))
    x = next(left)
    for t in reversed(range(len(kept))):
        output = network(x, torch.full((2,), float(kept[t]), dtype=x.dtype))
        noise = next(left) if t else torch.zeros_like(x)
        x = published.ancestral(x, t, output, noise, gradient=gradient(x, kept[t]))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_classifier_guides_ddim_as_published(name: str) -> None:
    kept = respace(1000, "ddim25")
    published = PublishedSampler(linear_betas() if name == "linear" else cosine_betas(), kept)
    schedule = (linear() if name == "linear" else cosine())[kept]
    inner = denoiser(network, schedule, Prediction.EPSILON, learned_range=True)
    guided = guide(threshold(inner, Threshold.STATIC))
    x = next(noises(1))
    found = list(ddim(guided, x, lambda: torch.zeros_like(x)))[-1].x
    for t in reversed(range(len(kept))):
        output = network(x, torch.full((2,), float(kept[t]), dtype=x.dtype))
        x = published.ddim(x, t, output, gradient=gradient(x, kept[t]))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-9)


def test_without_a_learned_variance_the_small_one_shifts() -> None:
    schedule = linear()[respace(1000, 10)]
    inner = denoiser(lambda x, label: network(x, label, 1), schedule, Prediction.EPSILON)
    x = next(noises(1))
    zeros = torch.zeros_like(x)
    plain = next(ancestral(inner, x, lambda: zeros)).x
    shifted = next(ancestral(mean_shifted(inner, guide), x, lambda: zeros)).x
    variance = float(schedule.posterior.variance[-1])
    torch.testing.assert_close(shifted - plain, variance * gradient(x, 999), rtol=0, atol=1e-9)


# Where one number that starts at 0.7 ends after fast27's steps, as `PublishedSampler` computes it in float64:
# the network gives sin(x + t / 1000) and sin(2 x + t / 1000 + 1), the gradient is -2 sin(x), and the noise of
# step n is cos(n + 1).
FROZEN = {
    ("linear", ancestral): -0.027504351772967554,
    ("linear", ddim): -0.9998251089547867,
    ("cosine", ancestral): -0.06593454979688701,
    ("cosine", ddim): -0.9999204998985558,
}


@pytest.mark.parametrize(("name", "sampler"), FROZEN)
def test_guided_samplers_give_the_frozen_numbers(name: str, sampler: Sampler) -> None:
    schedule = (linear() if name == "linear" else cosine())[respace(1000, "fast27")]

    def network(x: Tensor, label: Tensor) -> Tensor:
        turn = label.reshape(-1, 1) / 1000
        return torch.cat([torch.sin(x + turn), torch.sin(2 * x + turn + 1)], dim=1)

    def guide(inner: Denoiser) -> Denoiser:
        return classifier(inner, lambda x, label: 2 * torch.cos(x).sum(1), 1.0)

    clipped = threshold(denoiser(network, schedule, Prediction.EPSILON, True), Threshold.STATIC)
    guided = guide(clipped) if sampler is ddim else mean_shifted(clipped, guide)
    left = iter(range(1, 28))
    x = torch.full((1, 1), 0.7, dtype=torch.float64)
    steps = sampler(guided, x, lambda: torch.full((1, 1), math.cos(next(left)), dtype=torch.float64))
    assert float(list(steps)[-1].x) == pytest.approx(FROZEN[name, sampler], abs=1e-9)


@pytest.mark.parametrize("sampler", [ancestral, ddim])
def test_known_pixels_come_out_as_they_went_in(sampler: Sampler) -> None:
    schedule = cosine()[respace(1000, 5)]
    inner = denoiser(network, schedule, Prediction.EPSILON, learned_range=True)
    known = torch.rand(SHAPE, dtype=torch.float64) * 2 - 1
    keep = torch.zeros(2, 1, 4, 4)
    keep[:, :, :2] = 1
    left = noises(6)
    start = next(left)
    free = list(sampler(inner, start, lambda: next(left)))[-1].x
    left = noises(6)
    start = next(left)
    steered = with_known(inner, known, keep)
    drawn = list(sampler(steered, start, lambda: next(left)))[-1].x
    torch.testing.assert_close(drawn[:, :, :2], known[:, :, :2], rtol=0, atol=1e-12)
    assert not torch.allclose(drawn[:, :, 2:], known[:, :, 2:])
    assert not torch.allclose(drawn[:, :, :2], free[:, :, :2])
