"""DALL-E 1 (2102.12092): one transformer over a caption's tokens and the codes of its picture.

The sequence is the caption, padded to its full context with a learned padding for each position, and behind
it the codes in raster order. Each position predicts what stands behind it; the caption's last the first code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unclip.errors import InputError
from unclip.nn.attention import kept_dtype
from unclip.nn.gradient_scale import GradientScales, ScaledBlock
from unclip.nn.grid_attention import KERNEL, Pattern, RasterCache, allowed, paper_patterns
from unclip.nn.steps import Steps
from unclip.nn.transformer import Block, LayerCache, TransformerConfig

TEXT_SHARE = 1 / 8  # of the loss: section 2.2 of 2102.12092
EMBEDDING_STD = 0.02


class Attention(StrEnum):
    """The earlier codes that a code attends to."""

    SPARSE = "sparse"  # rows, columns and a square, layer by layer as in the paper
    DENSE = "dense"  # everything


@dataclass(frozen=True)
class Dalle1Config:
    """Sizes of the transformer; the defaults are the paper's (appendix B.1), 12 billion parameters.

    Attributes:
        text_vocabulary: ids of the tokenizer.
        text_context: tokens of a caption, its start and end included.
        vocabulary: codes of the codec.
        grid: codes along each side of the picture.
        width, layers, heads: of the transformer.
        attention: see `Attention`.
        kernel: side of the square that the last layer sees.
        dropout: on what every residual branch adds.
        tied: the embeddings of tokens and codes are also what the logits are computed with.
        sixteen_bit: branches train in float16 with a gradient scale each, logits in float32: the paper's
            recipe (appendix D) for machines without bfloat16.
    """

    text_vocabulary: int = 16_384
    text_context: int = 256
    vocabulary: int = 8192
    grid: int = 32
    width: int = 3968
    layers: int = 64
    heads: int = 62
    attention: Attention = Attention.SPARSE
    kernel: int = KERNEL
    dropout: float = 0.0
    tied: bool = False
    sixteen_bit: bool = False

    def __post_init__(self) -> None:
        if min(self.text_vocabulary, self.vocabulary, self.grid) < 1 or self.text_context < 3:
            raise InputError(f"{self}: sizes must be at least 1, and text_context 3: start, a token, end")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"kernel {self.kernel}: must be odd, for a code stands in the middle")
        _ = self.transformer  # refuses heads that do not divide the width

    @property
    def codes(self) -> int:
        """Codes of a picture."""
        return self.grid**2

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """The pattern of each layer's codes."""
        if self.attention is Attention.DENSE:
            return (Pattern.DENSE,) * self.layers
        return paper_patterns(self.layers)

    @property
    def transformer(self) -> TransformerConfig:
        """The sizes of the blocks and their cache."""
        return TransformerConfig(self.width, self.layers, self.heads, causal=True, dropout=self.dropout)


class Logits(NamedTuple):
    """The predictions of a caption (B, T) and its first N codes."""

    text: Tensor  # (B, T - 1, text_vocabulary), of the tokens from the second on
    codes: Tensor  # (B, N, vocabulary)


class Losses(NamedTuple):
    """Mean cross entropies in nats: a token, a code, and both in the paper's shares."""

    total: Tensor
    text: Tensor
    codes: Tensor


class Writing:
    """The state of writing the pictures or captions of a batch of B: all that the next step needs."""

    def __init__(self, cache: RasterCache, first: Tensor, kept: int, steps: Steps | None) -> None:
        self.cache = cache
        self.first = first  # (B, V), logits of the first code or token that is to be drawn
        self.kept = kept  # codes that were given
        self.steps = steps  # the blocks for one position; None where they must be called themselves

    def again(self) -> None:
        """Forget what was drawn: the same prompts once more, without reading them again.

        Raises InputError where codes were given: their keys and values may be gone by now.
        """
        if self.kept:
            raise InputError("pictures that were begun with given codes cannot begin again")
        self.cache.rewind(self.cache.text)


