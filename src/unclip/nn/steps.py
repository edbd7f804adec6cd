"""A causal transformer that goes on by one position at a time, with fewer calls than its blocks make.

A position of one picture is little work: some tens of microseconds a layer, while modules, autocast and
weights of their own product cost as much again. The same products in the same order, gathered once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.nn.attention import attention
from unclip.nn.transformer import Block, KVCache, LayerCache
from unclip.nn.weight_subclass import OwnProduct

Function = Callable[[Tensor], Tensor]


class Steps:
    """Blocks as they are now, for inference: weights that are replaced later are not seen.

    Raises:
        TypeError: a block is not a plain `Block`.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        self._layers = [_Layer(block) for block in blocks]

    def __call__(self, x: Tensor, cache: KVCache) -> Tensor:
        """(B, D) -> (B, D) at the position behind those that the cache has seen, which it then has seen too.

        Raises:
            InputError: the cache is full.
        """
        start = cache.reserve(1)
        # all weights have the type that they are multiplied in; on a CPU asking for it again costs time
        on_cpu = x.device.type == "cpu"
        with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
            for layer, kept in zip(self._layers, cache.layers, strict=True):
                x = layer(x, kept, start)
        cache.position = start + 1
        return x


class _Layer:
    """One block, (B, D) -> (B, D)."""

    def __init__(self, block: nn.Module) -> None:
        if type(block) is not Block:
            raise TypeError(f"a {type(block).__name__} is no plain block")
        self.heads = block.attn.heads
        self.norm_1, self.norm_2 = _norm(block.ln_1), _norm(block.ln_2)
        self.qkv = _product(block.attn.in_proj_weight, block.attn.in_proj_bias)
        self.out = _linear(block.attn.out_proj)
        self.widen = _linear(block.mlp.c_fc)
        self.activation = None if isinstance(block.mlp.activation, nn.Identity) else block.mlp.activation
        self.narrow = _linear(block.mlp.c_proj)

    def __call__(self, x: Tensor, kept: LayerCache, start: int) -> Tensor:
        batch = x.shape[0]
        qkv = self.qkv(self.norm_1(x)).view(batch, 3, self.heads, 1, -1)
        query, key, value = qkv.unbind(1)  # (B, H, 1, D/H)
        keys, values = kept.extend(key, value, start)  # (B, H, M, D/H)
        seen = attention(query.to(keys.dtype), keys, values)  # (B, H, 1, D/H)
        x = x + self.out(seen.reshape(batch, -1).to(qkv.dtype))
        wide = self.widen(self.norm_2(x))
        if self.activation is not None:
            wide = self.activation(wide)
        return x + self.narrow(wide)


def _norm(norm: nn.LayerNorm) -> Function:
    shape: Sequence[int] = norm.normalized_shape
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


def _linear(layer: nn.Linear) -> Function:
    return _product(layer.weight, layer.bias)


def _product(weight: Tensor, bias: Tensor | None) -> Function:
    """x -> x weight^T + bias."""
    if isinstance(weight, OwnProduct):
        return weight.product(bias)
    bias = None if bias is None else bias.to(weight.dtype)
    return lambda x: F.linear(x, weight, bias)
