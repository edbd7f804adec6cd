"""Diffusers' two pipelines of Karlo with random weights, of any size, with noise from our streams."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
import transformers
from diffusers.pipelines.deprecated.unclip import (
    UnCLIPImageVariationPipeline,
    UnCLIPPipeline,
    pipeline_unclip,
    pipeline_unclip_image_variation,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import scheduling_unclip
from torch import Tensor, nn

from unclip.runtime import noise_generator
from unclip.tokenizer import CLIP_VOCABULARY

EMBEDDING, SMALL, LARGE = 32, 16, 64  # of `TINY`
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Sizes:
    """Sizes of all networks; `head` is the width of prior's and decoder's attention heads."""

    widths: tuple[int, ...]
    layers: int
    context: int
    head: int
    prior_heads: int
    depth: int  # layers of the prior
    embedding: int = EMBEDDING
    small: int = SMALL
    large: int = LARGE
    text_layers: int = 2
    text_heads: int = 4


TINY = Sizes(widths=(32, 64), layers=1, context=48, head=16, prior_heads=2, depth=2)
BROAD_HEADS = replace(TINY, head=64)  # as wide as Karlo's, which its own files do not say


def of_width(width: int) -> Sizes:
    """Karlo with `width` channels at the decoder's first level, 320 being the published one."""
    share = width / 320
    embedding = max(1, round(12 * share)) * 64
    return Sizes(
        widths=(width, 2 * width, 3 * width, 4 * width),
        layers=3,
        context=max(1, round(48 * share)) * 32,
        head=64,
        prior_heads=max(1, round(32 * share)),
        depth=20,
        embedding=embedding,
        small=64,
        large=256,
        text_layers=12,
        text_heads=embedding // 64,
    )


def randomise(model: nn.Module, seed: int) -> Any:
    """Weights of order one over the square root of what they sum; norms and biases that show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if name.endswith("clip_std"):
                values = values.abs() + 0.5
            elif parameter.ndim >= 2 and "embedding" not in name:
                values = values * parameter[0].numel() ** -0.5
            elif name.endswith("weight") and parameter.ndim == 1:
                values = 1 + 0.2 * values
            else:
                values = 0.2 * values
            parameter.copy_(values)
    return model.eval()


def quiet(network: Any) -> Any:
    """A network that draws from noise, with a small output.

    At the noisiest step x0 is 20,000 times what x and epsilon differ by. A trained network's epsilon is
    nearly x there; another one's is not, and rounding then decides the sign of x0, and with it the picture.
    """
    with torch.no_grad():
        for parameter in network.conv_out.parameters():
            parameter.mul_(0.002)
    return network


def vocabulary(folder: Path) -> transformers.CLIPTokenizer:
    """CLIP's tokenizer with its ids but other merges: pairs of letters."""
    bytes_ = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = [chr(byte) for byte in bytes_] + [chr(256 + i) for i in range(256 - len(bytes_))]
    merges = [(a, b + end) for a, b in itertools.product(LETTERS, LETTERS) for end in ("", "</w>")]
    words = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *(a + b for a, b in merges)]
    words += [f"<unused{i}>" for i in range(CLIP_VOCABULARY - 2 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n")
    return transformers.CLIPTokenizer.from_pretrained(str(folder), pad_token="!", model_max_length=77)


def _text_encoder(sizes: Sizes) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=CLIP_VOCABULARY,
        hidden_size=sizes.embedding,
        intermediate_size=4 * sizes.embedding,
        projection_dim=sizes.embedding,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_heads,
        max_position_embeddings=77,
        eos_token_id=2,
    )
    return randomise(transformers.CLIPTextModelWithProjection(config), 1)


def _shared(folder: Path, sizes: Sizes) -> dict[str, Any]:
    levels = len(sizes.widths)
    common = {"layers_per_block": sizes.layers, "block_out_channels": sizes.widths}
    decoder = diffusers.UNet2DConditionModel(
        sample_size=sizes.small,
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * (levels - 1)),
        up_block_types=(*["SimpleCrossAttnUpBlock2D"] * (levels - 1), "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        cross_attention_dim=sizes.context,
        class_embed_type="identity",
        attention_head_dim=sizes.head,
        resnet_time_scale_shift="scale_shift",
        **common,
    )
    projection = UnCLIPTextProjModel(
        clip_embeddings_dim=sizes.embedding,
        time_embed_dim=4 * sizes.widths[0],
        cross_attention_dim=sizes.context,
    )
    first, last = (
        diffusers.UNet2DModel(
            sample_size=size,
            in_channels=6,
            out_channels=3,
            down_block_types=("ResnetDownsampleBlock2D",) * levels,
            up_block_types=("ResnetUpsampleBlock2D",) * levels,
            add_attention=False,
            **common,
        )
        for size in (sizes.large, None)  # as published
    )
    return {
        "tokenizer": vocabulary(folder / "vocabulary"),
        "text_encoder": _text_encoder(sizes),
        "decoder": quiet(randomise(decoder, 3)),
        "text_proj": randomise(projection, 4),
        "super_res_first": quiet(randomise(first, 5)),
        "super_res_last": randomise(last, 6),
        "decoder_scheduler": exact(diffusers.UnCLIPScheduler(variance_type="learned_range")),
        "super_res_scheduler": exact(diffusers.UnCLIPScheduler()),
    }


def pipeline(folder: Path, sizes: Sizes = TINY) -> UnCLIPPipeline:
    """Text to picture, with exact tables; `folder` holds what is needed on the way."""
    prior = diffusers.PriorTransformer(
        num_attention_heads=sizes.prior_heads,
        attention_head_dim=sizes.head,
        num_layers=sizes.depth,
        embedding_dim=sizes.embedding,
    )
    scheduler = exact(diffusers.UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0))
    made = UnCLIPPipeline(prior=randomise(prior, 2), prior_scheduler=scheduler, **_shared(folder, sizes))
    made.set_progress_bar_config(disable=True)
    return made


