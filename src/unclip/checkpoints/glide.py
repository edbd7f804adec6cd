"""GLIDE (filtered) as openai/glide-text2im published it: `.pt` files of plain tensors, one a network.

A file tells its sizes and its part by its shapes: 3 channels go into the base model, 4 more into one that
fills in, 3 more into an upsampler. The noised CLIP has a file for each encoder. GPT-2's vocabulary, which
captions are read with, comes with glide-text2im's code and not with the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import Part
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build, by_role, has_role
from unclip.checkpoints.guided_unet import check_heads, check_size, choose, measure, unet_rules, whole
from unclip.checkpoints.table import Rule, Table, interleaved_heads, joined_rows, transposed
from unclip.checkpoints.transforms import gathered
from unclip.checkpoints.weights import Weights, count_children
from unclip.diffusion.defaults import GuidedSampling
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import DiffusionConfig, Prediction, ScheduleName
from unclip.errors import CheckpointError, InputError
from unclip.models.caption import CaptionConfig
from unclip.models.clip import TextTransformerConfig, VisionTransformerConfig
from unclip.models.glide import PRESETS, Glide, GlideConfig
from unclip.models.noised_clip import NoisedCLIPConfig
from unclip.native import unfilled
from unclip.nn.layers import RGB
from unclip.tokenizer import GPT2_FILES, SHIPPED_VOCABULARY, CLIPTokenizer, GlideTokenizer

BASE, BASE_INPAINT, UPSAMPLE, UPSAMPLE_INPAINT = PRESETS
CLIP_IMAGE, CLIP_TEXT = "clip-image", "clip-text"
HEAD_CHANNELS = 64  # of every attention in the release
LICENCE = "MIT; meant for research (glide-text2im's model card)"
DATA = "67 million filtered pairs of pictures and texts, by glide-text2im's model card"

# What notebooks/text2im.ipynb, inpaint.ipynb and clip_guided.ipynb of glide-text2im draw with
SAMPLING: dict[str, GuidedSampling] = {
    BASE: GuidedSampling(100, sampler="ancestral", guidance=3.0, threshold=Threshold.STATIC),
    BASE_INPAINT: GuidedSampling(100, sampler="ancestral", guidance=5.0, threshold=Threshold.STATIC),
    UPSAMPLE: GuidedSampling("fast27", sampler="ddim", temperature=0.997, threshold=Threshold.STATIC),
    UPSAMPLE_INPAINT: GuidedSampling(
        "fast27", sampler="ancestral", temperature=0.997, threshold=Threshold.STATIC
    ),
}

OPTIONS = {
    "tokenizer": "folder with GPT-2's " + " or ".join(" and ".join(names) for names in GPT2_FILES),
    BASE_INPAINT: "file of the base model that fills in",
    UPSAMPLE: "file of the upsampler",
    UPSAMPLE_INPAINT: "file of the upsampler that fills in",
    CLIP_IMAGE: "file of the noised CLIP's image encoder",
    CLIP_TEXT: "file of the noised CLIP's text encoder",
    "image_size": "side of the base model's picture in pixels, where it is not a released one",
    "large_size": "side of the upsampler's picture in pixels, where it is not a released one",
}


# --- tables ---


def glide_table(model: Glide) -> Table:
    """The key table of a GLIDE network."""
    return Table(_glide_rules(model))


def _glide_rules(model: Glide) -> Iterator[Rule]:
    yield from unet_rules(model.unet, by_head=True)
    yield Rule("text.token.weight", "token_embedding.weight")
    yield Rule("text.position", "positional_embedding")
    yield Rule("text.padding", "padding_embedding")
    yield Rule("text.norm.{p}", "final_ln.{p}")
    yield Rule("text_to_time.{p}", "transformer_proj.{p}")
    ours, theirs = "text.transformer.resblocks.{i}", "transformer.resblocks.{i}"
    read, write = interleaved_heads(model.config.caption.heads)
    for kind in ("weight", "bias"):
        yield Rule(f"{ours}.attn.in_proj_{kind}", f"{theirs}.attn.c_qkv.{kind}", read, write)
    yield Rule(f"{ours}.attn.out_proj.{{p}}", f"{theirs}.attn.c_proj.{{p}}")
    for name in ("ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj"):
        yield Rule(f"{ours}.{name}.{{p}}", f"{theirs}.{name}.{{p}}")


def _with_key_bias(query: Tensor, value: Tensor) -> Tensor:
    return torch.cat([query, torch.zeros_like(query), value])


def _without_key_bias(joined: Tensor) -> tuple[Tensor, Tensor]:
    # a key's bias moves all logits of a query alike, so softmax does not see what is left out
    query, _, value = joined.chunk(3)
    return query.contiguous(), value.contiguous()


def noised_clip_table() -> Table:
    """The key table of the noised CLIP; theirs with `image.` or `text.` before the names of the two files."""
    return Table([*_tower_rules("image", "visual", "ln_post", "proj"), *_token_rules()])


def _tower_rules(theirs: str, ours: str, norm_out: str, projection: str) -> Iterator[Rule]:
    block, mine = f"{theirs}.blocks.block_{{i}}", f"{ours}.transformer.resblocks.{{i}}"
    join, split = joined_rows(3)
    turn, back = transposed()
    queries = tuple(f"{block}.f_attn.f_{letter}.w" for letter in "qkv")
    biases = (f"{block}.f_attn.f_q.b", f"{block}.f_attn.f_v.b")
    yield Rule(f"{mine}.attn.in_proj_weight", queries, join, split)
    yield Rule(f"{mine}.attn.in_proj_bias", biases, _with_key_bias, _without_key_bias)
    yield Rule(f"{ours}.{projection}", f"{theirs}.blocks.output.f.w", turn, back)
    for my_name, name, (weight, bias) in (
        (f"{mine}.attn.out_proj", f"{block}.f_attn.f_c", "wb"),
        (f"{mine}.ln_1", f"{block}.f_attn.ln", "gb"),
        (f"{mine}.ln_2", f"{block}.f_mlp.ln", "gb"),
        (f"{mine}.mlp.c_fc", f"{block}.f_mlp.f_1", "wb"),
        (f"{mine}.mlp.c_proj", f"{block}.f_mlp.f_2", "wb"),
        (f"{ours}.{norm_out}", f"{theirs}.blocks.output.ln", "gb"),
    ):
        yield Rule(f"{my_name}.weight", f"{name}.{weight}")
        yield Rule(f"{my_name}.bias", f"{name}.{bias}")


def _token_rules() -> Iterator[Rule]:
    """The rest of both towers: how patches, labels and words become tokens."""
    yield Rule("visual.conv1.weight", "image.blocks.input.patch_proj")
    yield Rule("visual.class_embedding", "image.blocks.input.w_t")
    yield Rule("visual.positional_embedding", "image.blocks.input.w_pos")
    yield Rule("visual.ln_pre.weight", "image.blocks.input.ln.g")
    yield Rule("visual.ln_pre.bias", "image.blocks.input.ln.b")
    yield from _tower_rules("text", "text", "ln_final", "text_projection")
    yield Rule("text.token_embedding.weight", "text.blocks.input.w_voc")
    yield Rule("text.positional_embedding", "text.blocks.input.w_pos")


# --- sizes ---


def role(weights: Weights) -> str | None:
    """The network of GLIDE's that a file holds, by names and shapes; None where it holds none."""
    if "blocks.input.w_t" in weights and "blocks.input.patch_proj" in weights:
        return CLIP_IMAGE
    if "blocks.input.w_voc" in weights:
        return CLIP_TEXT
    if "transformer.resblocks.0.attn.c_qkv.weight" not in weights or "transformer_proj.weight" not in weights:
        return None
    channels = weights.shapes.get("input_blocks.0.0.weight", (0, 0))[1]
    by_channels = {preset.in_channels: name for name, preset in PRESETS.items()}
    return by_channels.get(channels)


