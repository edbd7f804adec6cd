"""Promises of the codec's losses and figures."""

from __future__ import annotations

import math

import pytest
import torch

from unclip.errors import InputError
from unclip.models.clip import (
    CLIP,
    CLIPConfig,
    ModifiedResNetConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from unclip.models.vqvae_loss import (
    Critic,
    CriticConfig,
    Reconstruction,
    clip_distance,
    code_figures,
    judge,
    logit_laplace,
    pixel_loss,
    psnr,
)

TEXT = TextTransformerConfig(20, context=8, width=16, layers=1, heads=2)


def test_the_logit_laplace_density_is_one() -> None:
    """Eq. 2 of 2102.12092 is a density over (0, 1)."""
    x = torch.linspace(0.5e-4, 1 - 0.5e-4, 10_000, dtype=torch.float64)
    for mean, log_scale in ((0.0, 0.0), (1.5, -1.0), (-2.0, 0.3)):
        losses = logit_laplace(torch.tensor(mean).expand(10_000), torch.tensor(log_scale).expand(10_000), x)
        assert float((-losses).exp().double().mean()) == pytest.approx(1.0, abs=5e-3)


def test_the_logit_laplace_loss_is_least_at_the_truth() -> None:
    target = torch.tensor([0.3])
    at = logit_laplace(torch.logit(target), torch.zeros(1), target)
    torch.testing.assert_close(at, torch.tensor([math.log(2 * 0.3 * 0.7)]))
    torch.testing.assert_close(logit_laplace(torch.logit(target) + 0.5, torch.zeros(1), target), at + 0.5)


def test_pixel_losses() -> None:
    drawn, truth = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    assert pixel_loss(Reconstruction.MSE, drawn, truth) == 0.25
    assert pixel_loss(Reconstruction.L1, drawn, truth) == 0.5
    with pytest.raises(InputError, match="needs a decoder that says how sure it is"):
        pixel_loss(Reconstruction.LOGIT_LAPLACE, drawn, truth)


def test_psnr_is_of_a_range_of_two() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    drawn = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 2.0)])
    torch.testing.assert_close(psnr(drawn, truth), torch.tensor([20.0, 0.0]))


def test_figures_of_codes() -> None:
    even = code_figures(torch.arange(8).repeat(5), 16)
    assert even.usage == 0.5
    assert even.perplexity == pytest.approx(8)
    assert code_figures(torch.zeros(9, dtype=torch.int64), 16).perplexity == pytest.approx(1)


def test_both_players_learn_in_one_backward_pass() -> None:
    torch.manual_seed(0)
    critic = Critic(CriticConfig(channels=8, layers=2))
    drawn = torch.randn(2, 3, 16, 16, requires_grad=True)
    real = torch.randn(2, 3, 16, 16)
    judged = judge(critic, drawn, real)
    judged.drawing.backward(retain_graph=True)
    assert drawn.grad is not None
    assert drawn.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())
    drawn.grad = None
    judged.learning.backward()
    assert drawn.grad is None
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_a_critic_learns_to_tell_pictures_apart() -> None:
    torch.manual_seed(0)
    critic = Critic(CriticConfig(channels=8, layers=2))
    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-2)
    for _ in range(30):
        loss = judge(critic, torch.randn(4, 3, 16, 16), torch.ones(4, 3, 16, 16)).learning
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.3


def test_the_perceptual_distance_is_in_clips_eyes() -> None:
    torch.manual_seed(0)
    image = VisionTransformerConfig(image_size=16, patch=8, width=16, layers=2, heads=2)
    clip = CLIP(CLIPConfig(embedding=8, image=image, text=TEXT, end_token=2)).eval().requires_grad_(False)
    truth = torch.rand(2, 3, 16, 16)
    drawn = (truth + 0.3 * torch.randn_like(truth)).requires_grad_()
    assert clip_distance(clip, truth, truth) < 1e-9
    near = clip_distance(clip, truth + 0.01 * torch.randn_like(truth), truth)
    far = clip_distance(clip, drawn, truth)
    assert 0 < near < far
    far.backward()
    assert drawn.grad is not None
    assert drawn.grad.abs().sum() > 0
    assert not clip.visual.transformer.resblocks[0]._forward_hooks  # nothing is left behind


def test_a_clip_without_patches_cannot_judge() -> None:
    image = ModifiedResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, heads=4)
    clip = CLIP(CLIPConfig(embedding=8, image=image, text=TEXT, end_token=2))
    with pytest.raises(InputError, match="vision transformer"):
        clip_distance(clip, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
