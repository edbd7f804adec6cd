"""Losses of a diffusion: the weighted squared error, and the hybrid one that also learns a variance."""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Network, interpolate_log_variance, interpret, split_output
from unclip.diffusion.schedule import SIGMA_DATA, Prediction, Schedule, gather
from unclip.errors import InputError

HYBRID_WEIGHT = 1e-3  # lambda of Eq. 16 of 2102.09672
BIN_HALF_WIDTH = 1 / 255  # half of the distance of two of 256 grey levels in [-1, 1]
OUTERMOST = 0.999  # beyond this a value is the lowest or highest of the 256
SMALLEST_PROBABILITY = 1e-12


class Weighting(StrEnum):
    """The weight of each noise level.

    UNIFORM takes the prediction's own squared error as it is: L_simple for epsilon (2006.11239), unCLIP's
    loss for x0, EDM's for what it leaves to the network. For the score it is NCSN's lambda = sigma^2 (Eq. 6
    of 1907.05600), without which the least noise would be all that counts.
    MIN_SNR weights the error of x0 by min(SNR, gamma), whatever is predicted (2303.09556).
    SOFT_MIN_SNR weights it by SNR gamma / (SNR + gamma), the same without the corner (2401.11605).
    """

    UNIFORM = "uniform"
    MIN_SNR = "min-snr"
    SOFT_MIN_SNR = "soft-min-snr"


GAMMA = {Weighting.MIN_SNR: 5.0, Weighting.SOFT_MIN_SNR: 4.0}  # each paper's own


def diffusion_loss(
    network: Network,
    schedule: Schedule,
    prediction: Prediction,
    x0: Tensor,
    index: Tensor,
    noise: Tensor,
    weighting: Weighting = Weighting.UNIFORM,
    learned_range: bool = False,
    *,
    gamma: float | None = None,
) -> Tensor:
    """Loss of each picture, (B,): weighted mean squared error of what the network predicts.

    With a learned range the output has 2C channels and this is L_hybrid = L_simple + 0.001 L_vlb (Eq. 16 of
    2102.09672). L_vlb is a sum over all T steps of which one is drawn, hence the weight T / 1000; its
    gradient reaches the variance only, the mean being held.

    Args:
        network: see `Network`.
        schedule: the whole schedule, of T steps.
        prediction: what the output means.
        x0: clean data (B, C, ...), in [-1, 1] with 256 levels where a range is learned.
        index: step of each picture, (B,) int64 in [0, T); on the CPU it costs no synchronisation.
        noise: standard normal, of x0's shape.
        weighting: see `Weighting`.
        learned_range: see `denoiser`.
        gamma: of the two SNR weightings; None takes the papers' 5 (min) and 4 (soft).

    Raises:
        InputError: shapes disagree, index is out of range, or gamma is given to a weighting that has none.
    """
    _check(schedule, x0, index, noise)
    weight = loss_weight(schedule, prediction, weighting, gamma)
    x = schedule.add_noise(x0, index, noise)  # (B, C, ...)
    label = schedule.label[index.cpu()].to(x.device, torch.promote_types(x.dtype, torch.float32))  # (B,)
    output, range_output = split_output(network(x, label).to(x.dtype), x, learned_range)
    target = prediction_target(schedule, prediction, x0, index, noise)
    loss = _mean(gather(weight, index, x0) * (output - target) ** 2)
    if range_output is None:
        return loss
    vlb = variational_term(schedule, prediction, x0, x, index, output.detach(), range_output)
    return loss + HYBRID_WEIGHT * len(schedule) * vlb


def prediction_target(
    schedule: Schedule, prediction: Prediction, x0: Tensor, index: Tensor, noise: Tensor
) -> Tensor:
    """The output of a perfect network, of x0's shape."""
    match prediction:
        case Prediction.EPSILON:
            return noise
        case Prediction.X0:
            return x0
        case Prediction.V:
            return gather(schedule.alpha, index, x0) * noise - gather(schedule.sigma, index, x0) * x0
        case Prediction.SCORE:
            return -noise / gather(schedule.sigma, index, x0)
        case Prediction.EDM:
            alpha, sigma = gather(schedule.alpha, index, x0), gather(schedule.sigma, index, x0)
            power = sigma**2 + (SIGMA_DATA * alpha) ** 2
            return (sigma / SIGMA_DATA * x0 - SIGMA_DATA * alpha * noise) / power.sqrt()


