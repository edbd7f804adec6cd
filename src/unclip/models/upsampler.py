"""Diffusion upsamplers: a small picture -> the same picture four times as wide (section 2.1 of 2204.06125).

No attention, so they are trained on crops and run at any size; unconditional but for the small picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.nn.layers import RGB, TimeEmbedding, depth_to_space, space_to_depth
from unclip.nn.unet import Modulation, UNet, UNetConfig


class Enlargement(StrEnum):
    """The enlargement of the small picture before the network sees it; both are bicubic."""

    CLIPPED = "clipped"  # PyTorch's kernel (a = -0.75), and what it overshoots is clipped
    ANTIALIAS = "antialias"  # Pillow's kernel (a = -0.5), not clipped (Karlo's way)


@dataclass(frozen=True)
class UpsamplerConfig:
    """Sizes of an upsampler.

    Attributes:
        low_size, high_size: sides in pixels that it was made for; crops and other sizes work as well.
        patch: the UNet works on a grid of patch x patch pixels (space to depth); 1 is the paper's way.
        channels, multipliers, blocks, dropout: see `UNetConfig`.
        residual: the output is added to the enlarged small picture. For networks that predict x0: a narrow
            one with large patches cannot carry the noise that epsilon and v are made of.
        modulation: how time acts on a residual block, see `UNetConfig`.
        enlargement: how the small picture is made large.
    """

    low_size: int = 64
    high_size: int = 256
    patch: int = 1
    channels: int = 320
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    dropout: float = 0.1
    residual: bool = False
    modulation: Modulation = Modulation.SCALE_SHIFT
    enlargement: Enlargement = Enlargement.CLIPPED

    @property
    def scale(self) -> int:
        return self.high_size // self.low_size


# Karlo v1-alpha's, both networks (kakaobrain/karlo-v1-alpha, super_res_first/config.json)
KARLO = UpsamplerConfig(
    low_size=64,
    high_size=256,
    channels=320,
    multipliers=(1, 2, 3, 4),
    blocks=3,
    dropout=0.0,
    modulation=Modulation.SHIFT,
    enlargement=Enlargement.ANTIALIAS,
)


def enlarge(low: Tensor, scale: int, enlargement: Enlargement = Enlargement.CLIPPED) -> Tensor:
    """Bicubic enlargement (B, 3, h, w) -> (B, 3, h * scale, w * scale)."""
    antialias = enlargement is Enlargement.ANTIALIAS
    size = [side * scale for side in low.shape[-2:]]
    high = F.interpolate(low.float(), size, mode="bicubic", align_corners=False, antialias=antialias)
    return high if antialias else high.clamp(-1, 1)


class Upsampler(nn.Module):
    """UNet over the noised large picture and the enlarged small one."""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        self.config = config
        grid_channels = RGB * config.patch**2
        width = 4 * config.channels
        self.time = TimeEmbedding(config.channels, width)
        self.unet = UNet(
            UNetConfig(
                in_channels=2 * grid_channels,
                out_channels=grid_channels,
                channels=config.channels,
                multipliers=config.multipliers,
                blocks=config.blocks,
                attention=(),
                head_channels=1,
                embedding=width,
                dropout=config.dropout,
                modulation=config.modulation,
            )
        )

    def forward(self, x: Tensor, label: Tensor, low: Tensor) -> Tensor:
        """Predict from a noised large picture.

        Args:
            x: (B, 3, H, W) noised.
            label: (B,) time label.
            low: (B, 3, H / scale, W / scale) in [-1, 1].

        Returns:
            (B, 3, H, W).
        """
        config = self.config
        enlarged = enlarge(low, config.scale, config.enlargement).to(x.dtype)
        grid = space_to_depth(torch.cat([x, enlarged], dim=1), config.patch)
        out = depth_to_space(self.unet(grid, self.time(label)), config.patch)
        return enlarged + out if config.residual else out
