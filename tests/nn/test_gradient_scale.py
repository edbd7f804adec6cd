"""Promises of the gradient scales: small gradients survive float16, and what overflows does no harm."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unclip.nn.gradient_scale import (
    BACKOFF,
    FIRST,
    GROWTH,
    LEAST,
    MOST,
    PATIENCE,
    GradientScales,
    ScaledBlock,
)
from unclip.nn.transformer import Block, TransformerConfig

CONFIG = TransformerConfig(width=16, layers=1, heads=2, causal=True)


def blocks() -> tuple[Block, ScaledBlock, GradientScales]:
    """The same block without and with scales."""
    torch.manual_seed(0)
    scales = GradientScales(2)
    scaled = ScaledBlock(CONFIG, scales, 0).train()
    plain = Block(CONFIG).train()
    plain.load_state_dict(scaled.state_dict())
    return plain, scaled, scales


def test_gradients_far_below_float16_are_those_of_float32() -> None:
    """1e-7 is nothing in float16's normal range; with a scale the gradient arrives all the same."""
    plain, scaled, _ = blocks()
    x = torch.randn(2, 5, 16)
    weight = 1e-7 * torch.randn(2, 5, 16)
    for block in (plain, scaled):
        inputs = x.clone().requires_grad_()
        (block(inputs, causal=True) * weight).sum().backward()
        block.read = inputs.grad
    for (name, one), other in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        if name == "attn.in_proj_bias":  # a key's bias has no gradient but rounding
            continue
        error = (one.grad - other.grad).norm() / one.grad.norm()
        assert error < 0.02, name
    torch.testing.assert_close(scaled.read, plain.read, rtol=0.02, atol=1e-9)


def test_a_scale_grows_slowly_and_shrinks_when_something_is_not_finite() -> None:
    scales = GradientScales(3)
    scales.finite(1, torch.tensor([1.0, torch.inf]))
    scales.update_()
    assert scales.scale.tolist() == pytest.approx([FIRST * GROWTH, FIRST * BACKOFF, FIRST * GROWTH])
    scales.finite(1, torch.tensor([torch.nan]))
    scales.update_()  # within the patience a scale is not divided again, and does not grow
    assert scales.scale[1] == pytest.approx(FIRST * BACKOFF)
    for _ in range(PATIENCE):
        scales.update_()
    grown = float(scales.scale[1])
    scales.finite(1, torch.tensor([torch.nan]))
    scales.update_()
    assert scales.scale[1] == pytest.approx(grown * BACKOFF)


def test_a_scale_stays_in_its_bounds() -> None:
    scales = GradientScales(2)
    scales.scale.copy_(torch.tensor([LEAST, MOST]))
    scales.finite(0, torch.tensor(torch.inf))
    scales.update_()
    assert scales.scale.tolist() == [LEAST, MOST]


def test_an_overflow_in_one_branch_leaves_the_others_alone() -> None:
    _, scaled, scales = blocks()
    scales.scale[1] = 2.0**60  # the second branch's gradient cannot be held in float16
    x = torch.randn(2, 5, 16, requires_grad=True)
    scaled(x, causal=True).square().mean().backward()
    assert scales.bad.tolist() == [False, True]
    for parameter in scaled.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert scaled.attn.out_proj.weight.grad is not None
    assert scaled.attn.out_proj.weight.grad.abs().sum() > 0  # past the second branch the gradient arrives
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_copy_has_scales_of_its_own() -> None:
    """A moving average is a copy: it must not share them with the model that is trained."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = GradientScales(2)
            self.block = ScaledBlock(CONFIG, self.scales, 0)

    model = Model()
    other = copy.deepcopy(model)
    assert other.block._scales[0] is other.scales
    assert other.scales is not model.scales
    assert {name for name in model.state_dict() if "scale" in name} == {"scales.scale", "scales.rested"}


def test_without_training_it_is_a_block() -> None:
    plain, scaled, _ = blocks()
    x = torch.randn(2, 5, 16)
    assert torch.equal(plain.eval()(x, causal=True), scaled.eval()(x, causal=True))
