"""Promises of SigLIP's model: what cannot be is refused, and both towers train.

That it computes what Google's computes is promised in `tests/checkpoints/test_siglip_towers.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from unclip.errors import InputError
from unclip.models.clip import CLIP, CBOWConfig, CLIPConfig
from unclip.models.siglip import SiglipTextConfig, SiglipVisionConfig
from unclip.native import unfilled
from unclip.nn.transformer import Activation

IMAGE = SiglipVisionConfig(image_size=16, patch=8, width=32, layers=1, heads=2, mlp_width=64)
TEXT = SiglipTextConfig(vocabulary=9, context=4, width=32, layers=1, heads=2, mlp_width=64, pad=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": 48}, "siglip-vit has no projection and a width of 32"),
        (
            {"text": replace(TEXT, width=16, projection=False)},
            "siglip-transformer has no projection and a width of 16",
        ),
        ({"activation": Activation.QUICK_GELU}, "SigLIP's towers have one each of their own"),
        ({"dropout": 0.1}, "siglip-vit with siglip-transformer has no transformer to drop from"),
        (
            {"text": CBOWConfig(9, 4, 16), "activation": Activation.QUICK_GELU},
            "SigLIP's towers have one each of their own",
        ),
    ],
)
def test_a_config_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CLIPConfig(32, IMAGE, TEXT, end_token=1), **change)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="patches of 17 pixels do not fit 16"):
        replace(IMAGE, patch=17)
    with pytest.raises(InputError, match="pad 9 is not in the vocabulary of 9"):
        replace(TEXT, pad=9)


def test_both_towers_train() -> None:
    torch.manual_seed(0)
    model = CLIP(CLIPConfig(32, IMAGE, TEXT, end_token=1, logit_bias=True))
    features = model(torch.rand(2, 3, 16, 16) * 2 - 1, torch.tensor([[3, 4, 1], [5, 1, 1]]))
    assert features.bias is not None
    (features.image @ features.text.T * features.scale + features.bias).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_model_is_made_unfilled_in_no_time() -> None:
    model = unfilled("clip", CLIPConfig(32, IMAGE, TEXT, end_token=1))
    assert isinstance(model, CLIP)
