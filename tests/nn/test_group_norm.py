"""Promises of group normalisation: channels-last it is torch's own, gradients and modulation too."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.nn.group_norm import GroupNorm, group_norm


def by_torch(norm: GroupNorm, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    normalised = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return normalised * gain[:, :, None, None] + bias[:, :, None, None]


def inputs(dtype: torch.dtype = torch.float64) -> tuple[GroupNorm, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    norm = GroupNorm(4, 16).to(dtype)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3 * torch.randn(3, 16, 6, 5, dtype=dtype) + 2
    return norm, x, torch.randn(3, 16, dtype=dtype), torch.randn(3, 16, dtype=dtype)


def gradients(out: Tensor, *wanted: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    return list(torch.autograd.grad((out * weights).sum(), wanted))


def test_channels_last_it_gives_torchs_numbers_and_gradients() -> None:
    norm, x, gain, bias = inputs(torch.float32)
    leaves = [part.requires_grad_() for part in (x, gain, bias)]
    expected = by_torch(norm, *leaves)
    last = x.detach().to(memory_format=torch.channels_last).requires_grad_()
    found = norm(last, gain, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        gradients(found, last, gain, bias, norm.weight, norm.bias),
        gradients(expected, *leaves, norm.weight, norm.bias),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.fixture
def whatever_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small grids are normalised as large ones are."""
    monkeypatch.setattr("unclip.nn.group_norm.SMALL", 0)


def test_without_gradients_a_small_grid_leaves_channels_last_memory() -> None:
    norm, x, gain, bias = inputs(torch.float32)
    with torch.inference_mode():
        found = norm(x.to(memory_format=torch.channels_last), gain, bias)
        assert torch.equal(found, norm(x, gain, bias))
    assert found.is_contiguous()


@pytest.mark.usefixtures("whatever_the_size")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_gradients_it_gives_the_same_numbers_another_way(dtype: torch.dtype) -> None:
    norm, x, gain, bias = inputs(dtype)
    last = x.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = norm(last, gain, bias)
        plain = norm(last)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, by_torch(norm, x, gain, bias), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain, norm(x), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("whatever_the_size")
def test_without_gradients_values_far_from_zero_keep_their_differences() -> None:
    torch.manual_seed(0)
    norm = GroupNorm(4, 16).bfloat16()
    x = (torch.randn(2, 16, 8, 8) + 100).bfloat16().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = norm(x).float()
    torch.testing.assert_close(found, F.group_norm(x.float(), 4), rtol=0.01, atol=0.01)


@pytest.mark.usefixtures("whatever_the_size")
def test_one_picture_that_overflowed_spoils_no_other() -> None:
    norm, x, gain, bias = inputs(torch.float32)
    x[0] = torch.inf
    with torch.inference_mode():
        found = norm(x.to(memory_format=torch.channels_last), gain, bias)
    torch.testing.assert_close(found[1:], by_torch(norm, x, gain, bias)[1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize("taught", [False, True], ids=["drawn", "taught"])
def test_a_large_picture_is_normalised_as_exactly_as_torch_does_plain(side: int, taught: bool) -> None:
    """Against float64: a million cells that are added up one by one in float32 lose digits."""
    torch.manual_seed(0)
    channels = 32
    x = torch.randn(1, channels, side, side) + 2 * torch.randn(1, channels, 1, 1)
    expected = F.group_norm(x.double(), channels // 2)
    with torch.set_grad_enabled(taught):
        found = GroupNorm(channels // 2, channels)(x.to(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found.detach().double() - expected).square().mean().sqrt()) < 3e-7


@pytest.mark.parametrize("size", [(97, 89), (1, 8191)])
def test_blocks_of_unlike_sizes_count_by_their_cells(size: tuple[int, int]) -> None:
    """Neither has a whole number of `BLOCK` cells."""
    norm, _, gain, bias = inputs(torch.float32)
    x = 3 * torch.randn(3, 16, *size) + torch.linspace(-4, 4, size[0] * size[1]).view(size)
    with torch.inference_mode():
        found = norm(x.to(memory_format=torch.channels_last), gain, bias)
    torch.testing.assert_close(found, by_torch(norm, x, gain, bias), rtol=1e-5, atol=1e-5)


def test_without_modulation_it_is_the_plain_norm() -> None:
    norm, x, _, _ = inputs(torch.float32)
    last = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(norm(last), F.group_norm(x, 4, norm.weight, norm.bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_stays_within_its_rounding(memory_format: torch.memory_format) -> None:
    norm, x, gain, bias = inputs(torch.float32)
    expected = by_torch(norm, x, gain, bias)
    rounded = x.bfloat16().to(memory_format=memory_format)
    found = norm.bfloat16()(rounded, gain.bfloat16(), bias.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=2**-5, atol=2**-5)  # a few roundings of 2^-8


def test_gradients_channels_last_are_those_of_differences() -> None:
    norm, x, gain, bias = inputs()
    last = x[:2].to(memory_format=torch.channels_last).requires_grad_()
    leaves = (last, gain[:2].requires_grad_(), bias[:2].requires_grad_())
    assert norm(*leaves).dtype == torch.float64
    assert torch.autograd.gradcheck(norm, leaves)


def test_far_from_zero_the_variance_does_not_drown() -> None:
    torch.manual_seed(0)
    norm = group_norm(64)
    x = (50 + torch.randn(2, 64, 16, 16)).bfloat16()
    expected = F.group_norm(x.float(), norm.num_groups)
    found = norm(x.to(memory_format=torch.channels_last)).float()
    torch.testing.assert_close(found, expected, rtol=2**-5, atol=2**-5)


def test_a_picture_of_one_colour_is_finite() -> None:
    x = torch.full((1, 32, 8, 8), 7.0).to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(group_norm(32)(x).sum(), x)
    assert torch.isfinite(gradient).all()
