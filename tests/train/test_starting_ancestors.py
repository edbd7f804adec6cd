"""Promises of GLIDE and ADM that begin with finished weights: a decoder's UNet, or their own kind's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from unclip.checkpoints.native import save_model
from unclip.errors import InputError
from unclip.models.adm import ADM, ADMConfig
from unclip.models.caption import CaptionConfig
from unclip.models.decoder import FIRST_WEIGHT, RGB, Decoder, DecoderConfig
from unclip.models.glide import Glide, GlideConfig
from unclip.nn.unet import UNet
from unclip.train.ancestors import begin

DECODER = DecoderConfig(
    image_size=16,
    patch=2,
    channels=16,
    multipliers=(1, 1),
    blocks=1,
    attention=(2,),
    head_channels=8,
    embedding=12,
    tokens=2,
    context=24,
    dropout=0.0,
    learned_range=False,
    inpainting=True,
)
SIZES = {
    "image_size": 16,
    "patch": 2,
    "channels": 16,
    "widths": (16, 16),
    "blocks": 1,
    "attention": (2,),
    "head_channels": 8,
    "dropout": 0.0,
    "learned_range": False,
}
GLIDE = GlideConfig(**SIZES, caption=CaptionConfig(vocabulary=20, context=6, width=24, layers=1, heads=2))
MODELS = {"glide": lambda: Glide(GLIDE), "adm": lambda: ADM(ADMConfig(**SIZES, classes=3))}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(0)
    model = Decoder(DECODER)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def weights(decoder: Decoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "decoder.safetensors"
    save_model(path, decoder)
    return path


@pytest.mark.parametrize("stage", MODELS)
def test_they_take_a_decoders_unet(stage: str, decoder: Decoder, weights: Path) -> None:
    model = MODELS[stage]()
    begin(model, stage, str(weights))
    found, own = decoder.state_dict(), model.state_dict()
    drawing = [name for name in own if name.startswith(("unet.", "time."))]
    assert len(drawing) > 20
    for name in drawing:
        seen = slice(0, RGB * SIZES["patch"] ** 2) if name == FIRST_WEIGHT else slice(None)
        expected = found[name][:, seen] if name == FIRST_WEIGHT else found[name]
        assert torch.equal(own[name], expected), name
    assert isinstance(model.unet, UNet)


@pytest.mark.parametrize("stage", MODELS)
def test_they_take_the_weights_of_their_own_kind(stage: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = MODELS[stage](), MODELS[stage]()
    save_model(tmp_path / "first.safetensors", first)
    begin(second, stage, str(tmp_path / "first.safetensors"))
    for name, weight in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight)


def test_unets_of_other_sizes_are_refused(weights: Path, run: Path) -> None:
    """Also where a bundle is named, which has a decoder and no GLIDE."""
    wider = Glide(replace(GLIDE, widths=(16, 32)))
    for start in (weights, run / "bundle"):
        with pytest.raises(InputError, match=r"glide\.start: .* has (unet|time)\..* make the UNets the same"):
            begin(wider, "glide", str(start))
