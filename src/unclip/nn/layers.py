"""Layers that several networks share."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)

RGB = 3  # channels of a picture
MAX_PERIOD = 10_000.0  # of the sinusoids, section 3.5 of 1706.03762


def timestep_embedding(label: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of a time label (DDPM, 2006.11239; the layout of ADM: cosines first).

    Args:
        label: (B,) float, in schedule steps.
        width: even number of features.

    Returns:
        (B, width) float32.
    """
    if width % 2:
        raise ValueError(f"timestep_embedding needs an even width, got {width}")
    half = width // 2
    steps = torch.arange(half, device=label.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(MAX_PERIOD) / half * steps)  # (half,)
    angles = label.float()[:, None] * frequencies  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, width)


def space_to_depth(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, C * patch^2, H / patch, W / patch), lossless."""
    return x if patch == 1 else F.pixel_unshuffle(x, patch)


def depth_to_space(x: Tensor, patch: int) -> Tensor:
    """(B, C * patch^2, H, W) -> (B, C, H * patch, W * patch): the inverse of `space_to_depth`."""
    return x if patch == 1 else F.pixel_shuffle(x, patch)


def zero_init_(module: Module) -> Module:
    """Set every parameter to zero: a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def silu_(spent: Tensor) -> Tensor:
    """SiLU of what nothing else reads, in its own memory where no gradients are taken."""
    return F.silu(spent, inplace=not torch.is_grad_enabled())


def add_(spent: Tensor, other: Tensor) -> Tensor:
    """The sum of two, in the memory of the first, which nothing else reads, where no gradients are taken."""
    wider = torch.promote_types(spent.dtype, other.dtype) != spent.dtype
    return spent + other if torch.is_grad_enabled() or wider else spent.add_(other)


class TimeEmbedding(nn.Module):
    """Sinusoids and a two-layer perceptron: label (B,) -> (B, width_out).

    Raises ValueError for an odd width: sines and cosines come in pairs.
    """

    def __init__(self, width: int, width_out: int) -> None:
        if width % 2:
            raise ValueError(f"{width} channels of time, which are sines and cosines: give an even number")
        super().__init__()
        self.width = width
        self.linear_in = nn.Linear(width, width_out)
        self.linear_out = nn.Linear(width_out, width_out)

    def forward(self, label: Tensor) -> Tensor:
        sinusoids = timestep_embedding(label, self.width)
        out: Tensor = self.linear_out(F.silu(self.linear_in(sinusoids.to(self.linear_in.weight.dtype))))
        return out  # (B, width_out)


class Whitening(nn.Module):
    """Mean and standard deviation of CLIP image embeddings by feature, as Karlo's prior keeps them.

    The statistics are buffers: they travel with the weights. `fit_` sets them from a sample.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    @torch.no_grad()
    def fit_(self, embeddings: Tensor) -> None:
        """Take the statistics of (N, E) L2-normalised embeddings."""
        self.mean.copy_(embeddings.mean(0))
        self.std.copy_(embeddings.std(0).clamp(min=1e-6))

    def whiten(self, embedding: Tensor) -> Tensor:
        """CLIP's L2-normalised embedding (B, E) -> zero mean, unit variance a feature."""
        return (embedding - self.mean) / self.std

    def unwhiten(self, whitened: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        return whitened * self.std + self.mean