class Dalle1(nn.Module):
    """Caption and codes to what comes next.

    `checkpointing` says whether training computes activations a second time instead of keeping them.
    """

    def __init__(self, config: Dalle1Config) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        width = config.width
        self.token = nn.Embedding(config.text_vocabulary, width)
        self.position = nn.Embedding(config.text_context, width)
        self.padding = nn.Embedding(config.text_context, width)  # for each position its own, section 2.2
        self.code = nn.Embedding(config.vocabulary, width)
        self.row = nn.Embedding(config.grid, width)
        self.column = nn.Embedding(config.grid, width)
        self.scales = GradientScales(2 * config.layers) if config.sixteen_bit else None
        self.resblocks = nn.ModuleList(self._new_block(layer) for layer in range(config.layers))
        self.norm_out = nn.LayerNorm(width)
        self.text_out = None if config.tied else nn.Linear(width, config.text_vocabulary, bias=False)
        self.code_out = None if config.tied else nn.Linear(width, config.vocabulary, bias=False)
        for module in (self.token, self.position, self.padding, self.code, self.row, self.column):
            nn.init.normal_(module.weight, std=EMBEDDING_STD)
        for out in (self.text_out, self.code_out):
            if out is not None:
                nn.init.normal_(out.weight, std=EMBEDDING_STD)
        for pattern in dict.fromkeys(config.patterns):
            if pattern is not Pattern.DENSE:
                mask = allowed(pattern, config.text_context, config.grid, config.kernel)
                self.register_buffer(f"allowed_{pattern}", mask, persistent=False)

    # --- all positions at once ---

    def forward(self, ids: Tensor, mask: Tensor, codes: Tensor) -> Logits:
        """Logits of every token but the first and of every code, given what stands before it.

        Args:
            ids: (B, T) int64, T the whole text context.
            mask: (B, T) bool, True for tokens, False where padding stands.
            codes: (B, N) int64, the first N of the picture.

        Raises:
            InputError: captions of another length, or more codes than the grid holds.
        """
        self._check(ids, mask, codes.shape[1])
        if self.scales is not None and self.training and torch.is_grad_enabled():
            self.scales.update_()
        x = self._embed_text(ids, mask)
        if codes.shape[1] > 1:
            x = torch.cat([x, self._embed_codes(codes[:, :-1], 0)], dim=1)  # (B, T + N - 1, D)
        x = self.norm_out(self._blocks(x, None))
        last = ids.shape[1] - 1  # it predicts the first code
        return Logits(self._text_logits(x[:, :last]), self._code_logits(x[:, last:]))

    def losses(
        self,
        ids: Tensor,
        mask: Tensor,
        codes: Tensor,
        told: Tensor | None = None,
        seen: Tensor | None = None,
        text_terms: Tensor | None = None,
    ) -> Losses:
        """Section 2.2 of 2102.12092: 1/8 of the mean over the text's tokens and 7/8 of that over the codes.

        Padding is not predicted. `told` (B,) bool is False for captions that were dropped: their text is not
        predicted either, or else the model would learn to write empty captions. `seen` (B, N) stands in the
        place of the codes (B, N) where they are read: some may be wrong, the right ones are predicted.
        `text_terms` is the number that the sum over the text's tokens is divided by; None is that of this
        batch. A batch that is a share of a larger one is given the mean number over the shares.
        """
        logits = self(ids, mask, codes if seen is None else seen)
        target = ids[:, 1:].masked_fill(~mask[:, 1:], -100)  # what cross entropy leaves out
        if told is not None:
            target = target.masked_fill(~told[:, None], -100)
        summed = F.cross_entropy(logits.text.flatten(0, 1).float(), target.flatten(), reduction="sum")
        terms = (target >= 0).sum() if text_terms is None else text_terms
        text = summed / terms.clamp(min=1)
        image = F.cross_entropy(logits.codes.flatten(0, 1).float(), codes.flatten())
        return Losses(TEXT_SHARE * text + (1 - TEXT_SHARE) * image, text.detach(), image.detach())

    # --- one position after the other ---

    def begin(
        self, ids: Tensor, mask: Tensor, rows: Tensor | None = None, codes: Tensor | None = None
    ) -> Writing:
        """Read P prompts, each once, to draw a batch of B pictures of them.

        Args:
            ids: (P, T) int64, T the whole text context.
            mask: (P, T) bool.
            rows: (B,) int64, whose pictures they are; None is one of each.
            codes: (P, n) int64, the first codes of each prompt's pictures, where they are given.

        Raises:
            InputError: as `forward`, or all codes are given.
        """
        given = 0 if codes is None else codes.shape[1]
        self._check(ids, mask, given + 1)
        batch = len(ids) if rows is None else len(rows)
        cache = self._cache(batch, rows)
        x = self._embed_text(ids, mask)
        if codes is not None and given:
            x = torch.cat([x, self._embed_codes(codes, 0)], dim=1)
        first = self._code_logits(self.norm_out(self._blocks(x, cache)[:, -1]))  # (P, V)
        return Writing(cache, first if rows is None else first[rows], given, self._steps())

    def step(self, writing: Writing, codes: Tensor | None = None) -> Tensor:
        """Logits (B, vocabulary) of the next code.

        Args:
            writing: what `begin` returned; it goes on by one code.
            codes: (B,) that were drawn last; None for the first.

        Raises:
            InputError: the picture has all its codes.
        """
        if codes is None:
            return writing.first
        position = writing.cache.position - self.config.text_context
        if position >= self.config.codes - 1:
            raise InputError(f"the picture has all its {self.config.codes} codes")
        x = self._next(self._embed_codes(codes[:, None], position)[:, 0], writing)
        return self._code_logits(self.norm_out(x))

    def begin_text(self, ids: Tensor, batch: int) -> Writing:
        """Read the beginning of one caption, to write `batch` ends of it with `step_text`.

        Args:
            ids: (1, n) int64, start token and text, n below the text context.
            batch: ends that are written together.
        """
        if ids.shape[0] != 1 or not 1 <= ids.shape[1] < self.config.text_context:
            raise InputError(
                f"token ids {tuple(ids.shape)}: give one caption of at least 1 token and fewer than "
                f"{self.config.text_context}"
            )
        cache = self._cache(batch, torch.zeros(batch, dtype=torch.int64, device=ids.device))
        x = self._blocks(self._embed_text(ids, torch.ones_like(ids, dtype=torch.bool)), cache)
        first = self._text_logits(self.norm_out(x[:, -1])).expand(batch, -1)
        return Writing(cache, first, 0, self._steps())

    def step_text(self, writing: Writing, tokens: Tensor | None = None) -> Tensor:
        """Logits (B, text_vocabulary) behind the tokens (B,) that were drawn last; None for the first."""
        if tokens is None:
            return writing.first
        start = writing.cache.position
        if start >= self.config.text_context - 1:
            raise InputError(f"the caption has all its {self.config.text_context} tokens")
        x = self.token(tokens) + self.position.weight[start]  # (B, D)
        return self._text_logits(self.norm_out(self._next(x, writing)))

    # --- parts ---

    def _cache(self, batch: int, rows: Tensor | None) -> RasterCache:
        config, weight = self.config, self.token.weight
        return RasterCache(
            config.transformer,
            config.patterns,
            batch,
            config.text_context,
            config.grid,
            config.kernel,
            rows=rows,
            device=weight.device,
            dtype=kept_dtype(weight.device, weight.dtype),
        )

    def _check(self, ids: Tensor, mask: Tensor, codes: int) -> None:
        context = self.config.text_context
        if ids.ndim != 2 or ids.shape[1] != context or mask.shape != ids.shape:
            raise InputError(
                f"token ids {tuple(ids.shape)} and mask {tuple(mask.shape)}: both must be (B, {context}), "
                "padded to the whole context"
            )
        if not 1 <= codes <= self.config.codes:
            raise InputError(f"{codes} codes: choose 1 to {self.config.codes}")

    def _embed_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L) -> (B, L, D)."""
        length = ids.shape[1]
        tokens = self.token(ids) + self.position.weight[:length]
        return torch.where(mask[..., None], tokens, self.padding.weight[:length])

    def _embed_codes(self, codes: Tensor, start: int) -> Tensor:
        """(B, N) that stand at `start` and behind it in raster order -> (B, N, D)."""
        grid = self.config.grid
        if codes.shape[1] == 1:
            place = self.row.weight[start // grid] + self.column.weight[start % grid]  # (D,)
        else:
            position = torch.arange(start, start + codes.shape[1], device=codes.device)
            place = self.row(position // grid) + self.column(position % grid)  # (N, D)
        out: Tensor = self.code(codes) + place
        return out

    def _blocks(self, x: Tensor, cache: RasterCache | None) -> Tensor:
        """(B, N, D) -> (B, N, D); with a cache the N positions behind those it has seen."""
        count = x.shape[1]
        start = 0 if cache is None else cache.reserve(count)
        whole = count > 1 and start == 0
        for i, (block, pattern) in enumerate(zip(self.resblocks, self.config.patterns, strict=True)):
            # inside the text every pattern is plain causal attention
            masked = whole and pattern is not Pattern.DENSE and count > self.config.text_context
            mask = self.get_buffer(f"allowed_{pattern}")[:count, :count] if masked else None
            layer = None if cache is None else cache.layers[i]
            if self.checkpointing and self.training:
                x = cast(
                    Tensor, checkpoint(self._block, block, x, mask, whole, layer, start, use_reentrant=False)
                )
            else:
                x = self._block(block, x, mask, whole, layer, start)
        if cache is not None:
            cache.position = start + count
        return x

    def _steps(self) -> Steps | None:
        """The blocks for one position; with gradients, or scales of them, they are called themselves."""
        return None if self.scales is not None or torch.is_grad_enabled() else Steps(self.resblocks)

    def _next(self, x: Tensor, writing: Writing) -> Tensor:
        """(B, D) -> (B, D) at the position behind those that were seen."""
        if writing.steps is not None:
            return writing.steps(x, writing.cache)
        return self._blocks(x[:, None], writing.cache)[:, -1]

    def _block(
        self,
        block: nn.Module,
        x: Tensor,
        mask: Tensor | None,
        whole: bool,
        layer: LayerCache | None,
        start: int,
    ) -> Tensor:
        out: Tensor = block(x, mask, causal=whole and mask is None, cache=layer, start=start)
        return out

    def _new_block(self, layer: int) -> Block:
        if self.scales is None:
            return Block(self.config.transformer)
        return ScaledBlock(self.config.transformer, self.scales, 2 * layer)

    def _text_logits(self, x: Tensor) -> Tensor:
        return self._logits(x, self.token if self.text_out is None else self.text_out)

    def _code_logits(self, x: Tensor) -> Tensor:
        return self._logits(x, self.code if self.code_out is None else self.code_out)

    def _logits(self, x: Tensor, rows: nn.Embedding | nn.Linear) -> Tensor:
        if self.scales is None or not self.training:
            return F.linear(x, rows.weight)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), rows.weight)
