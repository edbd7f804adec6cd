"""Diffusers' UNets that Karlo is made of: their key table, and their configs read and written.

UNet2DConditionModel with blocks that attend "simply" (context before the grid's own keys), and UNet2DModel
without attention. Facts are from huggingface/diffusers (`models/unets`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any, cast

from unclip.checkpoints.table import Rule, joined_rows
from unclip.errors import CheckpointError
from unclip.nn.group_norm import NORM_GROUPS
from unclip.nn.unet import Stage, UNet

ATTENDING_DOWN, ATTENDING_UP = "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D"
PLAIN_DOWN, PLAIN_UP = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"
ATTENDING_MIDDLE, PLAIN_MIDDLE = "UNetMidBlock2DSimpleCrossAttn", "UNetMidBlock2D"

# our parts of a residual block and theirs
RESIDUAL = {
    "norm_in": "norm1",
    "conv_in": "conv1",
    "modulation": "time_emb_proj",
    "norm_out": "norm2",
    "conv_out": "conv2",
    "skip": "conv_shortcut",
}
# What a config may say of things that there is one way to do here. What is null means nothing.
FIXED: dict[str, Any] = {
    "act_fn": "silu",
    "center_input_sample": False,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": NORM_GROUPS,
    "time_embedding_type": "positional",
}
FIXED_CONDITIONAL = FIXED | {
    "attention_type": "default",
    "class_embed_type": "identity",
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "dual_cross_attention": False,
    "mid_block_type": ATTENDING_MIDDLE,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "scale_shift",
    "upcast_attention": False,
}
FIXED_PLAIN = FIXED | {
    "add_attention": False,
    "downsample_type": "conv",
    "mid_block_type": PLAIN_MIDDLE,
    "resnet_time_scale_shift": "default",
    "upsample_type": "conv",
}
# They say nothing about networks of this kind: transformers inside blocks, attention that is not there.
IDLE_CONDITIONAL = ("addition_embed_type_num_heads", "transformer_layers_per_block", "use_linear_projection")
IDLE_PLAIN = ("attention_head_dim", "num_train_timesteps")
SIZES = (
    "sample_size",
    "in_channels",
    "out_channels",
    "down_block_types",
    "up_block_types",
    "block_out_channels",
    "layers_per_block",
    "dropout",
)


@dataclass(frozen=True)
class Sizes:
    """The sizes in a UNet's config, named as in `UNetConfig`; `image_size` is None where it says none."""

    image_size: int | None
    in_channels: int
    out_channels: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    dropout: float


def refuse_unknown(
    config: Mapping[str, Any], fixed: Mapping[str, Any], read: Collection[str], where: str
) -> None:
    """Raise CheckpointError where a config says what is not done here.

    Args:
        config: theirs. Keys with an underscore in front and null values say nothing.
        fixed: what there is one way to do, and which.
        read: keys that somebody reads.
        where: what the config is called in messages.
    """
    for key, value in config.items():
        if key.startswith("_") or key in read or value is None:
            continue
        if key not in fixed:
            raise CheckpointError(f"{where}: says {key} {value!r}, which is not known here")
        if value != fixed[key]:
            raise CheckpointError(f"{where}: says {key} {value!r}, and only {fixed[key]!r} is done here")