def glide_config(weights: Weights, image_size: int | None = None, low_size: int | None = None) -> GlideConfig:
    """Sizes of a GLIDE network from its shapes, and the side of its pictures from the release that has them.

    Raises:
        CheckpointError: the shapes are of no such network, or the sides must be said and are not.
    """
    shapes = weights.shapes
    sizes = measure(shapes, weights.where)
    part = role(weights)
    if part not in PRESETS or sizes.out_channels != 2 * RGB:
        raise CheckpointError(f"{weights.where}: no network of GLIDE's that draws")
    check_heads(sizes, None, HEAD_CHANNELS, weights.where)
    width = shapes["token_embedding.weight"][1]
    if width % HEAD_CHANNELS:
        raise CheckpointError(f"{weights.where}: captions of width {width}, no multiple of {HEAD_CHANNELS}")
    found = replace(
        PRESETS[part],
        channels=sizes.channels,
        widths=sizes.widths,
        blocks=sizes.blocks,
        attention=sizes.attention,
        head_channels=HEAD_CHANNELS,
        caption=CaptionConfig(
            vocabulary=shapes["token_embedding.weight"][0],
            context=shapes["positional_embedding"][0],
            width=width,
            layers=count_children(weights, "transformer.resblocks."),
            heads=width // HEAD_CHANNELS,
        ),
    )
    if found == PRESETS[part]:
        return found
    if image_size is None:
        option = "large_size" if found.low_size else "image_size"
        raise CheckpointError(f"{weights.where}: its sizes are those of no released GLIDE, so say {option}")
    check_size(image_size, sizes.widths, weights.where)
    return replace(found, image_size=image_size, low_size=low_size if found.low_size else None)


def noised_clip_config(image: Weights, text: Weights) -> NoisedCLIPConfig:
    """Sizes of the noised CLIP from the shapes of its two files; its heads have 64 channels."""
    patches, words = image.shapes["blocks.input.patch_proj"], text.shapes["blocks.input.w_voc"]
    grid = round((image.shapes["blocks.input.w_pos"][0] - 1) ** 0.5)
    layers = [count_children(weights, "blocks.block_") for weights in (image, text)]
    return NoisedCLIPConfig(
        embedding=image.shapes["blocks.output.f.w"][0],
        image=VisionTransformerConfig(
            grid * patches[2], patches[2], patches[0], layers[0], patches[0] // HEAD_CHANNELS
        ),
        text=TextTransformerConfig(
            words[0], text.shapes["blocks.input.w_pos"][0], words[1], layers[1], words[1] // HEAD_CHANNELS
        ),
        end_token=CLIPTokenizer.end,
        labels=image.shapes["blocks.input.w_t"][0],
    )


