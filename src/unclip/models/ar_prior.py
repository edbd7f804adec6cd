"""unCLIP's autoregressive prior: caption -> codes of a CLIP image embedding (section 2.2 of 2204.06125)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.embedding_codes import DotProductBuckets, EmbeddingCodes
from unclip.models.prior import PriorCondition
from unclip.nn.transformer import KVCache, Transformer, TransformerConfig


@dataclass(frozen=True)
class ArPriorConfig:
    """Sizes of an autoregressive prior, for embeddings of length one.

    Attributes:
        embedding: width of CLIP's embedding.
        text_width: width of the caption's token features.
        context: the longest caption in tokens.
        components: principal components of an embedding, a code each.
        buckets: that a component is cut into, the codes that there are.
        dot_buckets: that the dot product of text and image embedding is cut into.
        width, layers, heads, dropout: the transformer's.
    """

    embedding: int = 1024
    text_width: int = 1024
    context: int = 63
    components: int = 319
    buckets: int = 1024
    dot_buckets: int = 1024
    width: int = 1664
    layers: int = 24
    heads: int = 26
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.components <= self.embedding:
            raise InputError(f"components {self.components}: choose from 1 to {self.embedding}")
        for name in ("buckets", "dot_buckets"):
            if getattr(self, name) < 2:
                raise InputError(f"{name} {getattr(self, name)}: choose 2 or more")


# Table 3 of 2204.06125: its context of 384 is a caption of 63 tokens, the text embedding, the dot product and
# 319 codes. How many buckets the dot product has the paper does not say. These are 0.81 billion parameters:
# the paper counts 1 billion, and has a text encoder of the prior's own where here CLIP's features are read.
PAPER = ArPriorConfig()


@dataclass(frozen=True)
class Writing:
    """Embeddings in the course of being written, code by code.

    Attributes:
        prefix: (B, L + 2, D) what stands before the codes.
        mask: (B, L + 1 + K) bool, True where a position may be attended.
        cache: keys and values of the positions so far.
    """

    prefix: Tensor
    mask: Tensor
    cache: KVCache


class ArPrior(nn.Module):
    """Causal transformer over [caption, text embedding, dot product, codes of the image embedding]."""

    SPECIAL = 2  # text embedding, dot product

    def __init__(self, config: ArPriorConfig) -> None:
        super().__init__()
        self.config = config
        self.codes = EmbeddingCodes(config.embedding, config.components, config.buckets)
        self.dot_products = DotProductBuckets(config.dot_buckets)
        self.sequence_in = nn.Sequential(
            nn.LayerNorm(config.text_width), nn.Linear(config.text_width, config.width)
        )
        self.text_in = nn.Linear(config.embedding, config.width)
        self.dot_token = nn.Embedding(config.dot_buckets, config.width)
        self.null_text = nn.Parameter(torch.zeros(config.width))
        self.null_dot = nn.Parameter(torch.zeros(config.width))
        self.code_token = nn.Embedding(config.buckets, config.width)
        positions = config.context + self.SPECIAL + config.components - 1  # the last code is not read
        self.position = nn.Parameter(0.02 * torch.randn(positions, config.width))
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
        self.out = nn.Linear(config.width, config.buckets)
        for token in (self.dot_token, self.code_token):
            nn.init.normal_(token.weight, std=0.02)

    def forward(self, codes: Tensor, condition: PriorCondition, dot: Tensor) -> Tensor:
        """Predict each code, given the caption and the codes before it.

        Args:
            codes: (B, K) int64.
            condition: the captions; what is not kept is read neither of them nor of `dot`.
            dot: (B,) int64, bucket of the dot product of text and image embedding.

        Returns:
            Logits (B, K, buckets).
        """
        prefix, mask = self._prefix(condition, dot)
        known = self.code_token(codes[:, :-1]) + self._code_positions  # (B, K - 1, D)
        hidden = self.transformer(torch.cat([prefix, known.to(prefix.dtype)], dim=1), mask)
        logits: Tensor = self.out(self.norm_out(hidden[:, prefix.shape[1] - 1 :]))
        return logits  # (B, K, buckets)

    def begin(self, condition: PriorCondition, dot: Tensor) -> Writing:
        """The state that `step` goes on from; for inference. Arguments as of `forward`."""
        prefix, mask = self._prefix(condition, dot)
        cache = KVCache(
            self.transformer.config, len(prefix), mask.shape[1], device=prefix.device, dtype=prefix.dtype
        )
        return Writing(prefix, mask, cache)

    def step(self, writing: Writing, last: Tensor | None) -> Tensor:
        """Logits (B, buckets) of the next code, from the code (B,) before it; None at the beginning."""
        cache, length = writing.cache, writing.prefix.shape[1]
        if last is None:
            cache.rewind()
            tokens = writing.prefix
        else:
            code = self.code_token(last) + self._code_positions[cache.position - length]
            tokens = code.to(writing.prefix.dtype)[:, None]  # (B, 1, D)
        hidden = self.transformer(tokens, writing.mask[:, : cache.position + tokens.shape[1]], cache)
        logits: Tensor = self.out(self.norm_out(hidden[:, -1]))
        return logits

    @property
    def _code_positions(self) -> Tensor:
        return self.position[self.config.context + self.SPECIAL :]  # (K - 1, D)

    def _prefix(self, condition: PriorCondition, dot: Tensor) -> tuple[Tensor, Tensor]:
        """Positions before the codes, (B, L + 2, D), and the mask of all positions, (B, L + 1 + K)."""
        config, keep = self.config, condition.keep[:, None]  # (B, 1)
        # unit vectors: the square root of their width makes their features order one
        text = self.text_in(condition.text_embedding * config.embedding**0.5)  # (B, D)
        text = torch.where(keep, text, self.null_text.to(text.dtype))
        dots = torch.where(keep, self.dot_token(dot), self.null_dot).to(text.dtype)  # (B, D)
        sequence = self.sequence_in(condition.sequence).to(text.dtype)  # (B, L, D)
        # text embedding and dot product keep their positions whatever the caption's length
        context, length = config.context, sequence.shape[1]
        position = torch.cat([self.position[:length], self.position[context : context + self.SPECIAL]])
        prefix = torch.cat([sequence, text[:, None], dots[:, None]], dim=1) + position
        after = keep.new_ones(len(text), self.SPECIAL + config.components - 1)
        return prefix, torch.cat([condition.mask & keep, after], dim=1)