def loaded(folder: Path, dtype: torch.dtype) -> UnCLIPPipeline:
    """A pipeline that was saved, component by component: its own loader misses one of their classes."""
    kinds: dict[str, Any] = {
        "prior": diffusers.PriorTransformer,
        "decoder": diffusers.UNet2DConditionModel,
        "text_proj": UnCLIPTextProjModel,
        "super_res_first": diffusers.UNet2DModel,
        "super_res_last": diffusers.UNet2DModel,
        "text_encoder": transformers.CLIPTextModelWithProjection,
    }
    networks = {name: kind.from_pretrained(folder / name).to(dtype) for name, kind in kinds.items()}
    schedulers = {
        name: diffusers.UnCLIPScheduler.from_pretrained(folder / name)
        for name in ("prior_scheduler", "decoder_scheduler", "super_res_scheduler")
    }
    tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder / "tokenizer"))
    made = UnCLIPPipeline(tokenizer=tokenizer, **networks, **schedulers)
    made.set_progress_bar_config(disable=True)
    return made


def variations(folder: Path) -> UnCLIPImageVariationPipeline:
    """Picture to picture, with exact tables."""
    config = transformers.CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=256,
        projection_dim=EMBEDDING,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    # the one of Pillow, as published; where torchvision is installed, the other name is another's
    extractor = getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    encoder = randomise(transformers.CLIPVisionModelWithProjection(config), 7)
    made = UnCLIPImageVariationPipeline(
        feature_extractor=extractor, image_encoder=encoder, **_shared(folder, TINY)
    )
    made.set_progress_bar_config(disable=True)
    return made


@contextmanager
def our_noise(jobs: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Diffusers draws its noise from the streams of these (seed, index), one for each row of a batch."""
    stages = {(EMBEDDING,): "prior-0", (3, SMALL, SMALL): "decoder", (3, LARGE, LARGE): f"upsampler-{LARGE}"}
    streams = {
        shape: [noise_generator(seed, index, stage) for seed, index in jobs]
        for shape, stage in stages.items()
    }

    def randn_tensor(shape: Sequence[int], **_: Any) -> Tensor:
        rows = streams[tuple(shape[1:])]
        return torch.stack([torch.randn(tuple(shape[1:]), generator=generator) for generator in rows])

    places = (pipeline_unclip, pipeline_unclip_image_variation, scheduling_unclip)
    patches = [
        mock.patch.object(place, "randn_tensor", randn_tensor)
        for place in places
        if hasattr(place, "randn_tensor")
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def exact(scheduler: Any) -> Any:
    """The scheduler with its tables in float64.

    As shipped they are products of a thousand factors in float32, of which 1 - 0.999 has four digits, and
    1 - alpha_bar at the least noise has three: the last step's x0 comes out at 0.9995 of itself.
    """
    time = torch.arange(1001, dtype=torch.float64) / 1000
    alpha_bar = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    scheduler.betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, dim=0)
    return scheduler
