"""Scaled dot-product attention, by torch's fused kernels or by plain products, whichever is faster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.runtime import has_tiles

# Up to so many pairs of query and key. Above, the weights of all heads take more memory than they are worth.
MOST_PAIRS = 512 * 512


_as_on_gpu = False  # no ContextVar: torch's compiler knows none


@contextmanager
def fused() -> Iterator[None]:
    """While it lasts attention takes torch's fused kernel on a CPU too, as it does on a GPU."""
    global _as_on_gpu
    before, _as_on_gpu = _as_on_gpu, True
    try:
        yield
    finally:
        _as_on_gpu = before


def kept_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """The type in which keys and values are best kept where one query comes at a time, to weights of a type.

    Without AMX a CPU's kernels for one query are slower in bfloat16 than in float32, though they read half: 8
    heads of 64, 81 keys, 1 and 32 rows, two cores of an AMD EPYC: 87 against 28 and 1,150 against 880
    microseconds, 320 keys 257 against 62 and 4,150 against 2,280.
    """
    wide = device.type == "cpu" and dtype == torch.bfloat16 and not has_tiles()
    return torch.float32 if wide else dtype


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor | None = None,
    dropout: float = 0.0,
    *,
    causal: bool = False,
) -> Tensor:
    """softmax(query key^T / sqrt(D)) value; a query that may attend to nothing gets zeros.

    A CPU's fused kernel is slow where gradients are taken: backward through 64 queries, 100 keys took 12
    times the forward pass, and two plain products with a softmax between them a third of that
    (docs/training-log.md). So training on a CPU takes those, and so does bfloat16 without AMX, where the
    fused kernel mostly took 1.2 to 2 times as long (docs/training-log.md).

    Args:
        query: (B, H, N, D).
        key, value: (B, H, M, D).
        allowed: bool, broadcastable to (B, H, N, M), True = attend; None for all.
        dropout: of the weights.
        causal: query i sees the keys up to i; with it `allowed` must be None.

    Returns:
        (B, H, N, D).
    """
    queries, keys = query.shape[-2], key.shape[-2]
    wanted = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    plain = wanted or (query.dtype == torch.bfloat16 and not has_tiles())
    plain = plain and not _as_on_gpu and query.device.type == "cpu"
    if not plain or dropout or queries * keys > MOST_PAIRS:
        return F.scaled_dot_product_attention(query, key, value, allowed, dropout, is_causal=causal)
    if causal:
        allowed = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (B, H, N, M)
    if allowed is None:
        return scores.softmax(-1).to(value.dtype) @ value
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)
    return (weights.to(value.dtype) @ value) * allowed.any(-1, keepdim=True)  # nothing from nothing
