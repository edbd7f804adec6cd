"""Bundles of untrained networks, a family each, that draw in well under a second: the same in every run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from support.tiny import CODEC, DALLE1, DALLE_MINI, DECODER, nudge_, randomise_
from unclip.bundle import Bundle, Part, save_bundle
from unclip.checkpoints import karlo
from unclip.checkpoints.foreign import Conversion
from unclip.diffusion.defaults import DecoderSampling, PriorSampling, Sampling
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.manifest import Preprocessing
from unclip.models.ar_prior import ArPrior, ArPriorConfig
from unclip.models.clip import CLIP, CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle1 import Dalle1
from unclip.models.dalle_mini import DalleMini
from unclip.models.decoder import KARLO as KARLO_DECODER
from unclip.models.decoder import Decoder
from unclip.models.prior import KARLO as KARLO_PRIOR
from unclip.models.prior import DiffusionPrior, PriorConfig
from unclip.models.upsampler import KARLO as KARLO_UPSAMPLER
from unclip.models.upsampler import Upsampler, UpsamplerConfig
from unclip.models.vqgan import VQGAN, PixelRange, VQGANConfig
from unclip.tokenizer import (
    CLIP_CONTEXT,
    SHIPPED_VOCABULARY,
    BytePairTokenizer,
    CLIPTokenizer,
    DalleMiniTokenizer,
)
from unclip.train.starting import widened

CAPTIONS = ["a red apple", "a green apple", "빨간 사과", "ein roter Apfel"] * 2
WIDTH = 16  # of every transformer, and of every embedding
X0 = DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.X0)
V = DiffusionConfig(schedule=ScheduleName.COSINE, prediction=Prediction.V)


def _clip(tokenizer: BytePairTokenizer | CLIPTokenizer, image_size: int = 32, context: int = 16) -> CLIP:
    image = VisionTransformerConfig(image_size, patch=image_size // 2, width=WIDTH, layers=1, heads=2)
    text = TextTransformerConfig(tokenizer.vocabulary, context, WIDTH, layers=1, heads=2)
    return CLIP(CLIPConfig(WIDTH, image, text, end_token=tokenizer.end))


def _upsampler(low_size: int, patch: int) -> Upsampler:
    return Upsampler(UpsamplerConfig(low_size, 4 * low_size, patch, channels=8, multipliers=(1,), blocks=1))


def unclip_parts(context: int = 16) -> dict[str, Part]:
    """A whole unCLIP, up to 1024 pixels, that reads half of `context` tokens."""
    torch.manual_seed(0)
    tokenizer = BytePairTokenizer.train(CAPTIONS, vocabulary=280)
    clip = _clip(tokenizer, context=context)
    config = PriorConfig(WIDTH, text_width=WIDTH, context=context, width=WIDTH, layers=1, heads=2)
    prior = DiffusionPrior(config)
    widths: dict[str, Any] = {"embedding": WIDTH, "context": context // 2, "text_width": WIDTH}
    plain: dict[str, Any] = {"learned_range": False, "noisy_embedding": False}
    decoder = Decoder(replace(DECODER, image_size=64, patch=8, **widths, **plain))
    upsamplers = [_upsampler(64, patch=8), _upsampler(256, patch=32)]
    picture = Sampling(steps=3, sampler="ddim", threshold=Threshold.STATIC)
    return {
        "tokenizer": Part(tokenizer),
        "clip": Part(randomise_(clip, 1), preprocessing=Preprocessing(size=32)),
        "prior": Part(
            randomise_(prior, 2),
            diffusion=X0,
            sampling=PriorSampling(3, guidance=2.0, candidates=2, threshold=Threshold.STATIC, limit=5.0),
        ),
        "decoder": Part(
            randomise_(decoder, 3),
            diffusion=V,
            sampling=DecoderSampling(3, guidance=2.0, threshold=Threshold.DYNAMIC),
        ),
        "upsampler-256": Part(randomise_(upsamplers[0], 4), diffusion=V, sampling=picture),
        "upsampler-1024": Part(randomise_(upsamplers[1], 5), diffusion=V, sampling=picture),
    }


def ar_prior_part() -> Part:
    """An autoregressive prior for the bundle above."""
    torch.manual_seed(0)
    config = ArPriorConfig(
        embedding=WIDTH,
        text_width=WIDTH,
        context=16,
        components=6,
        buckets=32,
        dot_buckets=8,
        width=WIDTH,
        layers=1,
        heads=2,
    )
    return Part(randomise_(ArPrior(config), 6), codes=CodeSampling(guidance=2.0))


def parts_of(bundle: Bundle, *without: str) -> dict[str, Part]:
    """All components of a bundle but some, to be saved again with others."""
    return {name: bundle.part(name) for name in bundle.components if name not in without}


def filling_bundle(tiny_bundle: Path, folder: Path) -> Path:
    """The tiny bundle with a decoder that sees what it fills in."""
    whole = Bundle.load(tiny_bundle)
    parts = parts_of(whole)
    network = whole.model("decoder", dtype=torch.float32)
    assert isinstance(network, Decoder)
    parts["decoder"] = replace(parts["decoder"], source=widened(network))
    save_bundle(folder, name="filling", parts=parts, card="")
    return folder


def dalle1_parts() -> dict[str, Part]:
    """A DALL-E 1 of 4 x 4 codes and 16 pixels, and an upsampler; so random that everything matters."""
    torch.manual_seed(0)
    tokenizer = BytePairTokenizer.train(CAPTIONS, vocabulary=280)
    clip = _clip(tokenizer, image_size=16)
    config = replace(DALLE1, text_vocabulary=tokenizer.vocabulary, text_context=24, vocabulary=24, layers=3)
    transformer = Dalle1(config)
    codec = VQGAN(replace(CODEC, vocabulary=24, unit=True))
    upsampler = _upsampler(16, patch=4)
    return {
        "tokenizer": Part(tokenizer),
        "clip": Part(randomise_(clip, 1, 1.5), preprocessing=Preprocessing(size=16)),
        "transformer": Part(randomise_(transformer, 2, 1.5), codes=CodeSampling(guidance=2.0)),
        "codec": Part(randomise_(codec, 3, 1.5)),
        "upsampler": Part(
            randomise_(upsampler, 4, 1.5),
            diffusion=X0,
            sampling=Sampling(steps=2, threshold=Threshold.STATIC),
        ),
    }


def dalle_mini_parts(folder: Path) -> dict[str, Part]:
    """A DALL-E mini of 3 x 3 codes and 6 pixels; its vocabulary is written into `folder`."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "\u0120", *map(chr, range(0x21, 0x7F)), "re", "red"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d\n")
    torch.manual_seed(0)
    codes = {"vocabulary": 50, "code_rows": 52, "start": 51}
    transformer = DalleMini(replace(DALLE_MINI, text_vocabulary=len(words), text_context=12, **codes))
    codec = VQGAN(
        VQGANConfig(
            vocabulary=50,
            embedding=4,
            latent=4,
            channels=32,
            multipliers=(1, 1),
            blocks=1,
            attention=(2,),
            encodes=False,
            pixels=PixelRange.UNIT,
        )
    )
    return {
        "tokenizer": Part(DalleMiniTokenizer.load(folder)),
        "transformer": Part(nudge_(transformer, 0.3), codes=CodeSampling(top_k=40, guidance=3.0)),
        "codec": Part(nudge_(codec, 0.3)),
    }


def karlo_conversion() -> Conversion:
    """Karlo's architecture, of 16 pixels and 64."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.load(SHIPPED_VOCABULARY)
    clip = _clip(tokenizer, context=CLIP_CONTEXT)
    sizes: dict[str, Any] = {"embedding": WIDTH, "text_width": WIDTH}
    unet: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks": 1}
    reader = replace(KARLO_PRIOR, context=CLIP_CONTEXT, width=WIDTH, layers=1, heads=2, **sizes)
    attention: dict[str, Any] = {"attention": (2,), "head_channels": 8, "context": WIDTH}
    painter = replace(KARLO_DECODER, image_size=16, **attention, **sizes, **unet)
    larger = replace(KARLO_UPSAMPLER, low_size=16, high_size=64, **unet)
    return karlo.conversion(
        tokenizer=tokenizer,
        clip=randomise_(clip, 1, 0.5),
        prior=randomise_(DiffusionPrior(reader), 2, 0.5),
        decoder=randomise_(Decoder(painter), 3, 0.5),
        upsamplers=(randomise_(Upsampler(larger), 4, 0.5), randomise_(Upsampler(larger), 5, 0.5)),
        preprocessing=Preprocessing(size=32, fit="crop"),
    )
