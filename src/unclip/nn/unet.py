"""The UNet of ADM (2105.05233) and GLIDE (2112.10741): residual blocks, attention, skip connections.

One class serves decoder and upsamplers. It knows nothing of time or CLIP: it is given an embedding that
every residual block is modulated by, and, where it attends, a sequence of context tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.nn.attention import attention
from unclip.nn.group_norm import group_norm
from unclip.nn.layers import add_, silu_, zero_init_


class Modulation(StrEnum):
    """The modulation of a residual block by the embedding."""

    SCALE_SHIFT = "scale-shift"  # a gain and a bias after the second norm: ADM's adaptive group normalisation
    SHIFT = "shift"  # a bias before it, as in DDPM


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a UNet.

    Attributes:
        channels: width of the first level; level k has channels * multipliers[k].
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: downsampling factors (1 = the input's own grid) whose blocks attend.
        head_channels: width of one attention head (64 in ADM).
        heads: attention heads of every level in place of `head_channels` (ADM at 128 px).
        embedding: width of the embedding that modulates the residual blocks.
        context: width of the context tokens, None for a network that takes none.
        modulation: how the embedding acts on a residual block.
    """

    in_channels: int
    out_channels: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head_channels: int
    embedding: int
    context: int | None = None
    dropout: float = 0.0
    heads: int | None = None
    modulation: Modulation = Modulation.SCALE_SHIFT


@dataclass(frozen=True)
class ReadContext:
    """Context tokens as the attention blocks have read them: steps that share a context share this work.

    Attributes:
        pairs: of each attention block, keys and values (B, heads, M, C / heads).
        mask: (B, M) bool, True for the tokens that may be read; None for all.
    """

    pairs: tuple[tuple[Tensor, Tensor], ...]
    mask: Tensor | None


Context = Tensor | ReadContext | None
"""(B, M, context) tokens that attention also reads, or what `UNet.read` made of them."""


class ResidualBlock(nn.Module):
    """BigGAN residual block, modulated by the embedding; may halve or double the side on the way."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        scale: float = 1.0,
        modulation: Modulation = Modulation.SCALE_SHIFT,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.scaled = modulation is Modulation.SCALE_SHIFT
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, (2 if self.scaled else 1) * out_channels)
        self.norm_out = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zero_init_(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def resample(self, x: Tensor) -> Tensor:
        if self.scale < 1:
            return F.avg_pool2d(x, 2)
        if self.scale > 1:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(self.resample(silu_(self.norm_in(x))))  # (B, C_out, H', W')
        modulation = self.modulation(embedding)  # (B, C_out or 2 C_out)
        if self.scaled:
            gain, bias = modulation.chunk(2, dim=1)  # (B, C_out) each
            h = self.norm_out(h, 1 + gain, bias)
        else:
            h = self.norm_out(add_(h, modulation[:, :, None, None]))
        h = self.conv_out(self.dropout(silu_(h)))
        return add_(h, self.skip(self.resample(x)))


class AttentionBlock(nn.Module):
    """Self-attention over the grid; context tokens stand before the grid's keys and values (GLIDE).

    `position` counts the blocks of a network: where its keys and values stand in a `ReadContext`.
    """

    def __init__(self, channels: int, head_channels: int, context: int | None, position: int = 0) -> None:
        super().__init__()
        self.position = position
        if channels % head_channels:
            raise ValueError(f"{channels} channels do not divide into heads of {head_channels}")
        self.heads = channels // head_channels
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.context_kv = None if context is None else nn.Linear(context, 2 * channels)
        self.out = zero_init_(nn.Linear(channels, channels))

    def split_heads(self, x: Tensor, parts: int) -> list[Tensor]:
        """(B, N, parts * C) -> parts tensors (B, heads, N, C / heads)."""
        batch, length, _ = x.shape
        return list(x.view(batch, length, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0))

    def read(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of context tokens (B, M, context), (B, heads, M, C / heads) each."""
        assert self.context_kv is not None  # a network without context is given none
        key, value = self.split_heads(self.context_kv(context), 2)
        return key, value

    def forward(self, x: Tensor, context: Context, context_mask: Tensor | None) -> Tensor:
        batch, channels, height, width = x.shape
        h = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        query, key, value = self.split_heads(self.qkv(h), 3)
        mask = None
        if self.context_kv is not None and context is not None:
            if isinstance(context, Tensor):
                context_key, context_value = self.read(context)
            else:
                (context_key, context_value), context_mask = context.pairs[self.position], context.mask
            key = torch.cat([context_key, key], dim=2)  # (B, heads, M + HW, C / heads)
            value = torch.cat([context_value, value], dim=2)
            if context_mask is not None:
                mask = F.pad(context_mask, (0, height * width), value=True)[
                    :, None, None
                ]  # (B, 1, 1, M + HW)
        h = attention(query, key, value, mask)
        h = self.out(h.transpose(1, 2).reshape(batch, height * width, channels))
        return x + h.transpose(1, 2).reshape(batch, channels, height, width)


