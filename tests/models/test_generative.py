"""Promises of prior, decoder and upsampler: what is dropped is not read, padding changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.tiny import DECODER, decoder_condition, fill_
from unclip.errors import InputError
from unclip.models.caption import CaptionConfig, Unconditional
from unclip.models.decoder import (
    Decoder,
    DecoderCondition,
    DecoderConfig,
    TextNorm,
    noise_embedding,
)
from unclip.models.layout import LayoutConfig
from unclip.models.prior import DiffusionPrior, PriorCondition, PriorConfig
from unclip.models.upsampler import Enlargement, Upsampler, UpsamplerConfig, enlarge

PRIOR = PriorConfig(embedding=6, text_width=7, context=9, width=16, layers=2, heads=2)
YES = torch.ones(2, dtype=torch.bool)


def prior_condition() -> PriorCondition:
    torch.manual_seed(2)
    return PriorCondition(
        text_embedding=torch.randn(2, 6).double(),
        sequence=torch.randn(2, 4, 7).double(),
        mask=torch.ones(2, 4, dtype=torch.bool),
        keep=YES,
    )


class TestDecoder:
    x = torch.randn(2, 3, 16, 16).double()
    label = torch.tensor([3.0, 700.0]).double()

    @torch.no_grad()
    def run(self, condition: DecoderCondition, config: DecoderConfig = DECODER) -> torch.Tensor:
        out: torch.Tensor = fill_(Decoder(config))(self.x, self.label, condition)
        return out

    def test_learned_range_doubles_the_channels(self) -> None:
        assert self.run(decoder_condition()).shape == (2, 6, 16, 16)
        plain = replace(DECODER, learned_range=False)
        assert self.run(decoder_condition(), plain).shape == (2, 3, 16, 16)

    def test_nothing_kept_means_nothing_read(self) -> None:
        condition = decoder_condition().dropped()
        other = replace(
            condition,
            embedding=condition.embedding + 1,
            sequence=torch.zeros(2, 4, 7).double(),
            noise_level=torch.zeros(2).double(),
        )
        torch.testing.assert_close(self.run(condition), self.run(other))

    @pytest.mark.parametrize("change", ["embedding", "sequence", "noise_level"])
    def test_each_condition_is_read(self, change: str) -> None:
        condition = decoder_condition()
        changed = replace(condition, **{change: getattr(condition, change).flip(0)})
        assert not torch.allclose(self.run(condition), self.run(changed))

    def test_a_caption_of_none_is_a_dropped_caption(self) -> None:
        condition = decoder_condition()
        without = replace(condition, sequence=None, mask=None, keep_text=None)
        dropped = replace(condition, keep_text=~YES)
        torch.testing.assert_close(self.run(without), self.run(dropped))

    def test_padding_changes_nothing(self) -> None:
        condition = decoder_condition()
        assert condition.sequence is not None
        padded = replace(
            condition,
            sequence=torch.cat([condition.sequence, torch.randn(2, 3, 7).double()], dim=1),
            mask=torch.tensor([True] * 4 + [False] * 3).expand(2, 7),
        )
        torch.testing.assert_close(self.run(condition), self.run(padded))

    def test_it_can_read_captions_with_an_encoder_of_its_own(self) -> None:
        caption = CaptionConfig(vocabulary=11, context=5, width=8, layers=1, heads=2)
        config = replace(DECODER, text_width=None, caption=caption)
        condition = replace(decoder_condition(), ids=torch.arange(8).view(2, 4))
        one, other = self.run(condition, config), self.run(replace(condition, ids=condition.ids + 1), config)
        assert not torch.allclose(one, other)
        longer = replace(
            condition,
            ids=torch.cat([condition.ids, torch.zeros(2, 1, dtype=torch.int64)], dim=1),
            mask=torch.tensor([True] * 4 + [False]).expand(2, 5),
        )
        torch.testing.assert_close(one, self.run(longer, config))
        with pytest.raises(InputError, match="one of the two"):
            replace(config, text_width=7)

    def test_a_noise_level_needs_a_network_that_knows_it(self) -> None:
        with pytest.raises(ValueError, match="noisy_embedding"):
            self.run(decoder_condition(), replace(DECODER, noisy_embedding=False))

    def test_the_paper_size_is_that_of_table_3(self) -> None:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in Decoder(DecoderConfig()).parameters())
        assert 2.0e9 < count < 2.6e9  # the UNet of the 3.5B decoder; its 1.2B text encoder is apart (GLIDE)

    def test_a_layout_of_another_grid_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"layout.side = 8"):
            replace(DECODER, layout=LayoutConfig(embedding=6, side=4))

    def test_a_layout_is_of_the_embedding_that_is_kept_and_read_once(self) -> None:
        decoder = fill_(Decoder(replace(DECODER, layout=LayoutConfig(embedding=6, side=8, width=5))))
        condition = decoder_condition()
        layout = decoder.read(condition).beside
        assert layout.shape == (2, 3, 8, 8)
        assert layout.std(dim=(2, 3)).min() > 0.01  # what lies where
        other = replace(condition, embedding=condition.embedding + 1)
        assert not torch.equal(decoder.read(other).beside, layout)
        assert torch.equal(decoder.read(other.dropped()).beside, decoder.read(condition.dropped()).beside)
        read = decoder(self.x, self.label, decoder.read(condition))
        torch.testing.assert_close(read, decoder(self.x, self.label, condition))


def test_noised_embeddings_keep_their_variance() -> None:
    torch.manual_seed(0)
    level = torch.rand(4000)
    mixed = noise_embedding(torch.randn(4000, 8), torch.randn(4000, 8), level)
    assert mixed.var().item() == pytest.approx(1, abs=0.03)
    same = torch.randn(3, 8)
    torch.testing.assert_close(noise_embedding(same, torch.randn(3, 8), torch.zeros(3)), same)


class TestPrior:
    x = torch.randn(2, 6).double()
    label = torch.tensor([3.0, 700.0]).double()

    @torch.no_grad()
    def run(self, condition: PriorCondition) -> torch.Tensor:
        out: torch.Tensor = fill_(DiffusionPrior(PRIOR))(self.x, self.label, condition)
        return out

    def test_nothing_kept_means_nothing_read(self) -> None:
        condition = prior_condition().dropped()
        other = replace(
            condition, text_embedding=condition.text_embedding + 1, sequence=condition.sequence * 0
        )
        out = self.run(condition)
        assert out.isfinite().all()
        torch.testing.assert_close(out, self.run(other))

    @pytest.mark.parametrize("change", ["text_embedding", "sequence"])
    def test_each_condition_is_read(self, change: str) -> None:
        condition = prior_condition()
        changed = replace(condition, **{change: getattr(condition, change).flip(0)})
        assert not torch.allclose(self.run(condition), self.run(changed))

    def test_padding_changes_nothing(self) -> None:
        condition = prior_condition()
        padded = replace(
            condition,
            sequence=torch.cat([condition.sequence, torch.randn(2, 3, 7).double()], dim=1),
            mask=torch.tensor([True] * 4 + [False] * 3).expand(2, 7),
        )
        torch.testing.assert_close(self.run(condition), self.run(padded))

    def test_the_paper_size_is_a_billion(self) -> None:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in DiffusionPrior(PriorConfig()).parameters())
        assert 1.0e9 < count < 1.3e9


class TestUpsampler:
    config = UpsamplerConfig(
        low_size=8, high_size=32, patch=2, channels=8, multipliers=(1, 2), blocks=1, dropout=0.0
    )

    @pytest.mark.parametrize("size", [(8, 8), (4, 12)])
    def test_runs_at_any_size(self, size: tuple[int, int]) -> None:
        model = fill_(Upsampler(self.config)).float()
        high = (4 * size[0], 4 * size[1])
        with torch.no_grad():
            assert model(torch.randn(1, 3, *high), torch.zeros(1), torch.rand(1, 3, *size)).shape == (
                1,
                3,
                *high,
            )

    def test_reads_the_small_picture(self) -> None:
        model = fill_(Upsampler(self.config)).float()
        x, low = torch.randn(1, 3, 32, 32), torch.rand(1, 3, 8, 8)
        with torch.no_grad():
            assert not torch.equal(model(x, torch.zeros(1), low), model(x, torch.zeros(1), -low))


class TestOptionsOfKarlo:
    """Options that published weights need; their defaults are the shipped bundle's."""

    x = torch.randn(2, 3, 16, 16).double()
    label = torch.tensor([3.0, 700.0]).double()
    short = torch.tensor([[True] * 4, [True, True, False, False]])

    @torch.no_grad()
    def test_a_condition_that_was_read_before_is_the_same_condition(self) -> None:
        prior, decoder = fill_(DiffusionPrior(PRIOR)), fill_(Decoder(DECODER))
        x = torch.randn(2, 6).double()
        for label in (self.label, self.label + 5):
            caption = replace(prior_condition(), mask=self.short)
            torch.testing.assert_close(prior(x, label, prior.read(caption)), prior(x, label, caption))
            condition = replace(decoder_condition(), mask=self.short)
            read = decoder.read(condition)
            torch.testing.assert_close(decoder(self.x, label, read), decoder(self.x, label, condition))

    @torch.no_grad()
    def test_a_prior_is_read_once_and_stepped_often(self) -> None:
        prior, caption = fill_(DiffusionPrior(PRIOR)), prior_condition()
        read, x = prior.read(caption), torch.randn(2, 6).double()
        for label in (self.label, self.label + 5, self.label):
            torch.testing.assert_close(prior(x, label, read), prior(x, label, caption))

    def test_a_prior_of_raw_embeddings_scales_none(self) -> None:
        raw = replace(PRIOR, unit_embeddings=False)
        prior = fill_(DiffusionPrior(PRIOR))
        other = DiffusionPrior(raw).double().eval()
        other.load_state_dict(prior.state_dict())
        caption = prior_condition()
        scaled = replace(caption, text_embedding=caption.text_embedding * 6**0.5)
        x = torch.randn(2, 6).double()
        torch.testing.assert_close(prior(x, self.label, caption), other(x, self.label, scaled))

    def test_a_prior_of_empty_captions_drops_none(self) -> None:
        config = replace(PRIOR, normalised_text=False, unconditional=Unconditional.EMPTY_CAPTION)
        prior = fill_(DiffusionPrior(config))
        assert not {"null_text", "sequence_in.0.weight"} & set(prior.state_dict())
        with pytest.raises(ValueError, match="empty one"):
            prior(torch.randn(2, 6).double(), self.label, prior_condition().dropped())

    def test_a_text_embedding_joins_the_time_embedding(self) -> None:
        decoder = fill_(Decoder(replace(DECODER, text_to_time=True, text_norm=TextNorm.AFTER)))
        names = {name: tuple(weight.shape) for name, weight in decoder.state_dict().items()}
        assert names["text_to_time.weight"] == (32, 6)
        assert (names["text_to_context.0.weight"], names["text_to_context.1.weight"]) == ((10, 7), (10,))
        condition = replace(decoder_condition(), text_embedding=torch.randn(2, 6).double())
        one = decoder(self.x, self.label, condition)
        other = decoder(self.x, self.label, replace(condition, text_embedding=torch.zeros(2, 6).double()))
        assert not torch.allclose(one, other)
        with pytest.raises(ValueError, match="text_to_time"):
            decoder(self.x, self.label, decoder_condition())

    def test_an_antialiased_enlargement_is_not_clipped(self) -> None:
        low = torch.rand(1, 3, 4, 4).sign() - torch.eye(4) * 2
        assert enlarge(low, 4).abs().max() == 1
        high = enlarge(low, 4, Enlargement.ANTIALIAS)
        assert high.shape == (1, 3, 16, 16)
        assert high.abs().max() > 1