def loss_weight(
    schedule: Schedule, prediction: Prediction, weighting: Weighting, gamma: float | None = None
) -> Tensor:
    """Weight of the prediction's own squared error at each index, float64 (T,).

    An SNR weighting is defined on the error of x0, which is sigma / alpha times epsilon's error,
    sigma / (alpha^2 + sigma^2) times v's, sigma^2 / alpha times the score's and c_out times EDM's.
    """
    if weighting is Weighting.UNIFORM:
        if gamma is not None:
            raise InputError(f"gamma {gamma} with uniform weighting, which has none: leave it out")
        return schedule.sigma**2 if prediction is Prediction.SCORE else torch.ones_like(schedule.sigma)
    gamma = GAMMA[weighting] if gamma is None else gamma
    if gamma <= 0:
        raise InputError(f"gamma is {gamma}: take a positive number")
    alpha, sigma = schedule.alpha, schedule.sigma
    snr = (alpha / sigma) ** 2
    x0_weight = snr.clamp(max=gamma) if weighting is Weighting.MIN_SNR else snr * gamma / (snr + gamma)
    match prediction:
        case Prediction.X0:
            return x0_weight
        case Prediction.EPSILON:
            return x0_weight * (sigma / alpha) ** 2
        case Prediction.V:
            return x0_weight * (sigma / (alpha**2 + sigma**2)) ** 2
        case Prediction.SCORE:
            return x0_weight * (sigma**2 / alpha) ** 2
        case Prediction.EDM:
            return x0_weight * (sigma * SIGMA_DATA) ** 2 / (sigma**2 + (SIGMA_DATA * alpha) ** 2)


def variational_term(
    schedule: Schedule,
    prediction: Prediction,
    x0: Tensor,
    x: Tensor,
    index: Tensor,
    output: Tensor,
    range_output: Tensor,
) -> Tensor:
    """One term of the variational bound for each picture, (B,), in bits per dimension (Eq. 5 of 2006.11239).

    KL(q(x_s | x_t, x_0) || p(x_s | x_t)); at index 0 the negative log likelihood of the 256 grey levels under
    the decoder's Gaussian. Detach `output` for the hybrid loss.
    """
    posterior = schedule.posterior
    alpha, sigma = gather(schedule.alpha, index, x), gather(schedule.sigma, index, x)
    small = gather(posterior.log_variance_small, index, x)
    large = gather(posterior.log_variance_large, index, x)
    x0_weight, x_weight = gather(posterior.x0_weight, index, x), gather(posterior.x_weight, index, x)
    estimate, _ = interpret(prediction, output, x, alpha, sigma)
    log_variance = interpolate_log_variance(range_output, small, large)
    # both means share x_weight x, so their difference is that of the two x0
    difference = x0_weight * (x0 - estimate)
    surplus = small - log_variance
    divergence = (torch.exp(surplus) - surplus - 1 + difference**2 * torch.exp(-log_variance)) / 2
    mean = x0_weight * estimate + x_weight * x
    decoder = -discretised_log_likelihood(x0, mean, log_variance / 2)
    first = (index == 0).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
    return _mean(torch.where(first, decoder, divergence)) / math.log(2)


def discretised_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability of each value of x, one of 256 levels in [-1, 1], under N(mean, std^2), of x's shape.

    Eq. 13 of 2006.11239: the mass between the half steps; the lowest and highest level take the tails.
    """
    inverse_std = torch.exp(-log_std)
    centred = x - mean
    # mirrored to the left tail, where differences of the distribution function keep their digits
    left = -centred.abs()
    above = torch.special.ndtr((left + BIN_HALF_WIDTH) * inverse_std)
    below = torch.special.ndtr((left - BIN_HALF_WIDTH) * inverse_std)
    inside = (above - below).clamp(min=SMALLEST_PROBABILITY).log()
    lowest = torch.special.log_ndtr((centred + BIN_HALF_WIDTH) * inverse_std)
    highest = torch.special.log_ndtr(-(centred - BIN_HALF_WIDTH) * inverse_std)
    return torch.where(x < -OUTERMOST, lowest, torch.where(x > OUTERMOST, highest, inside))


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(1)  # (B,)


def _check(schedule: Schedule, x0: Tensor, index: Tensor, noise: Tensor) -> None:
    if noise.shape != x0.shape or index.shape != x0.shape[:1]:
        raise InputError(
            f"x0 {tuple(x0.shape)}, noise {tuple(noise.shape)}, index {tuple(index.shape)}: "
            "noise has x0's shape and index one entry a picture"
        )
    if index.device.type == "cpu" and not bool(((index >= 0) & (index < len(schedule))).all()):
        raise InputError(
            f"index from {int(index.min())} to {int(index.max())}: choose from 0 to {len(schedule) - 1}"
        )
