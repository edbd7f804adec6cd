"""Ways to steer a denoiser beside guidance: by the mean of an ancestral step, and to known pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser, FunctionDenoiser, replace_x0


def mean_shifted(inner: Denoiser, steer: Callable[[Denoiser], Denoiser]) -> Denoiser:
    """Guidance of the ancestral step's mean by its variance times the gradient: Algorithm 1 of 2105.05233.

    This is how guided-diffusion and GLIDE draw with a classifier and with CLIP. `guidance.classifier` shifts
    epsilon by itself (Algorithm 2), which deterministic samplers need. Here x0 is moved so that the mean of
    `sample.ancestral` is shifted as published.

    Args:
        inner: the denoiser to guide, with its threshold: the shift is not clipped.
        steer: guides any denoiser, for example `lambda blank: classifier(blank, log_probability, scale)`;
            what it is given denoises nothing, so a guide that sees its estimate (`Sees.ESTIMATE`) cannot.
    """
    schedule = inner.schedule
    posterior = schedule.posterior

    def nothing(x: Tensor, i: int) -> Denoised:
        return Denoised(torch.zeros_like(x), torch.zeros_like(x), None)

    steered = steer(FunctionDenoiser(schedule, nothing))

    def function(x: Tensor, i: int) -> Denoised:
        denoised = inner(x, i)
        gradient = steered(x, i).epsilon / -float(schedule.sigma[i])  # times the scale
        if denoised.log_variance is None:
            variance: Tensor | float = float(posterior.log_variance_small[i].exp())
        else:
            variance = denoised.log_variance.exp()
        x0 = denoised.x0 + variance * gradient / float(posterior.x0_weight[i])
        return replace_x0(denoised, x0, x, schedule, i)

    return FunctionDenoiser(schedule, function)


def with_known(inner: Denoiser, known: Tensor, keep: Tensor) -> Denoiser:
    """Denoiser whose x0 is `known` wherever `keep` is 1: those pixels come out as they are given.

    GLIDE's inpainting (2112.10741, section 2.5, and its notebook).

    Args:
        inner: the denoiser, with its guidance and threshold.
        known: (B, C, ...) clean pictures.
        keep: broadcasts over `known`; 1 where it is to stay, 0 where `inner` draws.
    """

    def function(x: Tensor, i: int) -> Denoised:
        denoised = inner(x, i)
        x0 = torch.where(keep > 0, known.to(x.dtype), denoised.x0)
        return replace_x0(denoised, x0, x, inner.schedule, i)

    return FunctionDenoiser(inner.schedule, function)
