"""Promises of steps: position by position the blocks' own answers, whatever the weights are stored in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from support.tiny import nudge_
from unclip.errors import InputError
from unclip.nn.attention import kept_dtype
from unclip.nn.gradient_scale import GradientScales, ScaledBlock
from unclip.nn.int8 import quantise_weights_
from unclip.nn.packed import can_pack, pack_weights_
from unclip.nn.steps import Steps
from unclip.nn.transformer import Activation, KVCache, Transformer, TransformerConfig

CPU = torch.device("cpu")
LENGTH = 7


def make(activation: Activation = Activation.GELU, *, bias: bool = True) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(32, 3, 4, activation=activation, causal=True, bias=bias)
    return nudge_(Transformer(config).eval().requires_grad_(False), 0.1, ("bias", "ln_"))


def stepped(model: Transformer, x: Tensor, given: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The outputs behind `given` positions, one after the other."""
    cache = KVCache(model.config, len(x), LENGTH, dtype=dtype)
    with torch.inference_mode():
        model(x[:, :given], cache=cache)
        steps = Steps(model.resblocks)
        return torch.stack([steps(x[:, i], cache) for i in range(given, LENGTH)], dim=1)


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("bias", [True, False])
def test_they_are_the_blocks(activation: Activation, bias: bool) -> None:
    model = make(activation, bias=bias)
    x = torch.randn(2, LENGTH, 32)
    torch.testing.assert_close(stepped(model, x, 3), model(x)[:, 3:])


@pytest.mark.parametrize("weights", ["bfloat16", "packed", "int8"])
def test_weights_of_other_kinds_give_the_same_within_rounding(weights: str) -> None:
    if weights == "packed" and not can_pack(CPU, torch.bfloat16):
        pytest.skip("this machine packs no weights")
    exact, model = make(), make()
    for parameter in model.parameters():
        if parameter.ndim >= 2:  # as a bundle's are read
            parameter.data = parameter.data.bfloat16()
    if weights != "bfloat16":
        model = {"packed": pack_weights_, "int8": quantise_weights_}[weights](model)
    x = torch.randn(2, LENGTH, 32)
    kept = kept_dtype(CPU, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = stepped(model, x.bfloat16(), 3, kept).float()
    expected = exact(x)[:, 3:]
    assert (found - expected).norm() / expected.norm() < 0.02


def test_the_cache_ends_where_it_ends() -> None:
    model = make()
    cache = KVCache(model.config, 1, 2)
    steps = Steps(model.resblocks)
    with torch.inference_mode():
        for _ in range(2):
            steps(torch.zeros(1, 32), cache)
        with pytest.raises(InputError, match="room for 2 positions"):
            steps(torch.zeros(1, 32), cache)


def test_other_blocks_are_refused() -> None:
    config = TransformerConfig(32, 1, 4, causal=True)
    with pytest.raises(TypeError, match="ScaledBlock"):
        Steps([ScaledBlock(config, GradientScales(2), 0)])
