"""The one transformer of the project: CLIP's towers, both priors, DALL-E 1 and the decoder's text encoder.

Pre-norm blocks with CLIP's parameter names (`resblocks.N.attn.in_proj_weight, attn.out_proj, ln_1, ln_2,
mlp.c_fc, mlp.c_proj`), so that the key table of a published checkpoint is a plain rename.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.attention import attention


class Activation(StrEnum):
    """The non-linearity of the MLP. OpenAI's CLIP weights need `QUICK_GELU`: nothing in the file says so."""

    GELU = "gelu"
    QUICK_GELU = "quick-gelu"


QUICK_GELU_SLOPE = 1.702


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x), the approximation of GELU that OpenAI's CLIP was trained with."""
    return x * torch.sigmoid(QUICK_GELU_SLOPE * x)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.GELU: F.gelu,
    Activation.QUICK_GELU: quick_gelu,
}


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a stack of blocks. `heads` must divide `width`; `dropout` is a share in [0, 1).

    `bias` says whether the projections of attention and MLP have biases.
    """

    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    activation: Activation = Activation.GELU
    causal: bool = False
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or self.layers < 1 or self.heads < 1:
            raise InputError(
                f"transformer of width {self.width}, {self.layers} layers, {self.heads} heads: "
                "each must be at least 1"
            )
        if self.width % self.heads:
            raise InputError(f"transformer width {self.width} is not a multiple of its {self.heads} heads")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"dropout {self.dropout} is outside [0, 1)")

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        """Channels inside the MLP."""
        return round(self.width * self.mlp_ratio)


class LayerCache:
    """One layer's share of a `KVCache`: views into its buffers."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys = keys  # (B, H, length, D/H)
        self.values = values  # (B, H, length, D/H)

    def extend(self, key: Tensor, value: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Write (B, H, N, D/H) at position `start`; return every key and value up to there."""
        end = start + key.shape[2]
        self.keys[:, :, start:end] = key
        self.values[:, :, start:end] = value
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """Keys and values of the positions already seen, allocated once for `length` positions.

    Only for inference through a causal transformer. `position` counts the positions seen; `rewind` forgets
    the later ones, so that one prompt can be continued several times.
    """

    def __init__(
        self,
        config: TransformerConfig,
        batch: int,
        length: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not config.causal:
            raise InputError(
                "a KV cache needs a causal transformer: in any other one, later positions change earlier ones"
            )
        shape = (2, config.layers, batch, config.heads, length, config.head_width)
        self._buffer = torch.zeros(shape, device=device, dtype=dtype)
        self.layers = [LayerCache(self._buffer[0, i], self._buffer[1, i]) for i in range(config.layers)]
        self.length = length
        self.position = 0

    def rewind(self, position: int = 0) -> None:
        """Forget every position from `position` on."""
        if not 0 <= position <= self.position:
            raise InputError(f"cannot rewind to position {position}: the cache holds 0 to {self.position}")
        self.position = position

    def reserve(self, count: int) -> int:
        """The position at which `count` more start. Raises InputError where they do not fit."""
        if self.position + count > self.length:
            raise InputError(
                f"the cache has room for {self.length} positions, {self.position} are taken and {count} more "
                "came: make it longer"
            )
        return self.position


class Attention(nn.Module):
    """Multi-head self-attention with a fused in-projection, (B, N, D) -> (B, N, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * config.width, config.width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * config.width)) if config.bias else None
        self.out_proj = nn.Linear(config.width, config.width, bias=config.bias)

    def forward(
        self,
        x: Tensor,
        allowed: Tensor | None = None,
        *,
        causal: bool = False,
        cache: LayerCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """`allowed` is bool, broadcastable to (B, H, N, M), True = attend; with `causal` it must be None."""
        batch, count, _ = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3D)
        qkv = qkv.view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (3, B, H, N, D/H)
        query, key, value = qkv.unbind(0)
        if cache is not None:
            key, value = cache.extend(key, value, start)  # (B, H, M, D/H)
        dropout = self.dropout if self.training else 0.0
        out = attention(query.to(key.dtype), key, value, allowed, dropout, causal=causal)  # (B, H, N, D/H)
        return self.out_proj(out.transpose(1, 2).flatten(2).to(x.dtype))  # (B, N, D)


