"""Promises of attention: plain products, which train on a CPU, agree with torch's fused kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from unclip.nn import attention as attending
from unclip.nn.attention import attention

QUERIES, KEYS = 5, 7


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)


PADDED = torch.arange(KEYS)[None, None, None] < torch.tensor([7, 4])[:, None, None, None]  # (2, 1, 1, M)


@pytest.mark.parametrize(
    "masked", [{}, {"allowed": PADDED}, {"causal": True}], ids=["all", "padding", "causal"]
)
def test_training_and_drawing_see_the_same(masked: dict[str, Any]) -> None:
    torch.manual_seed(0)
    parts = [rows(QUERIES, 8), rows(KEYS, 8), rows(KEYS, 8)]
    found = attention(*parts, **masked)
    expected = F.scaled_dot_product_attention(
        *parts, masked.get("allowed"), is_causal=masked.get("causal", False)
    )
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(attention(*parts, **masked), expected)
    weights = torch.randn_like(found)
    ours = torch.autograd.grad((found * weights).sum(), parts)
    theirs = torch.autograd.grad((expected * weights).sum(), parts)
    torch.testing.assert_close(ours, theirs)


def test_who_may_see_nothing_gets_nothing() -> None:
    torch.manual_seed(0)
    allowed = torch.ones(2, 1, QUERIES, KEYS, dtype=torch.bool)
    allowed[1, :, 2] = False
    parts = [rows(QUERIES, 8), rows(KEYS, 8), rows(KEYS, 8)]
    out = attention(*parts, allowed)
    assert not out[1, :, 2].any()
    assert all(torch.isfinite(part).all() for part in torch.autograd.grad(out.sum(), parts))


@pytest.mark.parametrize(
    "masked", [{}, {"allowed": PADDED}, {"causal": True}], ids=["all", "padding", "causal"]
)
def test_bfloat16_is_computed_by_what_is_faster_on_the_processor(
    masked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    exact = [rows(QUERIES, 8), rows(KEYS, 8), rows(KEYS, 8)]
    parts = [part.detach().bfloat16() for part in exact]
    expected = attention(*exact, **masked)
    fused = F.scaled_dot_product_attention
    calls: list[int] = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k))
    for tiles in (True, False):
        monkeypatch.setattr(attending, "has_tiles", lambda tiles=tiles: tiles)
        found = attention(*parts, **masked)
        torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)
        assert len(calls) == 1  # the fused kernel is for AMX
    attention(*(part.float() for part in parts), **masked)
    assert len(calls) == 2
