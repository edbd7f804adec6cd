"""The UNet in the files of guided-diffusion and GLIDE: its key table, and its sizes from shapes.

Facts are from openai/guided-diffusion (`unet.py`) and openai/glide-text2im (`unet.py`): blocks are numbered
through all levels, attention follows its residual block as child 1, and on the way up the block that enlarges
stands as the last child of the stage before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from unclip.checkpoints.table import Rule, interleaved_heads
from unclip.checkpoints.weights import count_children
from unclip.errors import CheckpointError
from unclip.nn.unet import AttentionBlock, HalfUNet, Stage, UNet

# our parts of a residual block and theirs
RESIDUAL = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "modulation": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
}
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sizes:
    """The sizes that the shapes of a network's tensors tell.

    Attributes:
        in_channels: of the pictures that go in.
        out_channels: of what comes out; None for half a network.
        channels: features of the time label's sinusoids.
        widths: channels of each level, the finest first.
        blocks: residual blocks a level on the way down.
        attention: downsampling factors whose blocks attend.
        context: width of the context tokens; None where there are none.
    """

    in_channels: int
    out_channels: int | None
    channels: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    context: int | None


def measure(shapes: Shapes, where: str) -> Sizes:
    """The sizes of a UNet, or of half of one, in guided-diffusion's names.

    Raises:
        CheckpointError: the tensors do not make such a network, or not one alone.
    """
    try:
        count = count_children(shapes, "input_blocks.")
        first = shapes["input_blocks.0.0.weight"]
        widths = [shapes[f"input_blocks.{n}.0.out_layers.3.weight"][0] for n in range(1, count)]
        attends = [f"input_blocks.{n}.1.qkv.weight" in shapes for n in range(1, count)]
        levels = _levels(shapes, widths, attends, where)
        blocks = count // levels - 1
        starts = range(0, count - 1, blocks + 1)  # of the levels, the first stage being 0
        context = shapes.get("middle_block.1.encoder_kv.weight")
        return Sizes(
            in_channels=first[1],
            out_channels=shapes["out.2.weight"][0] if count_children(shapes, "output_blocks.") else None,
            channels=shapes["time_embed.0.weight"][1],
            widths=tuple(widths[start] for start in starts),
            blocks=blocks,
            attention=tuple(2**level for level, start in enumerate(starts) if attends[start]),
            context=None if context is None else context[1],
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{where}: not a UNet of guided-diffusion with residual blocks that resample: {error} is missing"
        ) from None


def _levels(shapes: Shapes, widths: list[int], attends: list[bool], where: str) -> int:
    """The number of levels.

    A whole network tells it on the way up, where a stage that enlarges has a second residual block. Half of
    one tells it by what stands at the ends of levels: a block that neither attends nor changes the width.
    """
    stages = count_children(shapes, "output_blocks.")
    if stages:
        enlarging = sum(
            any(f"output_blocks.{m}.{child}.in_layers.0.weight" in shapes for child in (1, 2))
            for m in range(stages)
        )
        return enlarging + 1
    count = len(widths) + 1
    fitting = [
        levels
        for levels in range(1, count)
        if count % levels == 0 and _fits(widths, attends, count // levels)
    ]
    if len(fitting) != 1:
        raise CheckpointError(
            f"{where}: {count} blocks make {' or '.join(map(str, fitting)) or 'no number of'} levels: "
            "its shapes do not tell which"
        )
    return fitting[0]


def _fits(widths: list[int], attends: list[bool], stride: int) -> bool:
    """True where the stages are levels of stride - 1 blocks, between two of them one that halves the side."""
    if stride < 2:
        return False
    for start in range(0, len(widths), stride):
        level = slice(start, start + stride - 1)
        if len(set(widths[level])) != 1 or len(set(attends[level])) != 1:
            return False
        end = start + stride - 1
        if end < len(widths) and (attends[end] or widths[end] != widths[start]):
            return False
    return True


def unet_rules(unet: HalfUNet, *, by_head: bool) -> Iterator[Rule]:
    """The key table of a network's UNet and its time embedding, our `unet` and `time`.

    Args:
        unet: ours; only its structure is read.
        by_head: whether the attention keeps queries, keys and values head by head (guided-diffusion's legacy
            order, and GLIDE's), or all queries first. Shapes do not tell.
    """
    yield Rule("time.linear_in.{p}", "time_embed.0.{p}")
    yield Rule("time.linear_out.{p}", "time_embed.2.{p}")
    yield Rule("unet.conv_in.{p}", "input_blocks.0.0.{p}")
    for n, module in enumerate(unet.down, start=1):
        yield from _stage(module, f"unet.down.{n - 1}", f"input_blocks.{n}", by_head)
    first = unet.middle[0]
    yield from _stage(first, "unet.middle.0", "middle_block", by_head)
    second = 1 if cast(Stage, first).attention is None else 2  # its number follows the attention's
    yield from _residual("unet.middle.1.residual", f"middle_block.{second}")
    if isinstance(unet, UNet):
        stage, children = -1, 0
        for n, module in enumerate(unet.up):
            if isinstance(module, Stage) and module.residual.scale > 1:
                yield from _residual(f"unet.up.{n}.residual", f"output_blocks.{stage}.{children}")
                continue
            stage += 1
            children = 1 if module.attention is None else 2
            yield from _stage(module, f"unet.up.{n}", f"output_blocks.{stage}", by_head)
        yield Rule("unet.norm_out.{p}", "out.0.{p}")
        yield Rule("unet.conv_out.{p}", "out.2.{p}")


def _stage(stage: Any, ours: str, theirs: str, by_head: bool) -> Iterator[Rule]:
    yield from _residual(f"{ours}.residual", f"{theirs}.0")
    if stage.attention is not None:
        yield from _attention(stage.attention, f"{ours}.attention", f"{theirs}.1", by_head)


def _residual(ours: str, theirs: str) -> Iterator[Rule]:
    for mine, other in RESIDUAL.items():
        yield Rule(f"{ours}.{mine}.{{p}}", f"{theirs}.{other}.{{p}}")


def _attention(block: AttentionBlock, ours: str, theirs: str, by_head: bool) -> Iterator[Rule]:
    yield Rule(f"{ours}.norm.{{p}}", f"{theirs}.norm.{{p}}")
    heads = block.heads if by_head else None
    yield from linear_rules(f"{ours}.qkv", f"{theirs}.qkv", heads, parts=3)
    if block.context_kv is not None:
        yield from linear_rules(f"{ours}.context_kv", f"{theirs}.encoder_kv", heads, parts=2)
    yield from linear_rules(f"{ours}.out", f"{theirs}.proj_out")


def linear_rules(ours: str, theirs: str, heads: int | None = None, parts: int = 1) -> Iterator[Rule]:
    """A linear layer that they keep as a convolution of width 1, and perhaps in another order of rows.

    Args:
        ours, theirs: names of the layers.
        heads: where given, they order the rows by head, then part (query, key, value); we by part first.
        parts: how many there are.
    """
    read, write = (_same, _same) if heads is None else interleaved_heads(heads, parts)
    yield Rule(
        f"{ours}.weight",
        f"{theirs}.weight",
        lambda theirs: read(theirs.flatten(1)),
        lambda ours: write(ours).unsqueeze(-1),
    )
    yield Rule(f"{ours}.bias", f"{theirs}.bias", read, write)


def _same(tensor: Tensor) -> Tensor:
    return tensor


Choice = Callable[[str], Any]


def choose(options: Mapping[str, str], name: str, kind: Choice, default: Any) -> Any:
    """An option's value, or the default where it is not given.

    Raises:
        CheckpointError: `kind` raised ValueError; its message says what is allowed.
    """
    if name not in options:
        return default
    try:
        return kind(options[name])
    except ValueError as error:
        raise CheckpointError(f"{name} is {options[name]!r}: {error}") from None


def whole(text: str) -> int:
    """A positive whole number, as `choose` takes it."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("choose a whole number from 1")
    return int(text)


def check_heads(sizes: Sizes, heads: int | None, head_channels: int, where: str) -> None:
    """Raises CheckpointError where the channels of an attention block do not divide into its heads.

    Each attention has `heads` heads, or where that is None heads of `head_channels`.
    """
    widths, attention = sizes.widths, sizes.attention  # the middle of the network always attends
    for channels in (*(width for level, width in enumerate(widths) if 2**level in attention), widths[-1]):
        if channels % (heads or head_channels):
            raise CheckpointError(
                f"{where}: {channels} channels of attention do not divide into "
                f"{f'num_heads={heads}' if heads else f'heads of num_head_channels={head_channels}'}: "
                "say what its flags were"
            )


def check_size(size: int, widths: tuple[int, ...], where: str) -> None:
    """Raises CheckpointError where the side of a picture does not halve from level to level."""
    most = 2 ** (len(widths) - 1)
    if size % most:
        raise CheckpointError(
            f"{where}: a picture of {size} px does not halve {len(widths) - 1} times, as its {len(widths)} "
            f"levels do: say another image_size, a multiple of {most}"
        )
