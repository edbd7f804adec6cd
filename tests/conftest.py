"""Fixtures that several test files share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

from unclip.bundle import Bundle, Part, Preprocessing, save_bundle
from unclip.diffusion.defaults import DecoderSampling, PriorSampling, Sampling
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.models.ar_prior import ArPrior, ArPriorConfig
from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.code_sampling import CodeSampling
from unclip.models.decoder import Decoder, DecoderConfig
from unclip.models.prior import DiffusionPrior, PriorConfig
from unclip.models.upsampler import Upsampler, UpsamplerConfig
from unclip.tokenizer import BytePairTokenizer

# a machine that does other work beside the tests is no failure
settings.register_profile("unclip", deadline=None)
settings.load_profile("unclip")

TINY_CAPTIONS = ["a red apple", "a green apple", "빨간 사과", "ein roter Apfel"] * 2


def _randomise(model: nn.Module, seed: int) -> nn.Module:
    """Fill every matrix: fresh networks end in zeros and would all draw the same."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                std = parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole bundle of untrained networks, up to 1024 px in well under a second. Do not change it."""
    tokenizer = BytePairTokenizer.train(TINY_CAPTIONS, vocabulary=280)
    clip = CLIP(
        CLIPConfig(
            embedding=16,
            image=VisionTransformerConfig(image_size=32, patch=16, width=16, layers=1, heads=2),
            text=TextTransformerConfig(tokenizer.vocabulary, context=16, width=16, layers=1, heads=2),
            end_token=tokenizer.end,
        )
    )
    prior = DiffusionPrior(PriorConfig(embedding=16, text_width=16, context=16, width=16, layers=1, heads=2))
    decoder = Decoder(
        DecoderConfig(
            image_size=64,
            patch=8,
            channels=8,
            multipliers=(1, 2),
            blocks=1,
            attention=(2,),
            head_channels=8,
            embedding=16,
            tokens=2,
            context=8,
            text_width=16,
            learned_range=False,
        )
    )
    upsamplers = {
        size: Upsampler(
            UpsamplerConfig(size // 4, size, patch=size // 32, channels=8, multipliers=(1,), blocks=1)
        )
        for size in (256, 1024)
    }
    v = DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.V)
    x0 = DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.X0)
    picture = Sampling(steps=3, sampler="ddim", threshold=Threshold.STATIC)
    parts = {
        "tokenizer": Part(tokenizer),
        "clip": Part(_randomise(clip, 1), preprocessing=Preprocessing(size=32)),
        "prior": Part(
            _randomise(prior, 2),
            diffusion=x0,
            sampling=PriorSampling(
                steps=3, guidance=2.0, candidates=2, threshold=Threshold.STATIC, limit=5.0
            ),
        ),
        "decoder": Part(
            _randomise(decoder, 3),
            diffusion=v,
            sampling=DecoderSampling(steps=3, guidance=2.0, threshold=Threshold.DYNAMIC),
        ),
        "upsampler-256": Part(_randomise(upsamplers[256], 4), diffusion=v, sampling=picture),
        "upsampler-1024": Part(_randomise(upsamplers[1024], 5), diffusion=v, sampling=picture),
    }
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    save_bundle(folder, name="tiny", parts=parts, card="# tiny\n", licence="Apache-2.0", data="nothing")
    return folder


@pytest.fixture
def tiny_bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle to be damaged."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


@pytest.fixture(scope="session")
def two_priors_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an untrained autoregressive prior as well. Do not change it."""
    whole = Bundle.load(tiny_bundle)
    parts = {
        name: Part(
            whole.tokenizer() if name == "tokenizer" else whole.path(name),
            diffusion=component.diffusion,
            sampling=component.sampling,
            preprocessing=component.preprocessing,
        )
        for name, component in whole.components.items()
    }
    config = ArPriorConfig(
        embedding=16,
        text_width=16,
        context=16,
        components=6,
        buckets=32,
        dot_buckets=8,
        width=16,
        layers=1,
        heads=2,
    )
    parts["ar-prior"] = Part(_randomise(ArPrior(config), 6), codes=CodeSampling(guidance=2.0))
    folder = tmp_path_factory.mktemp("bundles") / "two-priors"
    save_bundle(folder, name="two-priors", parts=parts, card="# two priors\n")
    return folder
