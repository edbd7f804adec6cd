"""unCLIP's diffusion prior: caption -> CLIP image embedding (section 2.2 of 2204.06125)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from unclip.models.caption import Unconditional
from unclip.nn.layers import TimeEmbedding, Whitening
from unclip.nn.transformer import KVCache, Transformer, TransformerConfig


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of a diffusion prior.

    Attributes:
        embedding: width of CLIP's embedding.
        text_width: width of the caption's token features.
        context: the longest caption in tokens.
        width, layers, heads, dropout: the transformer's.
        unit_embeddings: CLIP's embeddings come with length 1, and the text's is scaled up inside; where False
            (Karlo) they are what CLIP's projections give.
        normalised_text: a norm stands before the projection of the caption's features.
        unconditional: what stands for no caption.
    """

    embedding: int = 1024
    text_width: int = 2048
    context: int = 256
    width: int = 2048
    layers: int = 24
    heads: int = 32
    dropout: float = 0.0
    unit_embeddings: bool = True
    normalised_text: bool = True
    unconditional: Unconditional = Unconditional.DROPPED


# Karlo v1-alpha's (kakaobrain/karlo-v1-alpha, prior/config.json)
KARLO = PriorConfig(
    embedding=768,
    text_width=768,
    context=77,
    width=2048,
    layers=20,
    heads=32,
    unit_embeddings=False,
    normalised_text=False,
    unconditional=Unconditional.EMPTY_CAPTION,
)


@dataclass(frozen=True)
class PriorCondition:
    """The condition of a prior, for a batch of B.

    Attributes:
        text_embedding: (B, E) CLIP text embedding; its length as `PriorConfig.unit_embeddings` says.
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


@dataclass(frozen=True)
class ReadPrior:
    """A condition as the transformer has read it, for the many steps that share it.

    Attributes:
        cache: keys and values of the caption's positions and the text embedding's.
        mask: (B, L + 4) bool, True where a position may be attended.
    """

    cache: KVCache
    mask: Tensor


class DiffusionPrior(nn.Module):
    """Causal transformer over [caption, text embedding, time, noised image embedding, query].

    The output at the query predicts the un-noised embedding (Eq. 2 of 2204.06125). Embeddings are whitened.
    """

    SPECIAL = 4  # text embedding, time, noised embedding, query
    STEP = 3  # those of them that change from step to step

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.whitening = Whitening(config.embedding)
        self.sequence_in = nn.Sequential(
            nn.LayerNorm(config.text_width) if config.normalised_text else nn.Identity(),
            nn.Linear(config.text_width, config.width),
        )
        self.text_in = nn.Linear(config.embedding, config.width)
        self.time = TimeEmbedding(config.width, config.width)
        self.image_in = nn.Linear(config.embedding, config.width)
        dropped = config.unconditional is Unconditional.DROPPED
        self.null_text = nn.Parameter(torch.zeros(config.width)) if dropped else None
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

    def forward(self, x: Tensor, label: Tensor, condition: PriorCondition | ReadPrior) -> Tensor:
        """Predict the un-noised embedding.

        Args:
            x: (B, E) noised whitened embedding.
            label: (B,) time label.
            condition: the captions, or what `read` made of them.

        Returns:
            (B, E) whitened.

        Raises:
            ValueError: a caption is to be dropped by a prior that has no embedding for that.
        """
        step = self._step(x, label)  # (B, 3, D)
        if isinstance(condition, ReadPrior):
            condition.cache.rewind(condition.mask.shape[1] - self.STEP)
            hidden = self.transformer(step, condition.mask, condition.cache)
        else:
            caption, mask = self._caption(condition)
            tokens = torch.cat([caption, step.to(caption.dtype)], dim=1)  # (B, L + 4, D)
            hidden = self.transformer(tokens, mask)
        out: Tensor = self.out(self.norm_out(hidden[:, -1]))
        return out  # (B, E)

    def read(self, condition: PriorCondition) -> ReadPrior:
        """A condition as `forward` takes it for many steps: no caption's position attends to a step's.

        For inference, and for one sampling at a time.
        """
        caption, mask = self._caption(condition)
        batch, length, _ = caption.shape
        cache = KVCache(
            self.transformer.config, batch, length + self.STEP, device=caption.device, dtype=caption.dtype
        )
        self.transformer(caption, mask[:, :length], cache)
        return ReadPrior(cache, mask)

    def _caption(self, condition: PriorCondition) -> tuple[Tensor, Tensor]:
        """The positions that no step changes, (B, L + 1, D), and the mask of all positions, (B, L + 4)."""
        keep = condition.keep[:, None]  # (B, 1)
        # unit vectors: the square root of their width makes their features order one
        scale = self.config.embedding**0.5 if self.config.unit_embeddings else 1.0
        text = self.text_in(condition.text_embedding * scale)  # (B, D)
        if self.null_text is not None:
            text = torch.where(keep, text, self.null_text.to(text.dtype))
        elif not keep.all():
            raise ValueError("this prior drops no caption: give it the empty one")
        sequence = self.sequence_in(condition.sequence).to(text.dtype)  # (B, L, D)
        # the special tokens keep their positions whatever the caption's length
        context = self.config.context
        position = torch.cat([self.position[: sequence.shape[1]], self.position[context : context + 1]])
        mask = torch.cat([condition.mask & keep, keep.new_ones(len(text), self.SPECIAL)], dim=1)
        return torch.cat([sequence, text[:, None]], dim=1) + position, mask

    def _step(self, x: Tensor, label: Tensor) -> Tensor:
        """The positions that every step changes, (B, 3, D)."""
        image = self.image_in(x)  # (B, D)
        time, query = self.time(label).to(image.dtype), self.query.to(image.dtype).expand_as(image)
        return torch.stack([time, image, query], dim=1) + self.position[self.config.context + 1 :]
