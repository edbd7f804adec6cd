from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from unclip.diffusion.denoiser import denoiser
from unclip.diffusion.loss import (
    Weighting,
    diffusion_loss,
    discretised_log_likelihood,
    loss_weight,
    prediction_target,
    variational_term,
)
from unclip.diffusion.schedule import Prediction, Schedule, cosine, geometric, linear, respace
from unclip.errors import InputError

COSINE = cosine()


def batch(size: int = 6, schedule: Schedule = COSINE) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (size, 3, 4, 4), generator=generator).double() / 127.5 - 1
    index = torch.linspace(0, len(schedule) - 1, size).long()
    return levels, index, torch.randn(levels.shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("prediction", list(Prediction))
@pytest.mark.parametrize("weighting", list(Weighting))
def test_a_perfect_network_has_no_loss(prediction: Prediction, weighting: Weighting) -> None:
    x0, index, noise = batch()
    target = prediction_target(COSINE, prediction, x0, index, noise)
    loss = diffusion_loss(lambda x, label: target, COSINE, prediction, x0, index, noise, weighting)
    assert torch.equal(loss, torch.zeros(6).double())


@pytest.mark.parametrize("schedule", [linear(), geometric(20, 0.05, 20.0)])
@pytest.mark.parametrize("weighting", [Weighting.MIN_SNR, Weighting.SOFT_MIN_SNR])
def test_an_snr_weighting_is_one_loss_whatever_is_predicted(schedule: Schedule, weighting: Weighting) -> None:
    """Networks that mean the same x0 have the same loss: the papers' weight on the error of x0."""
    x0, index, noise = batch(schedule=schedule)
    x = schedule.add_noise(x0, index, noise)
    estimate = x0 + 0.1 * torch.randn(
        x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    alpha = schedule.alpha[index].reshape(-1, 1, 1, 1)
    sigma = schedule.sigma[index].reshape(-1, 1, 1, 1)
    epsilon = (x - alpha * estimate) / sigma
    power = sigma**2 + (0.5 * alpha) ** 2
    outputs = {
        Prediction.X0: estimate,
        Prediction.EPSILON: epsilon,
        Prediction.V: alpha * epsilon - sigma * estimate,
        Prediction.SCORE: -epsilon / sigma,
        Prediction.EDM: (sigma / 0.5 * estimate - 0.5 * alpha * epsilon) / power.sqrt(),
    }
    snr = (alpha / sigma).flatten() ** 2
    if weighting is Weighting.MIN_SNR:
        weight = torch.minimum(snr, torch.tensor(5.0))  # Eq. 7 of 2303.09556 on x0
    else:
        weight = 1 / (1 / snr + 1 / 4)
    expected = weight * ((estimate - x0) ** 2).flatten(1).mean(1)
    for prediction, output in outputs.items():
        found = diffusion_loss(
            lambda x, label, output=output: output, schedule, prediction, x0, index, noise, weighting
        )
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_weights_are_the_papers_for_each_prediction() -> None:
    """2303.09556: min(SNR, 5) for x0, over SNR for epsilon, over SNR + 1 for v."""
    snr = COSINE.log_snr.exp()
    least = snr.clamp(max=5)
    for prediction, weight in (
        (Prediction.X0, least),
        (Prediction.EPSILON, least / snr),
        (Prediction.V, least / (snr + 1)),
    ):
        found = loss_weight(COSINE, prediction, Weighting.MIN_SNR)
        torch.testing.assert_close(found, weight, rtol=1e-9, atol=0)
    assert torch.equal(loss_weight(COSINE, Prediction.V, Weighting.UNIFORM), torch.ones(1000).double())
    large = loss_weight(COSINE, Prediction.X0, Weighting.SOFT_MIN_SNR, gamma=1e12)
    torch.testing.assert_close(large, snr, rtol=1e-6, atol=0)


def test_the_score_is_weighted_as_in_ncsn() -> None:
    """lambda(sigma) = sigma^2 makes |sigma s + epsilon|^2 of it (1907.05600, Eq. 6)."""
    schedule = geometric(10, 0.01, 1.0)
    x0, index, noise = batch(schedule=schedule)
    output = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = diffusion_loss(lambda x, _: output, schedule, Prediction.SCORE, x0, index, noise)
    sigma = schedule.sigma[index].reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found, ((sigma * output + noise) ** 2).flatten(1).mean(1))


def test_gamma_is_never_ignored() -> None:
    with pytest.raises(InputError, match="gamma"):
        loss_weight(COSINE, Prediction.V, Weighting.UNIFORM, gamma=5.0)
    with pytest.raises(InputError, match="gamma"):
        loss_weight(COSINE, Prediction.V, Weighting.MIN_SNR, gamma=0.0)


def test_the_network_is_fed_noised_pictures_and_labels() -> None:
    x0, index, noise = batch()
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, label: Tensor) -> Tensor:
        seen.append((x, label))
        return x

    diffusion_loss(network, COSINE, Prediction.EPSILON, x0.float(), index, noise.float())
    x, label = seen[0]
    assert x.dtype == label.dtype == torch.float32
    assert label.tolist() == index.tolist()
    k = 3
    expected = COSINE.alpha[index[k]] * x0[k] + COSINE.sigma[index[k]] * noise[k]
    torch.testing.assert_close(x[k], expected.float())


