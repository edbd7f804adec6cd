"""A layout: the coarse picture that a CLIP embedding leads one to expect, for the decoder to start from.

A small UNet is long in learning what lies where from an embedding that reaches every cell of its grid alike:
after 187,200 pictures ours did a fifth better at the highest noise than linear regression. Two hidden layers
do more in half a minute (docs/training-log.md). So they are trained first, by regression, and the decoder
sees what they say. Its picture may be finer than the decoder's grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.layers import RGB


@dataclass(frozen=True)
class LayoutConfig:
    """Sizes of a layout.

    Attributes:
        embedding: width of CLIP's embedding.
        side: of the coarse picture, in cells; a multiple of the side of the decoder's grid.
        width: of the hidden layers.
        blocks: residual layers after the two hidden ones.
        rank: the last layer is a product of two, with so many numbers between, which saves weights; None is
            one matrix.
    """

    embedding: int = 1024
    side: int = 16
    width: int = 1024
    blocks: int = 0
    rank: int | None = None

    def __post_init__(self) -> None:
        sizes = (self.embedding, self.side, self.width, *([] if self.rank is None else [self.rank]))
        if min(sizes) < 1 or self.blocks < 0:
            raise InputError(f"sizes of a layout are at least 1, blocks at least 0: got {self}")


class ResidualLayer(nn.Module):
    """(B, W) -> (B, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.silu(self.linear(self.norm(x)))


class Layout(nn.Module):
    """A perceptron from a whitened, perhaps noised CLIP embedding to a coarse picture."""

    def __init__(self, config: LayoutConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Linear(config.embedding + 1, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            *(ResidualLayer(config.width) for _ in range(config.blocks)),
            *([] if config.rank is None else [nn.Linear(config.width, config.rank, bias=False)]),
            nn.Linear(config.rank or config.width, RGB * config.side**2),
        )

    def forward(self, embedding: Tensor, level: Tensor) -> Tensor:
        """The picture to expect.

        Args:
            embedding: (B, E) whitened embeddings, noised as `models.decoder.noise_embedding` does.
            level: (B,) in [0, 1], how much noise they hold.

        Returns:
            (B, 3, side, side), the mean colour of each cell in [-1, 1].
        """
        flat: Tensor = self.layers(torch.cat([embedding, level[:, None]], dim=1))
        return flat.unflatten(1, (RGB, self.config.side, self.config.side))
