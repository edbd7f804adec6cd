"""Promises of the discrete VAE: the published sizes, and codes that stand for their one-hot weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from unclip.config import from_dict, to_dict
from unclip.errors import InputError
from unclip.models.vqvae import VQVAE, VQVAEConfig

SMALL = VQVAEConfig(vocabulary=20, channels=8, multipliers=(1, 2), blocks=1, decoder_channels=6)


def test_it_has_the_published_size() -> None:
    """openai/DALL-E's `encoder.pkl` and `decoder.pkl`: tensors, and parameters in millions."""
    with torch.device("meta"):
        model = VQVAE(VQVAEConfig())
    sizes = [
        (len(half.state_dict()), round(sum(p.numel() for p in half.parameters()) / 1e6, 2))
        for half in (model.encoder, model.decoder)
    ]
    assert sizes == [(74, 53.79), (76, 43.83)]
    assert model.config.factor == 8


def test_a_code_is_its_one_hot_weights() -> None:
    torch.manual_seed(0)
    model = VQVAE(SMALL)
    codes = torch.randint(20, (2, 3, 4))
    one_hot = F.one_hot(codes, 20).movedim(-1, 1).float()
    assert torch.allclose(model.decoder.from_codes(codes), model.decoder(one_hot), atol=1e-6)
    assert model.decode(codes).shape == (2, 3, 6, 8)


def test_gradients_reach_both_halves() -> None:
    torch.manual_seed(0)
    model = VQVAE(SMALL)
    weights = model.logits(torch.rand(1, 3, 8, 8) * 2 - 1).softmax(1)
    model.decoder(weights).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_config_survives_being_written_down() -> None:
    assert from_dict(VQVAEConfig, to_dict(SMALL)) == SMALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 1}, "2 codes or more"),
        ({"channels": 6}, "6 x 1 channels: must be a positive multiple of 4"),
        ({"multipliers": ()}, "each must be at least 1"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(VQVAEConfig, to_dict(SMALL) | changes)
