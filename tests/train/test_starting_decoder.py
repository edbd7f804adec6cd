"""Promises of finished decoders that are to learn more: changed for it, they draw as before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from support.tiny import DECODER, decoder_condition, fill_
from unclip.errors import InputError
from unclip.models.decoder import Decoder, DecoderCondition, DecoderConfig
from unclip.models.layout import LayoutConfig
from unclip.nn.layers import space_to_depth
from unclip.train.starting import relaid, told_of_augmentation, widened

LAID_OUT = replace(DECODER, layout=LayoutConfig(embedding=6, side=8, width=5))
LABEL = torch.tensor([3.0, 700.0])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)).double()


@pytest.fixture
def condition() -> DecoderCondition:
    return decoder_condition()


@torch.no_grad()
@pytest.mark.parametrize("config", [DECODER, LAID_OUT])
def test_with_new_channels_of_zero_weight_it_is_the_plain_decoder(
    config: DecoderConfig, x: torch.Tensor, condition: DecoderCondition
) -> None:
    plain = fill_(Decoder(config))
    wide = widened(plain).double().eval()
    assert wide.config == replace(config, inpainting=True)
    expected = plain(x, LABEL, condition)
    assert torch.equal(wide(x, LABEL, condition), expected)
    keep = torch.ones(2, 1, 16, 16).double()
    keep[:, :, 4:12, 6:] = 0
    known = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)).double() * 2 - 1
    torch.testing.assert_close(wide(x, LABEL, replace(condition, known=known, keep=keep)), expected)
    with pytest.raises(InputError, match="already"):
        widened(wide)


@torch.no_grad()
def test_one_that_is_told_of_augmentation_draws_the_same_where_nothing_was_done(
    x: torch.Tensor, condition: DecoderCondition
) -> None:
    plain = fill_(Decoder(DECODER))
    told, expected = told_of_augmentation(plain, 7).double(), plain(x, LABEL, condition)
    assert told.config == replace(DECODER, augmentation=7)
    done = replace(condition, augmentation=torch.ones(2, 7, dtype=torch.float64))
    assert torch.equal(told(x, LABEL, done), expected)  # it has learned nothing of it yet
    told = fill_(told)
    nothing = replace(condition, augmentation=torch.zeros(2, 7, dtype=torch.float64))
    expected = told(x, LABEL, condition)
    assert torch.equal(told(x, LABEL, nothing), expected)
    assert not torch.allclose(told(x, LABEL, done), expected)
    with pytest.raises(ValueError, match="augmentation = 0"):
        plain(x, LABEL, done)
    with pytest.raises(InputError, match="already"):
        told_of_augmentation(told, 7)


@torch.no_grad()
def test_a_finer_layout_takes_the_place_of_a_coarse_one(x: torch.Tensor, condition: DecoderCondition) -> None:
    decoder = fill_(Decoder(LAID_OUT))
    finer = LayoutConfig(embedding=6, side=16, width=5, blocks=1, rank=3)
    other = relaid(decoder, finer).double()
    assert other.config == replace(LAID_OUT, layout=finer)
    coarse = decoder.read(condition).beside
    read = replace(other.read(condition), beside=space_to_depth(F.interpolate(coarse, scale_factor=2), 2))
    torch.testing.assert_close(other(x, LABEL, read), decoder(x, LABEL, condition))
    assert other.read(condition).beside.shape == (2, 12, 8, 8)
    for unfit in (other, Decoder(DECODER)):
        with pytest.raises(InputError, match="begin with a decoder that has it"):
            relaid(unfit, finer)