# --- conversion ---


def looks_like(source: Source) -> bool:
    """True for a file of GLIDE's, or a folder that holds one."""
    return has_role(source, role)


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family "glide": what is there of the six networks, with the tokenizer.

    Where there is a base model that fills in and one that does not, the bundle keeps both; the first alone
    also draws from nothing.

    Raises:
        CheckpointError: files that do not fit the format, or each other.
        InputError: a vocabulary that is not there or not the right one.
    """
    found = _found(source, options)
    tokenizer = GlideTokenizer.load(Path(options.get("tokenizer", source.folder)))
    image_size = choose(options, "image_size", whole, None)
    parts: dict[str, Part] = {"tokenizer": Part(tokenizer)}
    drawn = glide_config(found[BASE if BASE in found else BASE_INPAINT], image_size)
    if tokenizer.vocabulary != drawn.caption.vocabulary:
        raise InputError(
            f"the tokenizer has {tokenizer.vocabulary} tokens and the model {drawn.caption.vocabulary}: give "
            "tokenizer=FOLDER with GPT-2's vocabulary"
        )
    for plain, filling, component in (
        (BASE, BASE_INPAINT, "glide"),
        (UPSAMPLE, UPSAMPLE_INPAINT, "upsampler"),
    ):
        held = [name for name in (plain, filling) if name in found]
        for name in held:
            config = glide_config(
                found[name],
                image_size if component == "glide" else choose(options, "large_size", whole, None),
                None if component == "glide" else drawn.image_size,
            )
            title = component if component == "glide" else f"{component}-{config.image_size}"
            _check_fit(config, drawn, found[name].where)
            suffix = "-inpaint" if name == filling and plain in held else ""
            parts[f"{title}{suffix}"] = _drawing(found[name], config, SAMPLING[name])
    if CLIP_IMAGE in found and CLIP_TEXT in found:
        parts |= _noised_clip(found[CLIP_IMAGE], found[CLIP_TEXT], drawn.image_size)
    return Conversion("glide", "glide", parts, LICENCE, DATA)


def _check_fit(config: GlideConfig, base: GlideConfig, where: str) -> None:
    side = config.image_size if config.low_size is None else config.low_size
    if side != base.image_size or config.caption.vocabulary != base.caption.vocabulary:
        raise CheckpointError(
            f"{where}: made for {side} px and {config.caption.vocabulary} tokens, the base model for "
            f"{base.image_size} px and {base.caption.vocabulary}"
        )


def _found(source: Source, options: Options) -> dict[str, Weights]:
    """The files of a source by their role, among them a base model."""
    named = (BASE_INPAINT, UPSAMPLE, UPSAMPLE_INPAINT, CLIP_IMAGE, CLIP_TEXT)
    found = by_role(source, role, options, named)
    if BASE not in found and BASE_INPAINT not in found:
        held = ", ".join(found) or "nothing of GLIDE's"
        raise CheckpointError(
            f"{source}: holds {held}, and no base model: convert base.pt or base_inpaint.pt"
        )
    for half, other in ((CLIP_IMAGE, CLIP_TEXT), (CLIP_TEXT, CLIP_IMAGE)):
        if half in found and other not in found:
            raise CheckpointError(
                f"{source}: has {half} of the noised CLIP and not {other}: give {other}=FILE"
            )
    return found


def _drawing(weights: Weights, config: GlideConfig, sampling: GuidedSampling) -> Part:
    schedule = ScheduleName.COSINE if config.low_size is None else ScheduleName.LINEAR
    keys = glide_table(cast(Glide, unfilled("glide", config)))
    return Part(
        build("glide", config, keys, weights, weights.where),
        diffusion=DiffusionConfig(schedule=schedule, prediction=Prediction.EPSILON, learned_range=True),
        sampling=sampling,
        licence=LICENCE,
        data=DATA,
    )


def _noised_clip(image: Weights, text: Weights, size: int) -> dict[str, Part]:
    config = noised_clip_config(image, text)
    if config.image.image_size != size:
        raise CheckpointError(
            f"{image.where}: sees {config.image.image_size} px and the base model draws {size} px"
        )
    where = f"{image.where} and {text.where}"
    weights = gathered(where, {"image": image, "text": text})
    model = build("noised-clip", config, noised_clip_table(), weights, where)
    return {
        "noised-clip": Part(model, licence=LICENCE, data=DATA),
        "clip-tokenizer": Part(CLIPTokenizer.load(SHIPPED_VOCABULARY)),
    }


FORMAT = Format(
    name="glide",
    title="GLIDE (glide-text2im's .pt files)",
    family="glide",
    looks_like=looks_like,
    convert=convert,
    options=OPTIONS,
)
