"""Promises of the UNet: it starts as nothing, skips fit, context is read where it may be and nowhere else."""

from __future__ import annotations

import pytest
import torch

from support.tiny import wake_
from unclip.nn.group_norm import group_norm
from unclip.nn.layers import Whitening, add_, depth_to_space, space_to_depth, timestep_embedding
from unclip.nn.unet import Modulation, ResidualBlock, UNet, UNetConfig

SMALL = UNetConfig(
    in_channels=6,
    out_channels=3,
    channels=8,
    multipliers=(1, 2, 3),
    blocks=2,
    attention=(2,),
    head_channels=8,
    embedding=16,
    context=12,
)


def test_a_new_network_predicts_zero() -> None:
    out = UNet(SMALL)(torch.randn(2, 6, 16, 16), torch.randn(2, 16), torch.randn(2, 5, 12))
    assert out.shape == (2, 3, 16, 16)
    assert not out.any()


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_any_size_that_halves_fits(size: tuple[int, int]) -> None:
    model = wake_(UNet(SMALL)).eval()
    assert model(torch.randn(1, 6, *size), torch.randn(1, 16), torch.randn(1, 5, 12)).shape == (1, 3, *size)


def test_masked_context_changes_nothing() -> None:
    model = wake_(UNet(SMALL)).eval().double()
    x, embedding, context = (
        torch.randn(2, 6, 8, 8).double(),
        torch.randn(2, 16).double(),
        torch.randn(2, 5, 12).double(),
    )
    mask = torch.tensor([[True, True, False, False, False]]).expand(2, 5)
    with torch.no_grad():
        masked = model(x, embedding, context, mask)
        short = model(x, embedding, context[:, :2])
        whole = model(x, embedding, context)
    torch.testing.assert_close(masked, short)
    assert (masked - whole).abs().max() > 1e-6


def test_the_embedding_modulates() -> None:
    model = wake_(UNet(SMALL)).eval()
    x, context = torch.randn(1, 6, 8, 8), torch.randn(1, 5, 12)
    with torch.no_grad():
        assert not torch.equal(model(x, torch.zeros(1, 16), context), model(x, torch.ones(1, 16), context))


def test_every_parameter_learns() -> None:
    model = wake_(UNet(SMALL)).train()
    model(torch.randn(2, 6, 8, 8), torch.randn(2, 16), torch.randn(2, 5, 12)).square().sum().backward()
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    # a key's bias moves all logits of a query alike, and softmax does not see it
    assert [name for name in idle if not name.endswith("qkv.bias")] == []


def test_a_network_without_attention_takes_no_context() -> None:
    config = UNetConfig(3, 3, 8, (1, 2), 1, (), 8, 16)
    assert not any("attention" in name for name, _ in UNet(config).named_parameters())


def test_space_to_depth_is_lossless() -> None:
    x = torch.randn(2, 3, 16, 16)
    grid = space_to_depth(x, 4)
    assert grid.shape == (2, 48, 4, 4)
    assert torch.equal(depth_to_space(grid, 4), x)


def test_timestep_embedding_has_cosines_first() -> None:
    embedding = timestep_embedding(torch.tensor([0.0, 10.0]), 8)
    assert embedding[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    torch.testing.assert_close(embedding[1, 0], torch.tensor(10.0).cos())
    torch.testing.assert_close(embedding[1, 5], torch.tensor(10.0 / 10_000 ** (1 / 4)).sin())
    with pytest.raises(ValueError, match="even width"):
        timestep_embedding(torch.zeros(1), 7)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (144, 16), (48, 16), (8, 8)])
def test_norm_groups_divide_the_channels(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_whitening_is_undone() -> None:
    embeddings = torch.randn(500, 6) * 3 + 2
    whitening = Whitening(6)
    whitening.fit_(embeddings)
    white = whitening.whiten(embeddings)
    torch.testing.assert_close(white.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(white.std(0), torch.ones(6))
    torch.testing.assert_close(whitening.unwhiten(white), embeddings)


def test_context_that_was_read_before_is_the_same_context() -> None:
    model = wake_(UNet(SMALL)).eval().double()
    x, embedding, context = torch.randn(2, 6, 8, 8), torch.randn(2, 16), torch.randn(2, 5, 12)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    with torch.no_grad():
        at_once = model(x.double(), embedding.double(), context.double(), mask)
        read = model.read(context.double(), mask)
        for _ in range(2):
            torch.testing.assert_close(model(x.double(), embedding.double(), read), at_once)


def test_a_shift_is_added_before_the_second_norm() -> None:
    """As DDPM and Karlo's upsamplers have it: half the features of a gain and a bias."""
    block = ResidualBlock(8, 16, 12, 0.0, modulation=Modulation.SHIFT).double()
    torch.nn.init.normal_(block.conv_out.weight, std=0.3)
    x, embedding = torch.randn(2, 8, 4, 4).double(), torch.randn(2, 12).double()
    assert block.modulation.weight.shape == (16, 12)
    inside = block.conv_in(torch.nn.functional.silu(block.norm_in(x)))
    inside = block.norm_out(inside + block.modulation(embedding)[:, :, None, None])
    expected = block.skip(x) + block.conv_out(torch.nn.functional.silu(inside))
    torch.testing.assert_close(block(x, embedding), expected)


@pytest.mark.parametrize("modulation", list(Modulation))
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_without_gradients_memory_is_used_again_and_nothing_else_changes(
    modulation: Modulation, scale: float
) -> None:
    block = wake_(ResidualBlock(8, 12 if scale == 1 else 8, 16, 0.0, scale, modulation))
    x, embedding = torch.randn(2, 8, 8, 8), torch.randn(2, 16)
    given = x.clone(), embedding.clone()
    with_gradients = block(x, embedding)
    with torch.no_grad():
        assert torch.equal(block(x, embedding), with_gradients)
    assert torch.equal(x, given[0])
    assert torch.equal(embedding, given[1])


def test_a_sum_takes_the_memory_of_the_first_only_if_it_fits() -> None:
    one, other = torch.ones(3, dtype=torch.bfloat16), torch.full((3,), 1e-3)
    assert add_(one, one.clone()).data_ptr() != one.data_ptr()
    with torch.no_grad():
        assert torch.equal(add_(one, other), torch.full((3,), 1 + 1e-3))
        assert add_(one, one.clone()).data_ptr() == one.data_ptr()
    assert torch.equal(one, torch.full((3,), 2.0, dtype=torch.bfloat16))
