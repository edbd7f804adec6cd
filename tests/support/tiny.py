"""The smallest configs of the networks, and ways to fill a network so that everything in it matters."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from unclip.models.clip import CLIPConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.models.dalle1 import Dalle1Config
from unclip.models.dalle_mini import DalleMiniConfig
from unclip.models.decoder import DecoderCondition, DecoderConfig
from unclip.models.vqgan import VQGANConfig
from unclip.nn.transformer import Activation
from unclip.tokenizer import CLIP_CONTEXT, CLIP_VOCABULARY, CLIPTokenizer

DECODER = DecoderConfig(
    image_size=16,
    patch=2,
    channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention=(2,),
    head_channels=8,
    embedding=6,
    tokens=2,
    context=10,
    text_width=7,
    dropout=0.0,
    learned_range=True,
    noisy_embedding=True,
)
OPENAI_CLIP = CLIPConfig(  # their files do not say how wide a head is: 64
    embedding=16,
    image=VisionTransformerConfig(image_size=32, patch=16, width=64, layers=1, heads=1),
    text=TextTransformerConfig(CLIP_VOCABULARY, CLIP_CONTEXT, width=64, layers=1, heads=1),
    end_token=CLIPTokenizer.end,
    activation=Activation.QUICK_GELU,
)
CODEC = VQGANConfig(
    vocabulary=12, embedding=4, latent=32, channels=32, multipliers=(1,), blocks=1, attention=(), patch=4
)
DALLE1 = Dalle1Config(
    text_vocabulary=30, text_context=6, vocabulary=20, grid=4, width=16, layers=5, heads=2, kernel=3
)
DALLE_MINI = DalleMiniConfig(
    text_vocabulary=20,
    text_context=8,
    vocabulary=30,
    code_rows=32,
    start=31,
    grid=3,
    width=16,
    layers=2,
    heads=2,
    mlp_width=24,
)

Network = TypeVar("Network", bound=nn.Module)


def decoder_condition(length: int = 4) -> DecoderCondition:
    """Of two pictures, for `DECODER`, in double precision; captions of so many tokens."""
    torch.manual_seed(2)
    yes = torch.ones(2, dtype=torch.bool)
    return DecoderCondition(
        embedding=torch.randn(2, 6).double(),
        keep_image=yes,
        sequence=torch.randn(2, length, 7).double(),
        mask=torch.ones(2, length, dtype=torch.bool),
        keep_text=yes,
        noise_level=torch.tensor([0.2, 0.4]).double(),
    )


@torch.no_grad()
def randomise_(model: Network, seed: int, scale: float = 1.0) -> Network:
    """Fill every matrix with N(0, scale² / inputs), in place: fresh networks end in zeros, and draw alike."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            std = scale * parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return model


@torch.no_grad()
def fill_(model: Network, std: float = 0.3) -> Network:
    """Fill every parameter with N(0, std²), in place and in double precision."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    return model.double().eval()


@torch.no_grad()
def wake_(model: Network) -> Network:
    """Fill parameters that are all zero, in place, so that every path shows."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return model


@torch.no_grad()
def nudge_(model: Network, std: float, names: tuple[str, ...] = ("",)) -> Network:
    """Add noise to the parameters that have one of `names` in theirs, in place: none stays 0 or 1."""
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            parameter.add_(std * torch.randn_like(parameter))
    return model
