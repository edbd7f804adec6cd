"""Samplers: generators over a denoiser. Progress, previews and cancelling are `for` loops.

Each takes x at the schedule's last index (noise times `schedule.initial_std`), visits every index of the
denoiser's schedule from the last to 0, and yields `Step(i, x, x0)` after each; the last x is the result, with
no noise left. Respace the schedule to take fewer steps. `noise()` gives standard normal noise of x's shape
and type, each picture's from its own stream; it is called only where noise is added. A picture's result
depends on nothing but its own rows. Weights of a step are made in float64, x keeps its type. No gradient is
recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.diffusion.names import SamplerName
from unclip.diffusion.schedule import broadcast
from unclip.errors import InputError, shown

Noise = Callable[[], Tensor]


class Step(NamedTuple):
    """Where a sampler is after using index i."""

    i: int  # index of the schedule that was denoised
    x: Tensor  # (B, C, ...) where the step led: at the index below, or clean after index 0
    x0: Tensor  # (B, C, ...) the estimate of the clean picture that the step used


class Sampler(Protocol):
    """The call that every sampler in `SAMPLERS` takes; each has options of its own beside."""

    def __call__(self, denoiser: Denoiser, x: Tensor, noise: Noise) -> Iterator[Step]: ...


class Variance(StrEnum):
    """Variance of an ancestral step."""

    SMALL = "small"  # the posterior's, beta tilde
    LARGE = "large"  # beta
    LEARNED = "learned"  # the network's


@torch.no_grad()
def ancestral(
    denoiser: Denoiser, x: Tensor, noise: Noise, *, variance: Variance | None = None
) -> Iterator[Step]:
    """Ancestral sampling (2006.11239, Algorithm 2) from p(x_s | x_t), no noise in the last step.

    Args:
        denoiser: what says x0.
        x: (B, C, ...), noise at the last index.
        noise: see the module.
        variance: None takes the learned one where there is one and the small one elsewhere.

    Raises:
        InputError: a learned variance is asked of a denoiser that has none.
    """
    posterior = denoiser.schedule.posterior
    for i in _downwards(denoiser):
        x0, _, learned = denoiser(x, i)
        if variance is Variance.LEARNED and learned is None:
            raise InputError("variance 'learned', but this model learned none: choose 'small' or 'large'")
        mean = float(posterior.x0_weight[i]) * x0 + float(posterior.x_weight[i]) * x
        if i == 0:
            x = mean
        elif learned is not None and variance in (None, Variance.LEARNED):
            x = mean + (learned / 2).exp() * noise()
        else:
            large = variance is Variance.LARGE
            log_variance = posterior.log_variance_large if large else posterior.log_variance_small
            x = mean + math.exp(float(log_variance[i]) / 2) * noise()
        yield Step(i, x, x0)


@torch.no_grad()
def ddim(denoiser: Denoiser, x: Tensor, noise: Noise, *, eta: float = 0.0) -> Iterator[Step]:
    """DDIM (2010.02502, Eq. 12 and 16); eta 0 is deterministic, eta 1 adds the posterior's variance.

    Raises:
        InputError: eta lies outside [0, 1].
    """
    _check_eta(eta)
    for i in _downwards(denoiser):
        denoised = denoiser(x, i)
        mean, variance = _ddim_step(denoiser, denoised, i, eta)
        x = mean + math.sqrt(variance) * noise() if variance > 0 else mean
        yield Step(i, x, denoised.x0)


@torch.no_grad()
def ddim_invert(denoiser: Denoiser, x: Tensor, *, iterations: int = 0) -> Iterator[Step]:
    """The noise that DDIM (eta 0) would draw this picture from: indices 0, 1, ... to the last.

    The step from s up to t that undoes DDIM's needs epsilon at x_t, which is not known yet. It is taken at
    x_s, with s's label, as ADM's code does; from the clean picture up to index 0, with index 0's.

    Args:
        denoiser: must not threshold or add noise, or there is no way back.
        x: clean pictures (B, C, ...).
        iterations: fixed-point rounds that then put epsilon at the x_t just found, one evaluation each; the
            way back becomes exact as they grow, where they converge.

    Raises:
        InputError: iterations is negative.
    """
    if iterations < 0:
        raise InputError(f"iterations is {iterations}: take 0 or more")
    schedule = denoiser.schedule
    for i in range(len(schedule)):
        alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
        alpha_below, sigma_below = schedule.below(i)
        # DDIM goes down with x_s = alpha_s x0 + sigma_s epsilon, both of x_t = alpha_t x0 + sigma_t epsilon:
        # x_t follows from x_s and either of the two
        ratio, weight = alpha / alpha_below, sigma - alpha / alpha_below * sigma_below
        denoised = denoiser(x, max(i - 1, 0))
        lower, x = x, ratio * x + weight * denoised.epsilon
        by_x0 = sigma * sigma_below > alpha * alpha_below  # the one that contracts more
        if by_x0:
            ratio, weight = sigma / sigma_below, alpha - sigma / sigma_below * alpha_below
        for _ in range(iterations):
            denoised = denoiser(x, i)
            x = ratio * lower + weight * (denoised.x0 if by_x0 else denoised.epsilon)
        yield Step(i, x, denoised.x0)


@torch.no_grad()
def analytic_dpm(
    denoiser: Denoiser,
    x: Tensor,
    noise: Noise,
    *,
    epsilon_squared: Tensor | None = None,
    eta: float = 1.0,
    bound: float = 1.0,
    last_noise: float | None = None,
) -> Iterator[Step]:
    """Analytic-DPM (2201.06503): ancestral steps with the variance that is optimal for the denoiser's mean.

    Theorem 1: the posterior's variance plus that of E[x0 | x_t] carried through the step, the latter being
    (sigma / alpha)^2 (1 - E|epsilon|^2 / d). The paper's Gamma is E|epsilon|^2 / d over sigma^2.

    Args:
        denoiser: what says x0 and epsilon.
        x: (B, C, ...), noise at the last index.
        noise: see the module.
        epsilon_squared: E|epsilon|^2 / d over the data at each index of this schedule, (T,). None takes each
            picture's own |epsilon|^2 / d as it goes: the estimate is as good as the picture has many
            dimensions.
        eta: 1 for the DDPM form of the steps, 0 for the DDIM form.
        bound: the data lie in [-bound, bound], which bounds the variance of x0 by bound^2 (Theorem 2); also
            right for whitened data, whose variance is 1. math.inf for none.
        last_noise: largest mean absolute noise of the last noisy step, in units of x (the paper's clipping of
            sigma_2: 1 or 2 grey levels, 2 / 255 or 4 / 255). None for none.

    Raises:
        InputError: eta outside [0, 1], bound or last_noise not positive, or a table of another length.
    """
    _check_eta(eta)
    if bound <= 0 or (last_noise is not None and last_noise <= 0):
        raise InputError(f"bound {bound}, last_noise {last_noise}: take positive numbers")
    schedule = denoiser.schedule
    if epsilon_squared is not None and epsilon_squared.shape != schedule.alpha.shape:
        raise InputError(
            f"epsilon_squared {tuple(epsilon_squared.shape)} for a schedule of {len(schedule)} steps: "
            "index it as the schedule was"
        )
    for i in _downwards(denoiser):
        denoised = denoiser(x, i)
        mean, variance = _ddim_step(denoiser, denoised, i, eta)
        if i == 0:
            x = mean
        else:
            if epsilon_squared is None:
                squared = denoised.epsilon.flatten(1).to(torch.float64).square().mean(1)  # (B,)
            else:
                squared = epsilon_squared[i].to(x.device, torch.float64).expand(len(x))  # (B,)
            noise_to_signal = float(schedule.noise_to_signal[i])
            x0_variance = (noise_to_signal**2 * (1 - squared)).clamp(0, bound**2)
            alpha_below, sigma_below = schedule.below(i)
            # how x0 enters the mean, epsilon being (x - alpha x0) / sigma
            weight = alpha_below - math.sqrt(sigma_below**2 - variance) / noise_to_signal
            optimal = variance + weight**2 * x0_variance
            if i == 1 and last_noise is not None:
                optimal = optimal.clamp(max=last_noise**2 * math.pi / 2)  # E|N(0, 1)| = sqrt(2 / pi)
            x = mean + broadcast(optimal.sqrt(), x) * noise()
        yield Step(i, x, denoised.x0)


@torch.no_grad()
def dpm_solver_pp_2m(
    denoiser: Denoiser, x: Tensor, noise: Noise, *, lower_order_final: bool = True
) -> Iterator[Step]:
    """DPM-Solver++(2M) (2211.01095, Algorithm 2): second order, one evaluation a step, deterministic.

    Wants steps about even in log-SNR: see `respace_by_log_snr`. The step from index 0 to the clean picture is
    x0.

    Args:
        denoiser: what says x0.
        x: (B, C, ...), noise at the last index.
        noise: never called.
        lower_order_final: take the step into index 0 at first order too: with few steps it is long, and the
            extrapolation overshoots.
    """
    schedule = denoiser.schedule
    half_log_snr = schedule.log_snr / 2  # lambda
    previous: Tensor | None = None  # x0 of the step before
    previous_h = math.nan
    for i in _downwards(denoiser):
        x0 = denoiser(x, i).x0
        if i == 0:
            x = x0
        else:
            h = float(half_log_snr[i - 1] - half_log_snr[i])
            estimate = x0
            if previous is not None and not (lower_order_final and i == 1):
                estimate = x0 + h / (2 * previous_h) * (x0 - previous)
            alpha_below, sigma_below = schedule.below(i)
            x = sigma_below / float(schedule.sigma[i]) * x - alpha_below * math.expm1(-h) * estimate
            previous, previous_h = x0, h
        yield Step(i, x, x0)


@torch.no_grad()
def heun(denoiser: Denoiser, x: Tensor, noise: Noise) -> Iterator[Step]:
    """Heun's second-order method on EDM's equation (2206.00364, Algorithm 1): deterministic.

    With y = x / alpha and noise level sigma / alpha, dy = epsilon d(sigma / alpha). A step goes from an index
    to the one below and evaluates the denoiser at both ends, so it asks for no noise level between the
    table's; two evaluations a step, one in the last (which is Euler's and gives x0). EDM's churn would need
    levels between the indices and is not offered. `noise` is never called.

    Wants steps spaced as in `respace_karras`: from the last indices of the cosine schedule, whose
    sigma / alpha is in the thousands, a step multiplies the error of epsilon.
    """
    schedule = denoiser.schedule
    for i in _downwards(denoiser):
        denoised = denoiser(x, i)
        x, _ = _ddim_step(denoiser, denoised, i, eta=0.0)  # Euler's step, in a form without large numbers
        if i > 0:
            alpha_below, sigma_below = schedule.below(i)
            length = sigma_below - alpha_below * float(schedule.noise_to_signal[i])
            x = x + length / 2 * (denoiser(x, i - 1).epsilon - denoised.epsilon)
        yield Step(i, x, denoised.x0)


@torch.no_grad()
def langevin(
    denoiser: Denoiser, x: Tensor, noise: Noise, *, steps: int = 100, step_size: float = 2e-5
) -> Iterator[Step]:
    """Annealed Langevin dynamics (1907.05600, Algorithm 1): a `Step` for every update.

    At each index, `steps` times x + a / 2 score + sqrt(a) noise with a = step_size (sigma_i / sigma_0)^2.
    One denoising step at the end takes away the last level's noise (2009.05475).

    Args:
        denoiser: what says epsilon, and with it the score.
        x: (B, C, ...), noise at the last index.
        noise: see the module.
        steps: updates at each index; the default is the paper's.
        step_size: the paper's epsilon, and by default its 2e-5. NCSN's code and 2006.09011 write the same
            update as x + s score + sqrt(2 s) noise: their `step_lr` is half of this, and so the `step_lr` of
            2e-5 that NCSN's code draws with is a `step_size` of 4e-5.

    Raises:
        InputError: steps below 1 or step_size not positive.
    """
    if steps < 1 or step_size <= 0:
        raise InputError(f"steps {steps}, step_size {step_size}: take 1 step or more and a positive size")
    schedule = denoiser.schedule
    for i in _downwards(denoiser):
        sigma = float(schedule.sigma[i])
        size = step_size * (sigma / float(schedule.sigma[0])) ** 2
        for _ in range(steps):
            x0, epsilon, _ = denoiser(x, i)
            x = x - size / (2 * sigma) * epsilon + math.sqrt(size) * noise()  # score = -epsilon / sigma
            yield Step(i, x, x0)
        if i > 0:
            x = x * (schedule.below(i)[0] / float(schedule.alpha[i]))  # 1 where variance explodes
    x0 = denoiser(x, 0).x0
    yield Step(0, x0, x0)


SAMPLERS: dict[str, Sampler] = {
    SamplerName.ANCESTRAL: ancestral,
    SamplerName.DDIM: ddim,
    SamplerName.ANALYTIC_DPM: analytic_dpm,
    SamplerName.DPM_SOLVER: dpm_solver_pp_2m,
    SamplerName.HEUN: heun,
    SamplerName.LANGEVIN: langevin,
}


def find_sampler(name: str) -> Sampler:
    """The sampler of this name.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    if name not in SAMPLERS:
        raise InputError(f"unknown sampler {shown(name)}: choose {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def _downwards(denoiser: Denoiser) -> range:
    return range(len(denoiser.schedule) - 1, -1, -1)


def _check_eta(eta: float) -> None:
    if not 0 <= eta <= 1:
        raise InputError(f"eta is {eta}: choose from 0 (deterministic) to 1 (ancestral)")


def _ddim_step(denoiser: Denoiser, denoised: Denoised, i: int, eta: float) -> tuple[Tensor, float]:
    """Mean and variance of DDIM's step down from index i, Eq. 12 and 16 of 2010.02502."""
    schedule = denoiser.schedule
    alpha_below, sigma_below = schedule.below(i)
    variance = eta**2 * float(schedule.posterior.variance[i])
    direction = math.sqrt(sigma_below**2 - variance)
    return alpha_below * denoised.x0 + direction * denoised.epsilon, variance


@torch.no_grad()
def resampled(denoiser: Denoiser, x: Tensor, noise: Noise, *, rounds: int = 1) -> Iterator[Step]:
    """Ancestral sampling that goes back up `rounds` - 1 times before it leaves a step (2201.09865, 4.2).

    For `guidance.with_known`: a step alone fits the drawn pixels to the known ones as they were a step
    before; after noise is added again, the network sees both together. Jumps are of one step.

    Args:
        denoiser: what says x0.
        x: (B, C, ...), noise at the last index.
        noise: see the module.
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
