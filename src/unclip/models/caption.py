"""Captions: a decoder's own encoder (section 4.1 of 2112.10741), and what stands for no caption at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from unclip.nn.transformer import Transformer, TransformerConfig


class Unconditional(StrEnum):
    """The stand-in for a caption in the unconditional half of guidance."""

    DROPPED = "dropped"  # no token is read, a learned embedding stands for the text's
    EMPTY_CAPTION = "empty-caption"  # the encoded empty text and its embedding (Karlo's way)


@dataclass(frozen=True)
class CaptionConfig:
    """Sizes of a caption encoder; the paper's decoder has width 2048, 24 layers, 32 heads, context 256."""

    vocabulary: int
    context: int = 256
    width: int = 2048
    layers: int = 24
    heads: int = 32


class CaptionEncoder(nn.Module):
    """A transformer over token ids, read in both directions, trained with the network that it serves."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.transformer = Transformer(TransformerConfig(config.width, config.layers, config.heads))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features (B, L, width) of ids (B, L) int64; mask (B, L) is True for real tokens."""
        x = self.token(ids) + self.position[: ids.shape[1]]
        out: Tensor = self.norm(self.transformer(x, mask))
        return out
