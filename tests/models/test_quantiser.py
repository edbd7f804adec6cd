"""Promises of the quantisers: nearest codes, gradients that pass, dead codes that come back, the anneals."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from support.tiny import CODEC
from unclip.errors import InputError
from unclip.models.quantiser import (
    Codebook,
    CodeUse,
    Gradient,
    GumbelConfig,
    NearestConfig,
    Relaxed,
    follow_,
    quantise,
    relax,
    rotated,
)
from unclip.models.vqgan import VQGAN, VQGANConfig

UNIT = replace(CODEC, unit=True)


def build(config: VQGANConfig = CODEC) -> VQGAN:
    torch.manual_seed(0)
    model = VQGAN(config)
    torch.nn.init.normal_(model.codebook.weight)
    return model


def chance() -> torch.Tensor:
    """(V,) in [0, 1)."""
    return torch.rand(CODEC.vocabulary, generator=torch.Generator().manual_seed(0))


def relaxed(logits: torch.Tensor, temperature: float) -> Relaxed:
    waits = torch.empty(logits.shape).exponential_(generator=torch.Generator().manual_seed(0))
    return relax(logits, temperature, waits)


@pytest.mark.parametrize("config", [CODEC, UNIT], ids=["plain", "unit"])
def test_the_nearest_code_is_taken(config: VQGANConfig) -> None:
    model, latents = build(config), torch.randn(2, 4, 3, 3)
    rows, book = latents.movedim(1, -1), model.codebook.weight
    if config.unit:  # the smallest angle
        expected = torch.einsum("bhwe,ve->bhwv", F.normalize(rows, dim=-1), F.normalize(book, dim=-1)).argmax(
            -1
        )
    else:
        expected = torch.cdist(rows.reshape(-1, 4), book).argmin(-1).view(2, 3, 3)
    quantised = quantise(model, latents, NearestConfig())
    assert torch.equal(quantised.codes, expected)
    chosen = F.normalize(book, dim=-1) if config.unit else book
    torch.testing.assert_close(quantised.vectors.movedim(1, -1), chosen[expected])


def test_what_is_quantised_is_what_is_decoded() -> None:
    model = build(UNIT).eval()
    images = torch.randn(1, 3, 8, 8).clamp(-1, 1)
    quantised = quantise(model, model.latents(images), NearestConfig())
    torch.testing.assert_close(model.from_vectors(quantised.vectors), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", Gradient)
def test_a_gradient_passes_the_quantiser(gradient: Gradient) -> None:
    model, latents = build(), torch.randn(2, 4, 3, 3, requires_grad=True)
    quantised = quantise(model, latents, NearestConfig(gradient=gradient, commitment=0.0))
    quantised.vectors.square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert model.codebook.weight.grad is None  # the codes learn by their own loss alone


def test_a_rotation_keeps_the_angle_of_the_gradient() -> None:
    """2410.06424: the gradient at the code, turned back as far as the latent was turned, and stretched."""
    torch.manual_seed(1)
    latent = torch.randn(5, 4, requires_grad=True)
    code, gradient = torch.randn(5, 4), torch.randn(5, 4)
    out = rotated(latent, code)
    torch.testing.assert_close(out, code)
    (read,) = torch.autograd.grad(out, latent, gradient)
    before = F.cosine_similarity(gradient, code)
    after = F.cosine_similarity(read, latent)
    torch.testing.assert_close(before, after)
    stretch = code.norm(dim=-1) / latent.norm(dim=-1)
    torch.testing.assert_close(read.norm(dim=-1), gradient.norm(dim=-1) * stretch)


def test_the_losses_pull_codes_and_latents_together() -> None:
    """Eq. 3 of 1711.00937, with commitment beta."""
    model, latents = build(), torch.randn(1, 4, 3, 3)
    quantised = quantise(model, latents, NearestConfig(commitment=0.25))
    distance = F.mse_loss(latents.movedim(1, -1), model.codebook(quantised.codes))
    torch.testing.assert_close(quantised.loss, 1.25 * distance)
    averaged = quantise(model, latents, NearestConfig(codebook=Codebook.AVERAGE, commitment=0.25))
    torch.testing.assert_close(averaged.loss, 0.25 * distance)


def test_an_average_follows_the_latents_that_chose_a_code() -> None:
    model = build()
    use = CodeUse(12, 4)
    config = NearestConfig(codebook=Codebook.AVERAGE, decay=0.9, dead=0.0)
    latents = 3 * torch.ones(1, 4, 4, 4)
    code = int(model.quantise(latents)[0, 0, 0])
    others = torch.arange(12) != code
    before = model.codebook.weight[others].clone()
    for _ in range(80):
        follow_(model, use, latents, torch.full((1, 4, 4), code), config, chance())
    torch.testing.assert_close(model.codebook.weight[code], torch.full((4,), 3.0), rtol=0.01, atol=0.0)
    assert torch.equal(model.codebook.weight[others], before)


@pytest.mark.parametrize("codebook", Codebook)
def test_dead_codes_take_the_place_of_latents(codebook: Codebook) -> None:
    model, use = build(), CodeUse(12, 4)
    config = NearestConfig(codebook=codebook, decay=0.5, dead=0.1)
    latents = torch.randn(2, 4, 4, 4)
    codes = torch.zeros(2, 4, 4, dtype=torch.int64)
    dead = [follow_(model, use, latents, codes, config, chance()) for _ in range(4)]
    assert dead == [0, 0, 0, 11]  # 0.5^4 is below 0.1; code 0 alone is used
    rows = latents.movedim(1, -1).reshape(-1, 4)
    assert (model.codebook.weight[1:, None] == rows).all(-1).any(1).all()
    assert use.rate[1:].eq(1).all()


def test_codes_that_rest_are_left_alone_without_revival() -> None:
    model, use = build(), CodeUse(12, 4)
    before = model.codebook.weight.clone()
    codes = torch.zeros(1, 2, 2, dtype=torch.int64)
    for _ in range(20):
        assert (
            follow_(model, use, torch.randn(1, 4, 2, 2), codes, NearestConfig(decay=0.1, dead=0.0), chance())
            == 0
        )
    assert torch.equal(model.codebook.weight, before)


def test_the_anneals_are_the_papers() -> None:
    """Appendix A.2 of 2102.12092: 150,000 updates of 512 for the temperature, 5,000 for the divergence."""
    gumbel = GumbelConfig()
    assert gumbel.temperature_at(0) == 1
    assert gumbel.temperature_at(75_000 * 512) == pytest.approx((1 + 1 / 16) / 2)
    assert gumbel.temperature_at(150_000 * 512) == gumbel.temperature_at(10**9) == pytest.approx(1 / 16)
    assert gumbel.divergence_at(0) == 0
    assert gumbel.divergence_at(2_500 * 512) == pytest.approx(3.3)
    assert gumbel.divergence_at(5_000 * 512) == pytest.approx(6.6)


def test_the_relaxation_grows_hard_and_draws_from_the_logits() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])[None, :, None, None].expand(1, 3, 60, 60)
    weights = relaxed(logits, 1 / 16).weights
    torch.testing.assert_close(weights.sum(1), torch.ones(1, 60, 60))
    hard = F.one_hot(weights.argmax(1), 3).float().mean((0, 1, 2))
    torch.testing.assert_close(hard, torch.softmax(torch.tensor([0.0, 1.0, 2.0]), 0), rtol=0.0, atol=0.03)
    assert weights.amax(1).mean() > 0.9
    assert relaxed(logits, 5.0).weights.amax(1).mean() < 0.6


def test_the_divergence_is_from_uniform_codes() -> None:
    even = relaxed(torch.zeros(2, 8, 3, 3), 1.0).divergence
    sure = relaxed(50 * F.one_hot(torch.zeros(2, 3, 3, dtype=torch.int64), 8).movedim(-1, 1), 1.0)
    torch.testing.assert_close(even, torch.tensor(0.0), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(sure.divergence, torch.tensor(9 * math.log(8)))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="decay 1"):
        NearestConfig(decay=1.0)
    with pytest.raises(InputError, match="dead 2"):
        NearestConfig(dead=2.0)
    with pytest.raises(InputError, match="temperatures must be above 0"):
        GumbelConfig(temperature=(1.0, 0.0))
