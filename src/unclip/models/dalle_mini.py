"""DALL-E mini and mega: a BART encoder reads the prompt, its decoder writes the codes of a VQGAN one by one.

NormFormer's norms (2110.09456) stand before and behind every attention and inside a gated MLP (2002.05202);
no projection has a bias. The decoder keeps keys and values of what it has written, and computes those of the
prompt once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.transformer import Attention, KVCache, LayerCache, TransformerConfig


@dataclass(frozen=True)
class DalleMiniConfig:
    """Sizes of the transformer; the defaults are DALL-E mini's.

    Attributes:
        text_vocabulary: rows of the text embedding.
        text_context: the longest prompt in tokens.
        vocabulary: codes that may be drawn: the first rows of the code embedding.
        code_rows: rows of the code embedding and of the output, the start token's and unused ones included.
        start: row of the code embedding that stands before the first code.
        grid: codes along each side of the picture.
        width, layers, heads: of encoder and decoder each.
        mlp_width: features inside the gated MLP.
    """

    text_vocabulary: int = 50_264
    text_context: int = 64
    vocabulary: int = 16_384
    code_rows: int = 16_385
    start: int = 16_384
    grid: int = 16
    width: int = 1024
    layers: int = 12
    heads: int = 16
    mlp_width: int = 2730

    def __post_init__(self) -> None:
        if min(self.text_vocabulary, self.text_context, self.vocabulary, self.grid, self.mlp_width) < 1:
            raise InputError(f"{self}: every size must be at least 1")
        if not 0 <= self.start < self.code_rows or self.vocabulary > self.code_rows:
            raise InputError(
                f"start {self.start} and {self.vocabulary} codes do not fit {self.code_rows} rows of codes"
            )
        _ = self.transformer  # refuses heads that do not divide the width

    @property
    def codes(self) -> int:
        """Codes of a picture."""
        return self.grid**2

    @property
    def transformer(self) -> TransformerConfig:
        """The sizes of the decoder's attention and its cache."""
        return TransformerConfig(self.width, self.layers, self.heads, causal=True, bias=False)


PRESETS = {
    "mini": DalleMiniConfig(),
    "mega": DalleMiniConfig(
        text_vocabulary=50_272,
        code_rows=16_416,
        start=16_415,
        width=2048,
        layers=24,
        heads=32,
        mlp_width=4096,
    ),
}


class CrossAttention(nn.Module):
    """Multi-head attention of the codes to the prompt."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.kv_proj = nn.Linear(config.width, 2 * config.width, bias=False)
        self.out_proj = nn.Linear(config.width, config.width, bias=False)

    def memory(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, L, D/H) of a prompt (B, L, D): the same for every code."""
        batch, length, _ = text.shape
        kv = self.kv_proj(text).view(batch, length, 2, self.heads, -1)  # (B, L, 2, H, D/H)
        key, value = kv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        return key, value

    def forward(self, x: Tensor, memory: tuple[Tensor, Tensor], allowed: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D); `allowed` (B, 1, 1, L) is True where the prompt may be read."""
        query = self.q_proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, D/H)
        out = F.scaled_dot_product_attention(query, *memory, allowed)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class GatedMLP(nn.Module):
    """A GELU of one projection times another, with NormFormer's norm between (B, N, D) and (B, N, D)."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.width)
        self.in_proj = nn.Linear(config.width, 2 * config.mlp_width, bias=False)
        self.norm_inner = nn.LayerNorm(config.mlp_width)
        self.out_proj = nn.Linear(config.mlp_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.in_proj(self.norm_in(x)).chunk(2, dim=-1)  # (B, N, mlp_width) each
        return self.out_proj(self.norm_inner(F.gelu(gate) * value))


class EncoderLayer(nn.Module):
    """Self-attention over the whole prompt, then the MLP."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.width)
        self.attn = Attention(config.transformer)
        self.norm_out = nn.LayerNorm(config.width)
        self.mlp = GatedMLP(config)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        x = x + self.norm_out(self.attn(self.norm_in(x), allowed))
        out: Tensor = x + self.mlp(x)
        return out


class DecoderLayer(nn.Module):
    """Causal self-attention over the codes, attention to the prompt, then the MLP."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(config.width)
        self.attn = Attention(config.transformer)
        self.norm_out = nn.LayerNorm(config.width)
        self.cross_norm_in = nn.LayerNorm(config.width)
        self.cross = CrossAttention(config)
        self.cross_norm_out = nn.LayerNorm(config.width)
        self.mlp = GatedMLP(config)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        allowed: Tensor,
        cache: LayerCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D): with a cache one more position, without one all of them at once."""
        h = self.attn(self.norm_in(x), causal=cache is None, cache=cache, start=start)
        x = x + self.norm_out(h)
        x = x + self.cross_norm_out(self.cross(self.cross_norm_in(x), memory, allowed))
        out: Tensor = x + self.mlp(x)
        return out


class TextEncoder(nn.Module):
    """Token ids (B, L) -> features (B, L, D). Those at padding are finite and mean nothing."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.text_vocabulary, config.width)
        self.position = nn.Embedding(config.text_context, config.width)
        self.norm_embedding = nn.LayerNorm(config.width)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.norm_embedding(self.token(ids) + self.position.weight[: ids.shape[1]])
        allowed = mask[:, None, None]  # (B, 1, 1, L)
        for layer in self.layers:
            x = layer(x, allowed)
        out: Tensor = self.norm_out(x)
        return out


