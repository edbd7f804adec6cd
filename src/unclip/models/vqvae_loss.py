"""Losses of a picture made from codes, by its pixels, a critic and CLIP; figures of the use of the codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from unclip.errors import InputError
from unclip.models.clip import CLIP, VisionTransformer
from unclip.nn.layers import RGB

LEAK = 0.2  # of the critic's rectifiers


class Reconstruction(StrEnum):
    """The loss of a picture's pixels, a mean over pixels and colours."""

    MSE = "mse"
    L1 = "l1"
    LOGIT_LAPLACE = "logit-laplace"  # the negative log likelihood of Eq. 2 of 2102.12092


def logit_laplace(mean: Tensor, log_scale: Tensor, target: Tensor) -> Tensor:
    """Negative log likelihood in nats of each value of `target`, in (0, 1): Eq. 2 of 2102.12092.

    The density is that of the sigmoid of a Laplace variable of that mean and scale.
    """
    mean, log_scale, target = mean.float(), log_scale.float(), target.float()
    distance = (torch.logit(target) - mean).abs() * (-log_scale).exp()
    return distance + log_scale + math.log(2) + (target * (1 - target)).log()


def pixel_loss(kind: Reconstruction, drawn: Tensor, truth: Tensor) -> Tensor:
    """Mean loss of pictures (B, 3, H, W) in one range. Raises InputError for a kind that needs a scale."""
    if kind is Reconstruction.MSE:
        return F.mse_loss(drawn.float(), truth.float())
    if kind is Reconstruction.L1:
        return F.l1_loss(drawn.float(), truth.float())
    raise InputError(f"the loss {kind} needs a decoder that says how sure it is: choose mse or l1")


def psnr(drawn: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture (B, 3, H, W) in [-1, 1], (B,)."""
    error = (drawn.float() - truth.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(4 / error.clamp(min=1e-10))


class CodeFigures(NamedTuple):
    """The use that the codes of many pictures make of the vocabulary."""

    usage: float  # share of the codes that occur at all
    perplexity: float  # as many equally frequent codes would have the same entropy


def code_figures(codes: Tensor, vocabulary: int) -> CodeFigures:
    """Of codes of any shape; for figures that mean something, of many more than the vocabulary has."""
    counts = torch.bincount(codes.flatten(), minlength=vocabulary).double()
    share = counts / counts.sum()
    entropy = -torch.special.xlogy(share, share).sum()
    return CodeFigures(float((counts > 0).double().mean()), float(entropy.exp()))


@dataclass(frozen=True)
class CriticConfig:
    """A discriminator of patches (1611.07004): convolutions that halve the side, from `channels` up."""

    channels: int = 32
    layers: int = 3

    def __post_init__(self) -> None:
        if self.channels < 1 or self.layers < 1:
            raise InputError(f"{self}: each must be at least 1")


class Critic(nn.Sequential):
    """Pictures (B, 3, H, W) in [-1, 1] -> how real each patch looks, (B, 1, h, w)."""

    def __init__(self, config: CriticConfig) -> None:
        widths = [RGB, *(config.channels << min(layer, 3) for layer in range(config.layers))]
        layers: list[nn.Module] = []
        for before, width in pairwise(widths):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(LEAK)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))


class Judged(NamedTuple):
    """A critic's judgement of drawn pictures beside real ones."""

    learning: Tensor  # (), the critic's own hinge loss; no gradient to what drew
    drawing: Tensor  # (), what draws better pictures makes smaller; no gradient to the critic


def judge(critic: Critic, drawn: Tensor, real: Tensor) -> Judged:
    """Both sides of the adversarial game in one backward pass, each with a gradient for its own player."""
    learning = (F.relu(1 - critic(real)).mean() + F.relu(1 + critic(drawn.detach())).mean()) / 2
    fixed = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    return Judged(learning, -functional_call(critic, fixed, (drawn,)).mean())


def clip_distance(clip: CLIP, drawn: Tensor, truth: Tensor) -> Tensor:
    """Perceptual distance in the features of CLIP's picture encoder, mean over its layers, 0 or more.

    As in 1801.03924 features are compared with length 1; patches and the class token count alike.

    Raises:
        InputError: this CLIP's picture encoder is no vision transformer.
    """
    if not isinstance(clip.visual, VisionTransformer):
        raise InputError("the perceptual loss needs a CLIP whose picture encoder is a vision transformer")
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, inputs, out: seen.append(F.normalize(out.float(), dim=-1)))
        for block in clip.visual.transformer.resblocks
    ]
    try:
        clip.encode_image(torch.cat([drawn, truth]))
    finally:
        for hook in hooks:
            hook.remove()
    apart = [(one - other).square().sum(-1).mean() for one, other in (layer.chunk(2) for layer in seen)]
    return torch.stack(apart).mean()
