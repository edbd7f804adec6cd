"""Promises of weights in eight bits: nearly the same products, by either way, in half the bytes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unclip.nn.int8 import FEW, Int8Matrix, quantise_weights_
from unclip.nn.transformer import Block, TransformerConfig


def test_a_row_is_rounded_to_a_127th_of_its_largest_value() -> None:
    matrix = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    error = (Int8Matrix(matrix).wide() - matrix).abs()
    assert (error <= matrix.abs().amax(1, keepdim=True) / 127 / 2 + 1e-6).all()
    assert Int8Matrix(torch.zeros(2, 4)).wide().eq(0).all()


@pytest.mark.parametrize("rows", [1, FEW, FEW + 1, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_are_the_product_with_the_rounded_matrix(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 64, generator=generator).to(dtype)
    matrix = Int8Matrix(torch.randn(48, 64, generator=generator).to(dtype))
    bias = torch.randn(48, generator=generator).to(dtype)
    expected = x.float() @ (matrix.eight.float() * matrix.scale.float()[:, None]).T + bias.float()
    found = F.linear(x, matrix, bias)
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype is torch.float32 else 0.03
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance * 8)


def test_a_model_keeps_its_answers_nearly() -> None:
    torch.manual_seed(0)
    block = Block(TransformerConfig(32, layers=1, heads=2, causal=True)).eval().requires_grad_(False)
    head = nn.Linear(32, 8).requires_grad_(False)
    model = nn.ModuleList([block, head])
    x = torch.randn(2, 7, 32)
    before = head(block(x, causal=True))
    assert quantise_weights_(model) is model
    after = head(block(x, causal=True))
    assert 0 < (after - before).norm() / before.norm() < 0.03
    left = {name.rpartition(".")[2] for name, parameter in model.named_parameters() if parameter.ndim == 2}
    assert not left  # every matrix is one of eight bits now
