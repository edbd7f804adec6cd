"""A layout: the coarse picture that a CLIP embedding leads one to expect, for the decoder to start from.

A small UNet is long in learning what lies where from an embedding that reaches every cell of its grid alike:
after 187,200 pictures ours did a fifth better at the highest noise than linear regression. Two hidden layers
do more in half a minute (docs/training-log.md). So they are trained first, by regression, and the decoder
sees what they say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unclip.errors import InputError

RGB = 3


@dataclass(frozen=True)
class LayoutConfig:
    """Sizes of a layout.

    Attributes:
        embedding: width of CLIP's embedding.
        side: of the coarse picture, in cells; it has to be that of the decoder's grid.
        width: of the hidden layers.
    """

    embedding: int = 1024
    side: int = 16
    width: int = 1024

    def __post_init__(self) -> None:
        if min(self.embedding, self.side, self.width) < 1:
            raise InputError(f"sizes of a layout are at least 1: got {self}")


class Layout(nn.Module):
    """Two hidden layers between a whitened, perhaps noised CLIP embedding and a coarse picture."""

    def __init__(self, config: LayoutConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Linear(config.embedding + 1, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, RGB * config.side**2),
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
