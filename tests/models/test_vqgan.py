"""Promises of the VQGAN: its published sizes and names, and what it does with its range of pixels.

That it computes what the published networks compute is promised in `tests/checkpoints/test_vqgan_taming.py`
and `test_dalle_mini.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unclip.config import from_dict, to_dict
from unclip.errors import InputError
from unclip.models.vqgan import VQGAN, PixelRange, VQGANConfig

SMALL = VQGANConfig(
    vocabulary=12, embedding=4, latent=5, channels=32, multipliers=(1, 1), blocks=1, attention=(2,)
)


@pytest.mark.parametrize(("vocabulary", "parameters"), [(1024, 72_141_699), (16_384, 76_073_859)])
def test_it_has_the_published_size(vocabulary: int, parameters: int) -> None:
    """f16 with 1,024 and 16,384 codes; counted on the layers of taming-transformers' configuration."""
    with torch.device("meta"):
        model = VQGAN(VQGANConfig(vocabulary=vocabulary))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.config.factor == 16


def test_the_range_of_pixels_inside_does_not_show_outside() -> None:
    torch.manual_seed(0)
    signed = VQGAN(SMALL)
    unit = VQGAN(replace(SMALL, pixels=PixelRange.UNIT))
    unit.load_state_dict(signed.state_dict())
    images, codes = torch.rand(1, 3, 4, 6), torch.arange(6).view(1, 2, 3)
    assert torch.allclose(unit.latents(images * 2 - 1), signed.latents(images), atol=1e-6)
    assert torch.allclose(unit.decode(codes), signed.decode(codes) * 2 - 1, atol=1e-6)


def test_a_code_is_found_again_from_its_own_vector() -> None:
    torch.manual_seed(0)
    model = VQGAN(SMALL)
    codes = torch.arange(12).view(1, 3, 4)
    assert torch.equal(model.quantise(model.codebook(codes).movedim(-1, 1)), codes)


def test_a_config_survives_being_written_down() -> None:
    assert from_dict(VQGANConfig, to_dict(SMALL)) == SMALL


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="48 x 1 channels: must be a positive multiple of 32"):
        VQGANConfig(channels=48)
    with pytest.raises(InputError, match="every size must be at least 1"):
        VQGANConfig(vocabulary=0)
