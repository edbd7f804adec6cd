"""Guidance: each function makes a denoiser of denoisers, so any sampler draws with any guidance.

All of them act on x0 and epsilon, and so work with deterministic samplers too. Compose with `threshold`
outside: `threshold(classifier_free(...), Threshold.STATIC)` clips what guidance made, as ADM and GLIDE do.
`mean_shifted` guides the mean of an ancestral step instead, `with_known` holds a denoiser to known pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser, label_for, replace_x0
from unclip.diffusion.schedule import Schedule, broadcast
from unclip.errors import InputError

Scale = float | Tensor
"""One strength for all pictures, or one for each, (B,)."""

Interval = tuple[float, float]
"""Least and most sigma / alpha at which guidance acts, both included."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""(pictures (B, C, ...), label (B,)) -> what guidance shall raise, (B,), differentiable."""


class Sees(StrEnum):
    """The picture that a guiding network is shown."""

    NOISED = "noised"  # x_t, by a network that was trained on noised pictures
    ESTIMATE = "estimate"  # the denoiser's x0, by any network; the gradient goes through the denoiser


def classifier_free(
    conditional: Denoiser,
    unconditional: Denoiser,
    scale: Scale,
    *,
    interval: Interval | None = None,
    both: Denoiser | None = None,
) -> Denoiser:
    """Classifier-free guidance: unconditional + scale (conditional - unconditional).

    2207.12598 in GLIDE's counting (2112.10741): 1 is the conditional denoiser alone, 0 the unconditional
    one, and either is then evaluated alone. A learned variance is the conditional one's.

    Args:
        conditional: given the condition.
        unconditional: given the empty condition.
        scale: one number, or one for each picture, (B,).
        interval: guide only where sigma / alpha lies in it (2404.07724); elsewhere the conditional is taken
            as it is, at half the cost.
        both: evaluates the doubled batch [conditional; unconditional], (2B, C, ...), in one call; takes the
            place of the two wherever both are needed.

    Raises:
        InputError: the schedules differ, or the interval is not increasing.
    """
    schedule = conditional.schedule
    for other in (unconditional, both):
        if other is not None and not _same(schedule, other.schedule):
            raise InputError("the denoisers have different schedules: respace both alike")
    if interval is not None and not interval[0] <= interval[1]:
        raise InputError(f"interval {interval}: give the least and then the most sigma / alpha")

    def pair(x: Tensor, i: int) -> tuple[Denoised, Denoised]:
        if both is None:
            return conditional(x, i), unconditional(x, i)
        x0, epsilon, log_variance = both(torch.cat([x, x]), i)
        (x0_to, x0_from), (epsilon_to, epsilon_from) = x0.chunk(2), epsilon.chunk(2)
        kept = None if log_variance is None else log_variance.chunk(2)[0]
        return Denoised(x0_to, epsilon_to, kept), Denoised(x0_from, epsilon_from, None)

    def function(x: Tensor, i: int) -> Denoised:
        inside = interval is None or interval[0] <= float(schedule.noise_to_signal[i]) <= interval[1]
        if not inside or _is(scale, 1.0):
            return conditional(x, i)
        if _is(scale, 0.0):
            return unconditional(x, i)
        there, here = pair(x, i)
        weight = _per_picture(scale, x)
        # lerp gives either end exactly at 0 and 1, also where each picture has its own scale
        x0 = torch.lerp(here.x0, there.x0, weight)
        return Denoised(x0, torch.lerp(here.epsilon, there.epsilon, weight), there.log_variance)

    return Denoiser(schedule, function)


def classifier(inner: Denoiser, log_probability: Objective, scale: Scale) -> Denoiser:
    """Classifier guidance (2105.05233, Algorithm 2): epsilon - sigma scale grad log p(y | x_t).

    x0 moves by sigma^2 / alpha scale grad with it. ADM's ancestral sampler shifts the mean by the variance of
    the step times the gradient instead (Algorithm 1); this shifts it by beta / sqrt(1 - beta) times the
    gradient, the same for small steps and a large variance.

    Args:
        inner: the denoiser to guide.
        log_probability: log p(y | x_t) of each picture's wanted class, from a classifier of noised pictures.
        scale: one number, or one for each picture, (B,).
    """
    return _by_gradient(inner, log_probability, scale, Sees.NOISED)


def clip_guidance(
    inner: Denoiser, similarity: Objective, scale: Scale, *, sees: Sees = Sees.NOISED
) -> Denoiser:
    """CLIP guidance (2112.10741, section 2.4): the gradient of image embedding . text embedding guides.

    Args:
        inner: the denoiser to guide.
        similarity: dot product of each picture's embedding with its caption's, (B,).
        scale: one number, or one for each picture, (B,).
        sees: a CLIP trained on noised pictures is shown x_t, as in GLIDE; an ordinary one the estimate of x0.
    """
    return _by_gradient(inner, similarity, scale, sees)