class CodeDecoder(nn.Module):
    """Codes and a prompt -> logits of the next code."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.code_rows, config.width)
        self.position = nn.Embedding(config.codes, config.width)
        self.norm_embedding = nn.LayerNorm(config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.code_rows, bias=False)
        self.vocabulary = config.vocabulary

    def memories(self, text: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's keys and values of a prompt (B, L, D)."""
        return [layer.cross.memory(text) for layer in self._layers()]

    def forward(
        self,
        ids: Tensor,
        memories: list[tuple[Tensor, Tensor]],
        allowed: Tensor,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits (B, N, vocabulary) after each of the rows `ids` (B, N) of the code embedding."""
        start = 0 if cache is None else cache.reserve(ids.shape[1])
        end = start + ids.shape[1]
        x = self.norm_embedding(self.token(ids) + self.position.weight[start:end])  # (B, N, D)
        for i, layer in enumerate(self._layers()):
            x = layer(x, memories[i], allowed, None if cache is None else cache.layers[i], start)
        if cache is not None:
            cache.position = end
        logits: Tensor = self.out(self.norm_out(x))
        return logits[..., : self.vocabulary]

    def _layers(self) -> list[DecoderLayer]:
        return [cast(DecoderLayer, layer) for layer in self.layers]


@dataclass(frozen=True)
class Writing:
    """Codes that are being written for B prompts: what `DalleMini.step` needs to go on.

    Attributes:
        memories: keys and values of the prompts, by layer.
        allowed: (B, 1, 1, L) bool, True where a prompt may be read.
        cache: keys and values of the codes so far; each step extends it.
    """

    memories: list[tuple[Tensor, Tensor]]
    allowed: Tensor
    cache: KVCache


class DalleMini(nn.Module):
    """Prompt to codes."""

    def __init__(self, config: DalleMiniConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextEncoder(config)
        self.decoder = CodeDecoder(config)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features (B, L, width) of prompts.

        Args:
            ids: (B, L) int64, L at most `config.text_context`.
            mask: (B, L) bool, True for real tokens.

        Raises:
            InputError: the prompts are too long.
        """
        if ids.shape[1] > self.config.text_context:
            raise InputError(f"{ids.shape[1]} tokens of text: at most {self.config.text_context} are read")
        out: Tensor = self.encoder(ids, mask)
        return out

    def begin(self, text: Tensor, mask: Tensor) -> Writing:
        """Prepare to write codes to prompts' features (B, L, width) with mask (B, L)."""
        cache = KVCache(
            self.config.transformer,
            text.shape[0],
            self.config.codes,
            device=text.device,
            dtype=self.decoder.out.weight.dtype,
        )
        return Writing(self.decoder.memories(text), mask[:, None, None], cache)

    def step(self, writing: Writing, codes: Tensor | None = None) -> Tensor:
        """Logits (B, vocabulary) of the next code.

        Args:
            writing: what `begin` returned; it goes on by one code.
            codes: (B,) that were drawn last; None before the first.

        Raises:
            InputError: the picture has all its codes.
        """
        if codes is None:
            batch, device = writing.allowed.shape[0], writing.allowed.device
            codes = torch.full((batch,), self.config.start, device=device)
        logits: Tensor = self.decoder(codes[:, None], writing.memories, writing.allowed, writing.cache)
        return logits[:, -1]

    def forward(self, ids: Tensor, mask: Tensor, codes: Tensor) -> Tensor:
        """Logits (B, N, vocabulary) of each of the first N codes (B, N), given those before it."""
        start = codes.new_full((codes.shape[0], 1), self.config.start)
        before = torch.cat([start, codes[:, :-1]], dim=1)  # (B, N)
        memories = self.decoder.memories(self.read(ids, mask))
        out: Tensor = self.decoder(before, memories, mask[:, None, None])
        return out