class MLP(nn.Module):
    """Two linear layers around the activation, (B, N, D) -> (B, N, D)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.c_fc = nn.Linear(config.width, config.mlp_width, bias=config.bias)
        self.c_proj = nn.Linear(config.mlp_width, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(nn.Module):
    """Pre-norm residual block: attention, then MLP.

    A model with an attention pattern of its own (DALL-E 1) calls blocks one by one with its `allowed` mask;
    everybody else calls `Transformer`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)
        self.reset_parameters(config)

    def reset_parameters(self, config: TransformerConfig) -> None:
        """CLIP's initialisation: normal, scaled by width, and the residual branches by depth as well."""
        residual_std = config.width**-0.5 * (2 * config.layers) ** -0.5
        nn.init.normal_(self.attn.in_proj_weight, std=config.width**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=residual_std)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * config.width) ** -0.5)
        nn.init.normal_(self.mlp.c_proj.weight, std=residual_std)
        for bias in (
            self.attn.in_proj_bias,
            self.attn.out_proj.bias,
            self.mlp.c_fc.bias,
            self.mlp.c_proj.bias,
        ):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(
        self,
        x: Tensor,
        allowed: Tensor | None = None,
        *,
        causal: bool = False,
        cache: LayerCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D); `allowed` and `causal` as in `Attention.forward`."""
        x = x + self.drop(self.attn(self.ln_1(x), allowed, causal=causal, cache=cache, start=start))
        return x + self.drop(self.mlp(self.ln_2(x)))


class Transformer(nn.Module):
    """A stack of blocks without embeddings and without a final norm: those are the model's."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.resblocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Run the blocks, (B, N, D) -> (B, N, D).

        `mask` (B, M) bool says which positions may be attended (True) and which are padding; M is N, or with
        a cache the positions seen before plus N. Outputs at padding positions are finite but mean nothing.
        A position that may attend to nothing gets nothing from attention.

        Where padding stands behind the text and the transformer is causal, the outputs that count are the
        same without a mask, and without one the fastest kernels run.

        Raises InputError for a mask of another shape or type and for a cache that is full.
        """
        start = 0 if cache is None else cache.reserve(x.shape[1])
        allowed = self._allowed(x, mask, start)
        # SDPA's own causal flag counts from the first key, so it is right only while nothing is cached
        causal = self.config.causal and allowed is None and start == 0 and x.shape[1] > 1
        for i, block in enumerate(self.resblocks):
            layer = None if cache is None else cache.layers[i]
            x = block(x, allowed, causal=causal, cache=layer, start=start)
        if cache is not None:
            cache.position = start + x.shape[1]
        return x

    def _allowed(self, x: Tensor, mask: Tensor | None, start: int) -> Tensor | None:
        """The mask of queries, (B or 1, 1, N or 1, M) bool, or None where SDPA needs none."""
        queries, keys = x.shape[1], start + x.shape[1]
        allowed: Tensor | None = None
        if self.config.causal and queries > 1 and (mask is not None or start):
            allowed = torch.ones(queries, keys, dtype=torch.bool, device=x.device).tril(start)[None, None]
        if mask is None:
            return allowed
        if mask.shape != (x.shape[0], keys) or mask.dtype != torch.bool:
            raise InputError(
                f"attention mask {tuple(mask.shape)} {mask.dtype}: "
                f"it must be {(x.shape[0], keys)} torch.bool, True = attend"
            )
        padding = mask[:, None, None, :]  # (B, 1, 1, M)
        return padding if allowed is None else allowed & padding