def _by_gradient(inner: Denoiser, objective: Objective, scale: Scale, sees: Sees) -> Denoiser:
    schedule = inner.schedule

    def function(x: Tensor, i: int) -> Denoised:
        if _is(scale, 0.0):
            return inner(x, i)
        alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
        label = label_for(schedule, i, x)
        # samplers run without gradients, perhaps in inference mode
        with torch.inference_mode(False), torch.enable_grad():
            position = x.detach().clone().requires_grad_()
            if sees is Sees.ESTIMATE:
                denoised = inner(position, i)
                raised = objective(denoised.x0, label.clone())
            else:
                raised = objective(position, label.clone())
            if raised.shape != x.shape[:1]:
                raise InputError(
                    f"guidance got {tuple(raised.shape)} from its objective: one number a picture, "
                    f"({len(x)},), is expected"
                )
            # a picture's number depends on it alone, so the sum's gradient is each one's own
            (gradient,) = torch.autograd.grad(raised.sum(), position)
        if sees is Sees.NOISED:
            denoised = inner(x, i)
        shift = _per_picture(scale, x) * gradient.to(x.dtype)
        x0 = denoised.x0.detach() + sigma**2 / alpha * shift
        log_variance = None if denoised.log_variance is None else denoised.log_variance.detach()
        return Denoised(x0, denoised.epsilon.detach() - sigma * shift, log_variance)

    return Denoiser(schedule, function)


def _same(a: Schedule, b: Schedule) -> bool:
    return a is b or (torch.equal(a.alpha, b.alpha) and torch.equal(a.sigma, b.sigma))


def _is(scale: Scale, value: float) -> bool:
    return not isinstance(scale, Tensor) and scale == value


def _per_picture(scale: Scale, x: Tensor) -> Scale:
    if not isinstance(scale, Tensor):
        return scale
    if scale.shape != x.shape[:1]:
        raise InputError(
            f"guidance scale {tuple(scale.shape)} for {len(x)} pictures: give one number or ({len(x)},)"
        )
    return broadcast(scale, x)


def mean_shifted(inner: Denoiser, steer: Callable[[Denoiser], Denoiser]) -> Denoiser:
    """Guidance of the ancestral step's mean by its variance times the gradient: Algorithm 1 of 2105.05233.

    This is how guided-diffusion and GLIDE draw with a classifier and with CLIP. `guidance.classifier` shifts
    epsilon by itself (Algorithm 2), which deterministic samplers need. Here x0 is moved so that the mean of
    `samplers.ancestral` is shifted as published.

    Args:
        inner: the denoiser to guide, with its threshold: the shift is not clipped.
        steer: guides any denoiser, for example `lambda blank: classifier(blank, log_probability, scale)`;
            what it is given denoises nothing, so a guide that sees its estimate (`Sees.ESTIMATE`) cannot.
    """
    schedule = inner.schedule
    posterior = schedule.posterior

    def nothing(x: Tensor, i: int) -> Denoised:
        return Denoised(torch.zeros_like(x), torch.zeros_like(x), None)

    steered = steer(Denoiser(schedule, nothing))

    def function(x: Tensor, i: int) -> Denoised:
        denoised = inner(x, i)
        gradient = steered(x, i).epsilon / -float(schedule.sigma[i])  # times the scale
        if denoised.log_variance is None:
            variance: Tensor | float = float(posterior.log_variance_small[i].exp())
        else:
            variance = denoised.log_variance.exp()
        x0 = denoised.x0 + variance * gradient / float(posterior.x0_weight[i])
        return replace_x0(denoised, x0, x, schedule, i)

    return Denoiser(schedule, function)


def with_known(inner: Denoiser, known: Tensor, keep: Tensor) -> Denoiser:
    """Denoiser whose x0 is `known` wherever `keep` is 1: those pixels come out as they are given.

    GLIDE's inpainting (2112.10741, section 4.3, and its notebook).

    Args:
        inner: the denoiser, with its guidance and threshold.
        known: (B, C, ...) clean pictures.
        keep: broadcasts over `known`; 1 where it is to stay, 0 where `inner` draws.
    """

    def function(x: Tensor, i: int) -> Denoised:
        denoised = inner(x, i)
        x0 = torch.where(keep > 0, known.to(x.dtype), denoised.x0)
        return replace_x0(denoised, x0, x, inner.schedule, i)

    return Denoiser(inner.schedule, function)