def test_the_variational_term_is_a_divergence_between_two_gaussians() -> None:
    x0, index, noise = batch()
    x = COSINE.add_noise(x0, index, noise)
    generator = torch.Generator().manual_seed(3)
    output = noise + 0.1 * torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    v = 2 * torch.rand(x0.shape, dtype=torch.float64, generator=generator) - 1
    found = variational_term(COSINE, Prediction.EPSILON, x0, x, index, output, v)
    posterior = COSINE.posterior
    for k in range(1, len(index)):
        i = int(index[k])
        p = denoiser(lambda x, _, k=k: torch.cat([output[k], v[k]])[None], COSINE, Prediction.EPSILON, True)
        estimate = p(x[k : k + 1], i)
        assert estimate.log_variance is not None
        true_mean = posterior.x0_weight[i] * x0[k] + posterior.x_weight[i] * x[k]
        mean = posterior.x0_weight[i] * estimate.x0[0] + posterior.x_weight[i] * x[k]
        q = Normal(true_mean, posterior.variance[i].sqrt())
        divergence = kl_divergence(q, Normal(mean, (estimate.log_variance[0] / 2).exp())).mean() / math.log(2)
        assert float(found[k]) == pytest.approx(float(divergence), rel=1e-7)
    # the decoder at index 0, whose mean is the estimate of x0
    small, large = posterior.log_variance_small[0], posterior.log_variance_large[0]
    log_std = (small + (v[0] + 1) / 2 * (large - small)) / 2
    estimate_x0 = (x[0] - COSINE.sigma[0] * output[0]) / COSINE.alpha[0]
    likelihood = discretised_log_likelihood(x0[0], estimate_x0, log_std)
    assert float(found[0]) == pytest.approx(-float(likelihood.mean()) / math.log(2), rel=1e-9)


@pytest.mark.parametrize("std", [1e-3, 0.05, 0.7])
@pytest.mark.parametrize("mean", [-1.4, -0.999, 0.1, 1.0])
def test_the_decoder_is_a_distribution_over_256_levels(mean: float, std: float) -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    likelihood = discretised_log_likelihood(levels, torch.tensor(mean), torch.tensor(std).log().double())
    assert float(likelihood.exp().sum()) == pytest.approx(1, abs=1e-6)


def test_the_decoder_keeps_its_digits_above_the_mean_as_below() -> None:
    levels = torch.tensor([0.5, -0.5]) * 254 / 255
    found = discretised_log_likelihood(levels, torch.zeros(2), torch.full((2,), math.log(0.1)))
    assert found.dtype == torch.float32
    assert float(found[0]) == float(found[1])
    exact = Normal(0.0, 0.1).log_prob(torch.tensor(0.5 * 254 / 255)) + math.log(2 / 255)
    assert float(found[0]) == pytest.approx(float(exact), rel=0.01)


def test_hybrid_loss_is_the_papers_and_its_bound_reaches_the_variance_only() -> None:
    """Eq. 16 of 2102.09672: L_simple + 0.001 T L_t, the mean's gradient being L_simple's alone."""
    schedule = COSINE[respace(1000, 250)]
    x0, index, noise = batch(schedule=schedule)
    generator = torch.Generator().manual_seed(4)
    mean = torch.randn(x0.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    v = torch.randn(x0.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    arguments = (schedule, Prediction.EPSILON, x0, index, noise)
    hybrid = diffusion_loss(lambda x, _: torch.cat([mean, v], 1), *arguments, learned_range=True)
    simple = diffusion_loss(lambda x, _: mean, *arguments)
    term = variational_term(
        schedule, Prediction.EPSILON, x0, schedule.add_noise(x0, index, noise), index, mean.detach(), v
    )
    torch.testing.assert_close(hybrid, simple + 250 / 1000 * term)
    hybrid_gradients = torch.autograd.grad(hybrid.sum(), (mean, v))
    torch.testing.assert_close(hybrid_gradients[0], torch.autograd.grad(simple.sum(), mean)[0])
    torch.testing.assert_close(hybrid_gradients[1], torch.autograd.grad(0.25 * term.sum(), v)[0])
    assert float(hybrid_gradients[1].abs().max()) > 0


@pytest.mark.parametrize("prediction", list(Prediction))
def test_hybrid_loss_is_finite_in_single_precision_at_every_step(prediction: Prediction) -> None:
    generator = torch.Generator().manual_seed(5)
    x0 = torch.rand(1000, 1, 4, generator=generator) * 2 - 1
    x0[:, :, :2] = x0[:, :, :2].sign()  # black and white, the ends of the decoder's levels
    output = torch.randn(1000, 2, 4, generator=generator).requires_grad_()
    loss = diffusion_loss(
        lambda x, _: output,
        COSINE,
        prediction,
        x0,
        torch.arange(1000),
        torch.randn(x0.shape, generator=generator),
        learned_range=True,
    )
    (gradient,) = torch.autograd.grad(loss.sum(), output)
    assert bool(torch.isfinite(loss).all())
    assert bool(torch.isfinite(gradient).all())


def test_wrong_shapes_and_steps_are_refused() -> None:
    x0, index, noise = batch()
    for bad in (
        (x0, index[:2], noise),
        (x0, index, noise[:2]),
        (x0, index + 1, noise),
        (x0, index - 1, noise),
    ):
        with pytest.raises(InputError):
            diffusion_loss(lambda x, _: x, COSINE, Prediction.V, *bad)
