from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.diffusion.guidance import Sees, classifier, classifier_free, clip_guidance
from unclip.diffusion.samplers import ancestral, ddim
from unclip.diffusion.schedule import Schedule, cosine, respace
from unclip.errors import InputError

SCHEDULE = cosine()[respace(1000, 10)]
X = torch.randn(3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Counted:
    """A denoiser towards a constant picture, that counts its evaluations."""

    def __init__(self, level: float, schedule: Schedule = SCHEDULE) -> None:
        self.schedule, self.level, self.calls = schedule, level, 0

    def __call__(self, x: Tensor, i: int) -> Denoised:
        self.calls += 1
        x0 = torch.full_like(x, self.level) + 0.1 * x
        epsilon = (x - float(self.schedule.alpha[i]) * x0) / float(self.schedule.sigma[i])
        return Denoised(x0, epsilon, torch.full_like(x, -self.level))


class Both(Counted):
    """[conditional; unconditional] in one call."""

    def __call__(self, x: Tensor, i: int) -> Denoised:
        self.calls += 1
        there, here = x.chunk(2)
        halves = Counted(1.0)(there, i), Counted(-1.0)(here, i)
        return Denoised(*(torch.cat(parts) for parts in zip(*halves, strict=True)))


def same(a: Denoised, b: Denoised) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_scale_one_is_conditional_and_zero_unconditional_at_half_the_cost() -> None:
    for scale, (there_calls, here_calls) in ((1.0, (1, 0)), (0.0, (0, 1)), (3.0, (1, 1))):
        there, here = Counted(1.0), Counted(-1.0)
        found = classifier_free(there, here, scale)(X, 5)
        assert (there.calls, here.calls) == (there_calls, here_calls)
        if scale in (0.0, 1.0):
            assert same(found, (there if scale else here)(X, 5))


def test_guidance_extrapolates_and_keeps_the_conditional_variance() -> None:
    there, here = Counted(1.0), Counted(-1.0)
    found = classifier_free(there, here, 3.0)(X, 5)
    a, b = there(X, 5), here(X, 5)
    torch.testing.assert_close(found.x0, b.x0 + 3 * (a.x0 - b.x0))
    torch.testing.assert_close(found.epsilon, b.epsilon + 3 * (a.epsilon - b.epsilon))
    torch.testing.assert_close(
        float(SCHEDULE.alpha[5]) * found.x0 + float(SCHEDULE.sigma[5]) * found.epsilon, X
    )
    assert found.log_variance is not None
    assert a.log_variance is not None
    assert torch.equal(found.log_variance, a.log_variance)


def test_both_in_one_batch_is_the_same_as_each_alone() -> None:
    separate = classifier_free(Counted(1.0), Counted(-1.0), 3.0)
    there, here, both = Counted(1.0), Counted(-1.0), Both(0.0)
    together = classifier_free(there, here, 3.0, both=both)
    for i in (0, 5, 9):
        assert same(separate(X, i), together(X, i))
    assert (there.calls, here.calls, both.calls) == (0, 0, 3)


def test_each_picture_may_have_its_own_scale() -> None:
    """A picture in a batch with strangers' scales is the picture alone with its scale."""
    scales = (1.0, 0.0, 4.0)
    together = classifier_free(Counted(1.0), Counted(-1.0), torch.tensor(scales))(X, 5)
    for k, scale in enumerate(scales):
        alone = classifier_free(Counted(1.0), Counted(-1.0), scale)(X[k : k + 1], 5)
        assert torch.equal(together.x0[k], alone.x0[0])
        assert torch.equal(together.epsilon[k], alone.epsilon[0])
    with pytest.raises(InputError, match="for 3 pictures"):
        classifier_free(Counted(1.0), Counted(-1.0), torch.ones(2))(X, 5)


def test_guidance_stays_in_its_interval() -> None:
    """Outside it only the conditional denoiser is asked, and its answer stands."""
    noise = SCHEDULE.noise_to_signal
    interval = (float(noise[3]), float(noise[6]))  # both ends belong to it
    there, here = Counted(1.0), Counted(-1.0)
    guided = classifier_free(there, here, 3.0, interval=interval)
    for _ in ddim(guided, X, no_noise):
        pass
    assert (there.calls, here.calls) == (10, 4)
    assert same(guided(X, 2), there(X, 2))
    both = Both(0.0)
    for _ in ddim(classifier_free(there, here, 3.0, interval=interval, both=both), X, no_noise):
        pass
    assert both.calls == 4
    with pytest.raises(InputError, match="interval"):
        classifier_free(there, here, 3.0, interval=(2.0, 1.0))


def test_different_schedules_are_refused() -> None:
    with pytest.raises(InputError, match="schedules"):
        classifier_free(Counted(1.0), Counted(-1.0, cosine()), 2.0)


def no_noise() -> Tensor:
    raise AssertionError("noise was drawn where none is needed")


def towards(wanted: float, mean: float = 0.0, std: float = 1.0) -> tuple[Denoiser, Denoiser]:
    """Perfect denoiser of N(mean, std^2), and of the same times a likelihood N(x0 | wanted, 1)."""

    def gaussian(mean: float, std: float) -> Denoiser:
        def function(x: Tensor, i: int) -> Denoised:
            alpha, sigma = float(SCHEDULE.alpha[i]), float(SCHEDULE.sigma[i])
            x0 = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
            return Denoised(x0, (x - alpha * x0) / sigma, None)

        return Denoiser(SCHEDULE, function)

    product = std**2 / (1 + std**2)
    return gaussian(mean, std), gaussian(mean + product * (wanted - mean), product**0.5)


def test_a_perfect_classifier_turns_the_prior_into_the_posterior() -> None:
    """Prior N(0, 1), p(y | x0) = N(y; x0, 1): guidance by its noised form is the posterior's own denoiser."""
    wanted = 1.5
    prior, posterior = towards(wanted)
    labels = {float(label): i for i, label in enumerate(SCHEDULE.label)}

    def log_probability(x: Tensor, label: Tensor) -> Tensor:
        i = labels[float(label[0])]
        alpha, sigma = float(SCHEDULE.alpha[i]), float(SCHEDULE.sigma[i])
        # x0 | x_t is N(alpha x_t, sigma^2) where alpha^2 + sigma^2 = 1
        return (-((wanted - alpha * x) ** 2) / (2 * (1 + sigma**2))).flatten(1).sum(1)

    guided = classifier(prior, log_probability, 1.0)
    with torch.inference_mode():
        for i in range(10):
            found, expected = guided(X, i), posterior(X, i)
            # at the last index x0 follows from epsilon by a division by alpha = 5e-5
            torch.testing.assert_close(found.x0, expected.x0, rtol=0, atol=1e-7)
            torch.testing.assert_close(found.epsilon, expected.epsilon, rtol=0, atol=1e-12)
            assert not found.x0.requires_grad
        guided_end = [step.x for step in ddim(guided, X, no_noise)][-1]
        expected_end = [step.x for step in ddim(posterior, X, no_noise)][-1]
    torch.testing.assert_close(guided_end, expected_end, rtol=0, atol=1e-7)


def test_guidance_through_the_estimate_takes_the_chain_rule() -> None:
    weight = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inner, _ = towards(0.0, mean=0.3, std=0.5)
    guided = clip_guidance(inner, lambda x0, _: (x0 * weight).flatten(1).sum(1), 2.0, sees=Sees.ESTIMATE)
    i = 6
    alpha, sigma = float(SCHEDULE.alpha[i]), float(SCHEDULE.sigma[i])
    slope = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)  # of x0 by x
    plain = inner(X, i)
    found = guided(X, i)
    torch.testing.assert_close(found.epsilon, plain.epsilon - 2 * sigma * slope * weight)
    torch.testing.assert_close(alpha * found.x0 + sigma * found.epsilon, X)


def test_gradient_guidance_of_zero_asks_nothing_and_a_wrong_objective_is_refused() -> None:
    inner, _ = towards(0.0)

    def never(x: Tensor, label: Tensor) -> Tensor:
        raise AssertionError("the objective was evaluated at scale 0")

    assert torch.equal(classifier(inner, never, 0.0)(X, 3).x0, inner(X, 3).x0)
    with pytest.raises(InputError, match="one number a picture"):
        clip_guidance(inner, lambda x, _: x.sum(), 1.0)(X, 3)


def test_guided_denoisers_go_into_any_sampler() -> None:
    guided = classifier_free(Counted(1.0), Counted(-1.0), 2.0)
    steps = list(ancestral(guided, X, lambda: torch.zeros_like(X)))
    assert torch.isfinite(steps[-1].x).all()