class Stage(nn.Module):
    """A residual block and, where this resolution attends, an attention block after it."""

    def __init__(self, residual: ResidualBlock, attention: AttentionBlock | None = None) -> None:
        super().__init__()
        self.residual = residual
        self.attention = attention

    def forward(self, x: Tensor, embedding: Tensor, context: Context, context_mask: Tensor | None) -> Tensor:
        x = self.residual(x, embedding)
        if self.attention is not None:
            x = self.attention(x, context, context_mask)
        return x


class HalfUNet(nn.Module):
    """A UNet's encoder and middle: all of ADM's classifier but its head.

    Attributes:
        skips: widths of the features that `encode` keeps, the first made first.
        width: of the features that it ends with.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.attentions = 0  # blocks made so far
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.skips = [widths[0]]
        width = widths[0]
        for level, level_width in enumerate(widths):
            for _ in range(config.blocks):
                self.down.append(self.stage(width, level_width, level))
                width = level_width
                self.skips.append(width)
            if level + 1 < len(widths):
                self.down.append(Stage(self.residual(width, width, scale=0.5)))
                self.skips.append(width)
        self.middle = nn.ModuleList(
            [
                self.stage(width, width, len(widths) - 1, attends=bool(config.attention)),
                Stage(self.residual(width, width)),
            ]
        )
        self.width = width

    def residual(self, in_channels: int, out_channels: int, scale: float = 1.0) -> ResidualBlock:
        config = self.config
        return ResidualBlock(
            in_channels, out_channels, config.embedding, config.dropout, scale, config.modulation
        )

    def stage(self, in_channels: int, out_channels: int, level: int, attends: bool = False) -> Stage:
        config = self.config
        attention = None
        if attends or 2**level in config.attention:
            head_channels = out_channels // config.heads if config.heads else config.head_channels
            attention = AttentionBlock(out_channels, head_channels, config.context, self.attentions)
            self.attentions += 1
        return Stage(self.residual(in_channels, out_channels), attention)

    def encode(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Context = None,
        context_mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Features at the lowest resolution (B, width, h, w), and those on the way, the first made first.

        Arguments as in `UNet.forward`, but for the embedding, which has been through SiLU.
        """
        h = self.conv_in(x)
        skips = [h]
        for stage in self.down:
            h = stage(h, embedding, context, context_mask)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding, context, context_mask)
        return h, skips


class UNet(HalfUNet):
    """Encoder, middle and decoder with a skip connection for every stage of the encoder."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        width, skips = self.width, list(self.skips)
        self.up = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(widths))):
            for block in range(config.blocks + 1):
                self.up.append(self.stage(width + skips.pop(), level_width, level))
                width = level_width
                if level and block == config.blocks:
                    self.up.append(Stage(self.residual(width, width, scale=2.0)))
        self.norm_out = group_norm(width)
        self.conv_out = zero_init_(nn.Conv2d(width, config.out_channels, 3, padding=1))

    def read(self, context: Tensor, mask: Tensor | None = None) -> ReadContext:
        """Tokens (B, M, context) as `forward` takes them where many steps share them."""
        blocks = [module for module in self.modules() if isinstance(module, AttentionBlock)]
        pairs = [block.read(context) for block in sorted(blocks, key=lambda block: block.position)]
        return ReadContext(tuple(pairs), mask)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        context: Context = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the network.

        Args:
            x: (B, in_channels, H, W); H and W are multiples of 2^(levels - 1).
            embedding: (B, embedding).
            context: (B, M, context) tokens that attention also reads, what `read` made of them, or None.
            context_mask: (B, M) bool, True for the tokens that may be read; goes with tokens.

        Returns:
            (B, out_channels, H, W).
        """
        embedding = F.silu(embedding)
        h, skips = self.encode(x, embedding, context, context_mask)
        for stage in self.up:
            if cast(Stage, stage).residual.scale == 1:
                h = torch.cat([h, skips.pop()], dim=1)
            h = stage(h, embedding, context, context_mask)
        out: Tensor = self.conv_out(silu_(self.norm_out(h)))
        return out