def required(config: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    """A config's value. Raises CheckpointError where it is not there or of another type."""
    value = config.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CheckpointError(f"{where}: {key} is {value!r}, expected {kind.__name__}")
    return value


def unet_sizes(config: Mapping[str, Any], where: str, *, conditional: bool) -> Sizes:
    """The sizes of a UNet2DConditionModel (`conditional`) or of a UNet2DModel.

    Raises:
        CheckpointError: it says something that is not done here, or its blocks do not mirror each other.
    """
    if conditional:
        read = {*SIZES, *IDLE_CONDITIONAL, "cross_attention_dim", "attention_head_dim"}
        refuse_unknown(config, FIXED_CONDITIONAL, read, where)
    else:
        refuse_unknown(config, FIXED_PLAIN, {*SIZES, *IDLE_PLAIN}, where)
    widths = required(config, "block_out_channels", list, where)
    down, up = (required(config, f"{way}_block_types", list, where) for way in ("down", "up"))
    ways = {PLAIN_DOWN: PLAIN_UP, **({ATTENDING_DOWN: ATTENDING_UP} if conditional else {})}
    if any(block not in ways for block in down) or [ways[block] for block in reversed(down)] != up:
        raise CheckpointError(
            f"{where}: blocks {down} and {up}: known are {', '.join(ways)} and, mirrored, "
            f"{', '.join(ways.values())}"
        )
    attention = tuple(2**level for level, block in enumerate(down) if block == ATTENDING_DOWN)
    if conditional and not attention:
        raise CheckpointError(f"{where}: the middle attends and no other block does, which is not done here")
    odd = [width for width in widths if width % widths[0] or gcd(width, NORM_GROUPS) != NORM_GROUPS]
    if odd or len(widths) != len(down):
        raise CheckpointError(
            f"{where}: block_out_channels {widths}: one for each block, multiples of the first and of "
            f"{NORM_GROUPS}, are expected"
        )
    size = config.get("sample_size")
    return Sizes(
        image_size=None if size is None else required(config, "sample_size", int, where),
        in_channels=required(config, "in_channels", int, where),
        out_channels=required(config, "out_channels", int, where),
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=required(config, "layers_per_block", int, where),
        attention=attention,
        dropout=float(config.get("dropout") or 0.0),
    )


def unet_config(unet: UNet, image_size: int) -> dict[str, Any]:
    """The config of a UNet of ours as theirs; the inverse of `unet_sizes`."""
    config = unet.config
    attends = [2**level in config.attention for level in range(len(config.multipliers))]
    shared: dict[str, Any] = {
        "sample_size": image_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "down_block_types": [ATTENDING_DOWN if attending else PLAIN_DOWN for attending in attends],
        "up_block_types": [ATTENDING_UP if attending else PLAIN_UP for attending in reversed(attends)],
        "block_out_channels": [config.channels * multiplier for multiplier in config.multipliers],
        "layers_per_block": config.blocks,
        "dropout": config.dropout,
    }
    if config.context is None:
        return {"_class_name": "UNet2DModel", **FIXED_PLAIN, **shared}
    return {
        "_class_name": "UNet2DConditionModel",
        **FIXED_CONDITIONAL,
        **shared,
        "cross_attention_dim": config.context,
        "attention_head_dim": config.head_channels,
    }


def unet_rules(unet: UNet, theirs: str = "") -> Iterator[Rule]:
    """The key table of a UNet and its time embedding; `theirs` stands before their names.

    Our names are those of a model that has the network as `unet` and the time embedding as `time`.
    """
    yield Rule("time.linear_in.{p}", f"{theirs}time_embedding.linear_1.{{p}}")
    yield Rule("time.linear_out.{p}", f"{theirs}time_embedding.linear_2.{{p}}")
    yield Rule("unet.conv_in.{p}", f"{theirs}conv_in.{{p}}")
    level = block = 0
    for n, stage in enumerate(cast("Iterator[Stage]", unet.down)):
        halves = stage.residual.scale < 1
        name = f"down_blocks.{level}."
        yield from _stage(stage, f"unet.down.{n}", f"{theirs}{name}", block, "downsamplers" if halves else "")
        level, block = (level + 1, 0) if halves else (level, block + 1)
    for n, stage in enumerate(cast("Iterator[Stage]", unet.middle)):
        yield from _stage(stage, f"unet.middle.{n}", f"{theirs}mid_block.", n, "")
    level = block = 0
    for n, stage in enumerate(cast("Iterator[Stage]", unet.up)):
        doubles = stage.residual.scale > 1
        if block > unet.config.blocks and not doubles:
            level, block = level + 1, 0
        name = f"up_blocks.{level}."
        yield from _stage(stage, f"unet.up.{n}", f"{theirs}{name}", block, "upsamplers" if doubles else "")
        block += 1
    yield Rule("unet.norm_out.{p}", f"{theirs}conv_norm_out.{{p}}")
    yield Rule("unet.conv_out.{p}", f"{theirs}conv_out.{{p}}")


def _stage(stage: Stage, ours: str, theirs: str, block: int, resampler: str) -> Iterator[Rule]:
    residual = f"{theirs}{resampler}.0" if resampler else f"{theirs}resnets.{block}"
    for mine, other in RESIDUAL.items():
        yield Rule(f"{ours}.residual.{mine}.{{p}}", f"{residual}.{other}.{{p}}")
    if stage.attention is None:
        return
    mine, other = f"{ours}.attention", f"{theirs}attentions.{block}"
    yield Rule(f"{mine}.norm.{{p}}", f"{other}.group_norm.{{p}}")
    yield Rule(f"{mine}.qkv.{{p}}", _names(other, "to_q", "to_k", "to_v"), *joined_rows(3))
    yield Rule(f"{mine}.context_kv.{{p}}", _names(other, "add_k_proj", "add_v_proj"), *joined_rows(2))
    yield Rule(f"{mine}.out.{{p}}", f"{other}.to_out.0.{{p}}")


def _names(prefix: str, *layers: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{layer}.{{p}}" for layer in layers)
