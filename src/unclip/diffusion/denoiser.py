"""Denoisers: what a network says of x_t, whatever it predicts, as (x0, epsilon, log variance)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor

from unclip.diffusion.schedule import SIGMA_DATA, Prediction, Schedule, broadcast
from unclip.errors import InputError

Network = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, ...), label (B,)) -> (B, C, ...), or (B, 2C, ...) with a learned range; conditions are bound."""


class Denoised(NamedTuple):
    """A denoiser's answer, all of x's shape and type; x = alpha x0 + sigma epsilon holds."""

    x0: Tensor
    epsilon: Tensor
    log_variance: Tensor | None  # of p(x_s | x_t), where the network learned it


@dataclass(frozen=True)
class Denoiser:
    """x (B, C, ...) at index i of `schedule` -> its denoised picture. Guidance maps one to another."""

    schedule: Schedule
    function: Callable[[Tensor, int], Denoised]

    def __call__(self, x: Tensor, i: int) -> Denoised:
        return self.function(x, i)


class Threshold(StrEnum):
    """The way in which the estimate of x0 is kept in the data's range."""

    NONE = "none"
    STATIC = "static"
    DYNAMIC = "dynamic"


def denoiser(
    network: Network, schedule: Schedule, prediction: Prediction, learned_range: bool = False
) -> Denoiser:
    """Denoiser of a network's output.

    Args:
        network: called with x and the label (B,) of the step in float32 (float64 for float64 x).
        schedule: whole or respaced; a learned range follows the betas that a respaced schedule implies.
        prediction: what the (first half of the) output means.
        learned_range: the output has 2C channels; the second half v in [-1, 1] interpolates the log variance
            between the posterior's and beta's (Eq. 15 of 2102.09672).

    Raises:
        InputError: on the call, if the output's shape is not what `learned_range` says.
    """

    def function(x: Tensor, i: int) -> Denoised:
        label = label_for(schedule, i, x)
        output, range_output = split_output(network(x, label).to(x.dtype), x, learned_range)
        alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
        x0, epsilon = interpret(prediction, output, x, alpha, sigma)
        if range_output is None:
            return Denoised(x0, epsilon, None)
        small = float(schedule.posterior.log_variance_small[i])
        large = float(schedule.posterior.log_variance_large[i])
        return Denoised(x0, epsilon, interpolate_log_variance(range_output, small, large))

    return Denoiser(schedule, function)


def label_for(schedule: Schedule, i: int, x: Tensor) -> Tensor:
    """The label (B,) that a network is fed beside x (B, ...) at index i: float32, float64 for float64 x."""
    label_type = torch.promote_types(x.dtype, torch.float32)
    return torch.full((len(x),), float(schedule.label[i]), dtype=label_type, device=x.device)


def interpret(
    prediction: Prediction, output: Tensor, x: Tensor, alpha: float | Tensor, sigma: float | Tensor
) -> tuple[Tensor, Tensor]:
    """(x0, epsilon) that an output stands for; alpha and sigma are numbers or broadcast over x."""
    match prediction:
        case Prediction.EPSILON:
            return (x - sigma * output) / alpha, output
        case Prediction.X0:
            return output, (x - alpha * output) / sigma
        case Prediction.V:
            # v = alpha epsilon - sigma x0 turned back; the power is 1 where variance is preserved
            power = alpha * alpha + sigma * sigma
            return (alpha * x - sigma * output) / power, (sigma * x + alpha * output) / power
        case Prediction.SCORE:
            epsilon = -sigma * output
            return (x - sigma * epsilon) / alpha, epsilon
        case Prediction.EDM:
            # c_skip x / alpha + c_out output, of the noise level sigma / alpha
            power = sigma * sigma + (SIGMA_DATA * alpha) ** 2
            scaled = SIGMA_DATA * output / power**0.5
            return SIGMA_DATA**2 * alpha * x / power + sigma * scaled, sigma * x / power - alpha * scaled


def split_output(output: Tensor, x: Tensor, learned_range: bool) -> tuple[Tensor, Tensor | None]:
    """Prediction and range halves of a network's output, along dimension 1; no range, no second half."""
    channels = x.shape[1] * (2 if learned_range else 1)
    expected = (x.shape[0], channels, *x.shape[2:])
    if tuple(output.shape) != expected:
        raise InputError(
            f"the network gave {tuple(output.shape)} for x of {tuple(x.shape)}, but {expected} was expected: "
            f"learned_range is {learned_range}"
        )
    if not learned_range:
        return output, None
    prediction, range_output = output.chunk(2, dim=1)
    return prediction, range_output


def interpolate_log_variance(range_output: Tensor, small: float | Tensor, large: float | Tensor) -> Tensor:
    """Eq. 15 of 2102.09672; v = -1 gives the small log variance, v = 1 the large one, as in ADM."""
    return small + (range_output + 1) / 2 * (large - small)


def replace_x0(denoised: Denoised, x0: Tensor, x: Tensor, schedule: Schedule, i: int) -> Denoised:
    """The same answer with another x0, and the epsilon that goes with it."""
    epsilon = (x - float(schedule.alpha[i]) * x0) / float(schedule.sigma[i])
    return Denoised(x0, epsilon, denoised.log_variance)


def threshold(inner: Denoiser, kind: Threshold, limit: float = 1.0, percentile: float = 0.995) -> Denoiser:
    """Denoiser whose x0 is kept within [-limit, limit]; epsilon follows x0.

    Static clips. Dynamic (2205.11487, section 2.3) clips each picture at s and divides it by s / limit, s
    being the given percentile of its |x0| where that exceeds the limit: guidance then saturates colours less.
    The percentile is of the picture alone, never of its batch.

    Raises:
        InputError: limit is not positive, or percentile lies outside (0, 1].
    """
    if limit <= 0 or not 0 < percentile <= 1:
        raise InputError(f"limit {limit}, percentile {percentile}: take limit > 0 and 0 < percentile <= 1")

    def static(x0: Tensor) -> Tensor:
        return x0.clamp(-limit, limit)

    def dynamic(x0: Tensor) -> Tensor:
        # one row at a time: torch.quantile refuses more than 16 million numbers
        high = torch.stack([row.abs().flatten().float().quantile(percentile) for row in x0])
        s = broadcast(high.clamp(min=limit), x0)  # (B, 1, ...)
        return x0.clamp(-s, s) * (limit / s)

    if kind is Threshold.NONE:
        return inner
    keep = static if kind is Threshold.STATIC else dynamic

    def function(x: Tensor, i: int) -> Denoised:
        denoised = inner(x, i)
        return replace_x0(denoised, keep(denoised.x0), x, inner.schedule, i)

    return Denoiser(inner.schedule, function)
