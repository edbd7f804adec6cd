"""Karlo's presets are the published networks: as many parameters as its files hold."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from unclip.checkpoints.karlo_export import DECODER_WAYS, PRIOR_WAYS, UPSAMPLER_WAYS
from unclip.config import from_dict, to_dict
from unclip.models import decoder, prior, upsampler
from unclip.models.clip import PRESETS, ClipTextConfig, TextTransformerConfig
from unclip.native import unfilled

VIT_L = PRESETS["ViT-L/14"]
assert isinstance(VIT_L.text, TextTransformerConfig)
TEXT_TOWER = ClipTextConfig(VIT_L.embedding, VIT_L.text, VIT_L.end_token, VIT_L.activation)


# kakaobrain/karlo-v1-alpha; the decoder's are UNet2DConditionModel's and UnCLIPTextProjModel's
@pytest.mark.parametrize(
    ("kind", "config", "published"),
    [
        ("clip-text", TEXT_TOWER, 123_650_304),
        ("diffusion-prior", prior.KARLO, 1_022_030_080 - 2 * 768),
        ("decoder", decoder.KARLO, 885_439_686 + 7_878_400),
        ("upsampler", upsampler.KARLO, 691_579_523),
    ],
)
def test_a_network_has_the_published_size(kind: str, config: Any, published: int) -> None:
    """Their prior counts the statistics of CLIP's embeddings, which are buffers here."""
    model = unfilled(kind, config)
    assert sum(parameter.numel() for parameter in model.parameters()) == published
    assert from_dict(type(config), to_dict(config)) == config


def test_ways_are_fields() -> None:
    for config, ways in (
        (prior.KARLO, PRIOR_WAYS),
        (decoder.KARLO, DECODER_WAYS),
        (upsampler.KARLO, UPSAMPLER_WAYS),
    ):
        assert set(ways) <= {field.name for field in fields(config)}
