"""unCLIP's diffusion prior: caption -> CLIP image embedding (section 2.2 of 2204.06125)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from unclip.nn.layers import TimeEmbedding, Whitening
from unclip.nn.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of a diffusion prior.

    Attributes:
        embedding: width of CLIP's embedding.
        text_width: width of the caption's token features.
        context: the longest caption in tokens.
        width, layers, heads, dropout: the transformer's.
    """

    embedding: int = 1024
    text_width: int = 2048
    context: int = 256
    width: int = 2048
    layers: int = 24
    heads: int = 32
    dropout: float = 0.0


@dataclass(frozen=True)
class PriorCondition:
    """What a prior is conditioned on, for a batch of B.

    Attributes:
        text_embedding: (B, E) CLIP text embedding, L2-normalised.
        sequence: (B, L, W) caption features.
        mask: (B, L) bool, True for real tokens.
        keep: (B,) bool; where False the caption is not read and a learned embedding stands for it.
    """

    text_embedding: Tensor
    sequence: Tensor
    mask: Tensor
    keep: Tensor

    def dropped(self) -> PriorCondition:
        """The same batch with nothing kept: the unconditional half of classifier-free guidance."""
        return replace(self, keep=torch.zeros_like(self.keep))


class DiffusionPrior(nn.Module):
    """Causal transformer over [caption, text embedding, time, noised image embedding, query].

    The output at the query predicts the un-noised embedding (Eq. 2 of 2204.06125). Embeddings are whitened.
    """

    SPECIAL = 4  # text embedding, time, noised embedding, query

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.whitening = Whitening(config.embedding)
        self.sequence_in = nn.Sequential(
            nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.width)
        )
        self.text_in = nn.Linear(config.embedding, config.width)
        self.time = TimeEmbedding(config.width, config.width)
        self.image_in = nn.Linear(config.embedding, config.width)
        self.null_text = nn.Parameter(torch.zeros(config.width))
        self.query = nn.Parameter(0.02 * torch.randn(config.width))
        self.position = nn.Parameter(0.02 * torch.randn(config.context + self.SPECIAL, config.width))
        self.transformer = Transformer(
            TransformerConfig(
                width=config.width,
                layers=config.layers,
                heads=config.heads,
                causal=True,
                dropout=config.dropout,
            )
        )
        self.norm_out = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.embedding)

    def forward(self, x: Tensor, label: Tensor, condition: PriorCondition) -> Tensor:
        """Predict the un-noised embedding.

        Args:
            x: (B, E) noised whitened embedding.
            label: (B,) time label.
            condition: the captions.

        Returns:
            (B, E) whitened.
        """
        keep = condition.keep[:, None]  # (B, 1)
        # CLIP text embeddings are unit vectors; the square root of their width makes their features order one
        text = self.text_in(condition.text_embedding * self.config.embedding**0.5)
        text = torch.where(keep, text, self.null_text.to(text.dtype))  # (B, D)
        special = torch.stack(
            [
                text,
                self.time(label).to(text.dtype),
                self.image_in(x).to(text.dtype),
                self.query.to(text.dtype).expand_as(text),
            ],
            dim=1,
        )  # (B, 4, D)
        sequence = self.sequence_in(condition.sequence).to(text.dtype)  # (B, L, D)
        length = sequence.shape[1]
        context = self.config.context
        # the special tokens keep their positions whatever the caption's length
        position = torch.cat([self.position[:length], self.position[context:]])  # (L + 4, D)
        tokens = torch.cat([sequence, special], dim=1) + position
        mask = torch.cat(
            [condition.mask & keep, keep.new_ones(x.shape[0], self.SPECIAL)], dim=1
        )  # (B, L + 4)
        hidden = self.transformer(tokens, mask)
        out: Tensor = self.out(self.norm_out(hidden[:, -1]))
        return out  # (B, E)
