"""Promises of packed weights: the same products and answers within rounding, and nothing kept twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from support.tiny import fill_
from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.siglip import SiglipTextConfig, SiglipVisionConfig
from unclip.nn import packed
from unclip.nn.packed import (
    PackedKernel,
    PackedMatrix,
    PackedPatches,
    can_pack,
    flop_formulas,
    pack_weights_,
)
from unclip.nn.transformer import Activation
from unclip.nn.unet import UNet, UNetConfig

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not can_pack(CPU, torch.bfloat16), reason="this machine has no bfloat16 kernels"
)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())


def test_only_a_cpu_packs() -> None:
    assert can_pack(CPU, torch.float32)
    assert not can_pack(CPU, torch.float16)
    assert not can_pack(torch.device("meta"), torch.bfloat16)


@pytest.mark.parametrize("fault", [AttributeError("no such operation"), RuntimeError("not on this machine")])
def test_what_pytorch_no_longer_has_is_done_without(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise fault

    packed._tried.cache_clear()
    monkeypatch.setattr(packed.PackedKernel, "compute", fail)
    assert not can_pack(CPU, torch.float32)
    packed._tried.cache_clear()


@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_the_one_of_the_matrix_itself(rows: int, biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, rows, 40, generator=generator).bfloat16()
    matrix = torch.randn(24, 40, generator=generator).bfloat16()
    bias = torch.randn(24, generator=generator).bfloat16() if biased else None
    found = F.linear(x.float(), PackedMatrix(matrix), bias)  # taken in its own type
    assert found.shape == (2, rows, 24)
    assert found.dtype == torch.bfloat16
    assert error(found, F.linear(x.float(), matrix.float(), None if bias is None else bias.float())) < 0.003


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(12, 10), (1, 1), (64, 3)])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"padding": 1, "bias": False}, {"groups": 4, "dilation": 2, "padding": 2}]
)
def test_a_convolution_is_the_same_in_channels_last_memory(
    options: dict[str, Any], size: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "has_tiles", lambda: True)
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 3 if "padding" in options else 1, **options).requires_grad_(False).to(dtype)
    x = torch.randn(2, 16, *size)
    expected = F.conv2d(
        x.to(dtype).float(),
        layer.weight.float(),
        None if layer.bias is None else layer.bias.float(),
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )
    found = pack_weights_(nn.Sequential(layer))(x)  # taken in its own type
    assert isinstance(layer.weight, PackedKernel)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert error(found, expected) < (1e-6 if dtype == torch.float32 else 0.004)


def test_without_amx_bfloat16_convolutions_become_channels_last_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "has_tiles", lambda: False)
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, 3).requires_grad_(False)
    x = torch.randn(2, 16, 12, 10)
    expected = layer(x)
    network = pack_weights_(nn.Sequential(layer.bfloat16()))
    found = network(x.bfloat16())
    assert not isinstance(layer.weight, PackedKernel)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert error(found, expected) < 0.01
    wide = pack_weights_(nn.Conv2d(16, 24, 3).requires_grad_(False))
    assert isinstance(wide.weight, PackedKernel)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("size", [(12, 8), (13, 11)])
def test_without_amx_patches_are_a_matrix_product(
    size: tuple[int, int], biased: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "has_tiles", lambda: False)
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 24, (4, 2), stride=(4, 2), bias=biased).requires_grad_(False)
    x = torch.randn(2, 3, *size)
    expected = layer(x)
    found = pack_weights_(nn.Sequential(layer.bfloat16()))(x)  # taken in its own type
    assert isinstance(layer.weight, PackedPatches)
    assert found.shape == expected.shape == (2, 24, 3, size[1] // 2)
    assert error(found, expected) < 0.01


def test_convolutions_that_are_padded_otherwise_stay() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
    )
    x = torch.randn(1, 4, 6, 6)
    with torch.inference_mode():
        assert torch.equal(layers(x), pack_weights_(layers.requires_grad_(False))(x))


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_unet_draws_the_same_within_rounding(
    dtype: torch.dtype, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "has_tiles", lambda: tiles)
    torch.manual_seed(0)
    config = UNetConfig(
        3, 3, 32, (1, 2), blocks=1, attention=(2,), head_channels=16, embedding=24, context=20
    )
    network = fill_(UNet(config), 0.1).requires_grad_(False).to(dtype)
    exact = UNet(config).eval().requires_grad_(False)
    exact.load_state_dict(network.state_dict())
    x, embedding, context = torch.randn(2, 3, 16, 16), torch.randn(2, 24), torch.randn(2, 5, 20)
    given = [part.to(dtype) for part in (x, embedding, context)]
    with torch.inference_mode():
        expected = exact(x, embedding, context)
        before = network(*given)
        after = pack_weights_(network)(*given)
    assert error(after, expected) < max(1.5 * error(before, expected), 1e-5)


def test_the_cost_of_a_packed_network_is_that_of_the_plain_one() -> None:
    layers = nn.ModuleList([nn.Conv2d(8, 6, 3, padding=1, stride=2), nn.Linear(5, 7)])
    network = nn.Sequential(*layers).requires_grad_(False).bfloat16()
    x = torch.randn(2, 8, 10, 10).bfloat16()
    costs = []
    for _ in range(2):
        with (
            torch.inference_mode(),
            FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter,
        ):
            network(x)
        costs.append(counter.get_total_flops())
        pack_weights_(network)
    assert costs[0] == costs[1] == 2 * (2 * 6 * 25) * (8 * 9) + 2 * (2 * 6 * 5 * 5) * 7


@pytest.mark.parametrize("kind", ["gelu", "quick-gelu", "siglip"])
def test_a_clip_answers_the_same_within_rounding(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "siglip":  # its GELU is by tanh, which stays outside the product
        config = CLIPConfig(
            32,
            SiglipVisionConfig(32, 8, 32, layers=2, heads=2, mlp_width=80),
            SiglipTextConfig(90, 12, 32, layers=2, heads=2, mlp_width=80, pad=0),
            end_token=1,
        )
    else:
        config = CLIPConfig(
            32,
            VisionTransformerConfig(32, 8, 64, layers=3, heads=2),
            TextTransformerConfig(90, 12, 64, layers=3, heads=2),
            end_token=1,
            activation=Activation(kind),
        )
    model = CLIP(config).eval().requires_grad_(False).bfloat16()
    exact = CLIP(config).eval().requires_grad_(False)
    exact.load_state_dict(model.state_dict())
    images, ids = torch.rand(3, 3, 32, 32) * 2 - 1, torch.randint(2, 90, (3, 12))
    ids[:, -1] = 1
    with torch.inference_mode():
        expected = exact.encode_image(images), exact.encode_text(ids)[0]
        before = model.encode_image(images.bfloat16()), model.encode_text(ids)[0]
        assert pack_weights_(model) is model
        after = model.encode_image(images.bfloat16()), model.encode_text(ids)[0]
    for was, now, right in zip(before, after, expected, strict=True):
        assert not torch.equal(was, now)
        assert error(now, right) < 1.5 * error(was, right) < 0.05


def test_every_matrix_of_a_clip_is_packed_and_nothing_is_kept_twice() -> None:
    config = CLIPConfig(
        32,
        VisionTransformerConfig(32, 8, 64, layers=1, heads=2),
        TextTransformerConfig(90, 12, 64, layers=1, heads=2),
        end_token=1,
    )
    model = pack_weights_(CLIP(config).requires_grad_(False).bfloat16())
    matrices = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, PackedMatrix)
    ]
    assert len(matrices) == 8  # two projections and two layers of the MLP in each tower
    assert all(matrix.untyped_storage().nbytes() <= 2 and matrix.isnan().all() for matrix in matrices)
    assert not [
        name
        for name, one in model.named_modules()
        if isinstance(one, nn.Linear) and "weight" in one._parameters
    ]
