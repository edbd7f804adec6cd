"""Promises of the supervised classifier: a logit a class, pictures of its size, weights that come back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unclip.errors import InputError
from unclip.models.clip_resnet import ModifiedResNetConfig
from unclip.models.supervised import Supervised, SupervisedConfig
from unclip.native import load_model, save_model

IMAGE = ModifiedResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=4, heads=2)
CONFIG = SupervisedConfig(IMAGE, ("cat", "dog", "개"), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def test_pictures_are_normalised_and_have_a_logit_a_class(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Supervised(CONFIG).eval()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    logits = model(images)
    assert logits.shape == (2, 3)
    normalised = ((images + 1) / 2 - model.mean) / model.std
    torch.testing.assert_close(logits, model.visual(normalised))
    save_model(tmp_path / "x.safetensors", model)
    again = load_model(tmp_path / "x.safetensors", kind="supervised").eval()
    assert again.config == CONFIG
    torch.testing.assert_close(again(images), logits)


def test_other_pictures_and_labels_are_refused() -> None:
    with pytest.raises(InputError, match=r"takes \(B, 3, 32, 32\)"):
        Supervised(CONFIG)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(InputError, match="2 labels: give two or more, each once"):
        SupervisedConfig(IMAGE, ("cat", "cat"))
    with pytest.raises(InputError, match="each must be above 0"):
        SupervisedConfig(IMAGE, ("cat", "dog"), std=(0.0, 1.0, 1.0))
