"""VQGAN of taming-transformers (`.ckpt` with its YAML), and the same network as min-dalle and Flax keep it.

Layouts: github.com/CompVis/taming-transformers, `taming/models/vqgan.py`; min-dalle 0.4.11, the decoder alone
in `detoker.pt`; vqgan-jax, `flax_model.msgpack` with `config.json`. Sizes are read from the configuration
where there is one and otherwise from shapes: what a file leaves unsaid is only where the levels attend, and
that stands in its names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unclip.bundle import Part
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build
from unclip.checkpoints.table import Rule, Table, joined_rows
from unclip.checkpoints.transforms import permuted, renamed
from unclip.checkpoints.weights import Weights, count_children
from unclip.errors import CheckpointError, InputError, shown
from unclip.models.vqgan import VQGAN, PixelRange, VQGANConfig

CODEBOOK = "quantize.embedding.weight"
GUMBEL = "quantize.embed.weight"
MIN_DALLE_CODEBOOK = "embedding.weight"
FLAX_CODEBOOK = "quantize.embedding.embedding"
LARGEST_YAML = 2**16  # bytes; published ones have a few thousand, and PyYAML is slow
MIN_DALLE_EPSILON = 1e-5  # torch's default, where taming-transformers and Flax have 1e-6
LICENCE = "MIT"
DATA = "ImageNet (2012.09841)"

_JOIN, _SPLIT = joined_rows(3)


# ours, theirs: of a residual block
BLOCK = {
    "norm_in": "norm1",
    "conv_in": "conv1",
    "norm_out": "norm2",
    "conv_out": "conv2",
    "skip": "nin_shortcut",
}


def _table(codebook: str, ignored: tuple[str, ...] = ()) -> Table:
    rules = [Rule("codebook.weight", codebook)]
    for end in ("weight", "bias"):
        for attention in ("attn.{i}", "attn_{i}"):
            at = f"{{at*}}.{attention}"
            rules += [
                Rule(f"{at}.qkv.{end}", tuple(f"{at}.{name}.{end}" for name in "qkv"), _JOIN, _SPLIT),
                Rule(f"{at}.out.{end}", f"{at}.proj_out.{end}"),
            ]
        for block in ("block.{i}", "block_{i}"):
            at = f"{{at*}}.{block}"
            rules += [Rule(f"{at}.{ours}.{end}", f"{at}.{theirs}.{end}") for ours, theirs in BLOCK.items()]
        rules += [
            Rule(f"encoder.{{at*}}.resample.conv.{end}", f"encoder.{{at*}}.downsample.conv.{end}"),
            Rule(f"decoder.{{at*}}.resample.conv.{end}", f"decoder.{{at*}}.upsample.conv.{end}"),
        ]
    return Table([*rules, Rule("{same*}", "{same*}")], ignored)


# `loss` is the discriminator and the perceptual network of the training
TABLE = _table(CODEBOOK, ignored=("loss.{rest*}",))
MIN_DALLE_TABLE = _table(MIN_DALLE_CODEBOOK)


def looks_like(source: Source) -> bool:
    """A codebook and a decoder, in any of the three layouts; one with Gumbel's quantiser is refused later."""
    if not source.has_weights:
        return False
    names = set(_state(source.weights))
    books = {CODEBOOK, GUMBEL, MIN_DALLE_CODEBOOK, FLAX_CODEBOOK}
    return bool(books & names) and any(name.startswith("post_quant_conv.") for name in names)


def convert(source: Source, options: Options) -> Conversion:
    """The VQGAN of a source, as one codec."""
    model, notes = read(source)
    part = Part(model, licence=LICENCE, data=DATA)
    name = f"vqgan-f{model.config.factor}-{model.config.vocabulary}"
    return Conversion(name, "codec", {"codec": part}, LICENCE, DATA, notes)


def read(source: Source) -> tuple[VQGAN, tuple[str, ...]]:
    """The model of a source, and what had to be assumed. Raises CheckpointError where it is not a VQGAN."""
    weights = _state(source.weights)
    where = str(source)
    notes: tuple[str, ...] = ()
    if GUMBEL in weights:
        raise CheckpointError(
            f"{where}: a VQGAN with Gumbel's quantiser ({GUMBEL}): only those with a codebook ({CODEBOOK}) "
            "are read"
        )
    if FLAX_CODEBOOK in weights:
        weights = _of_flax(weights)
        config = _read_config(weights, CODEBOOK, source.configs.get("config.json", {}), PixelRange.UNIT, 1e-6)
        table, notes = TABLE, (f"the pictures inside are in {PixelRange.UNIT}, as DALL-E mini's are",)
    elif MIN_DALLE_CODEBOOK in weights:
        config = _read_config(weights, MIN_DALLE_CODEBOOK, {}, PixelRange.UNIT, MIN_DALLE_EPSILON)
        table, notes = MIN_DALLE_TABLE, (f"norms divide with {MIN_DALLE_EPSILON:g} added, as min-dalle does",)
    else:
        said = _yaml(source)
        config = _read_config(weights, CODEBOOK, said, PixelRange.SIGNED, 1e-6)
        table = TABLE
        if not said:
            notes = ("no YAML lay beside it: its sizes are those of its tensors",)
    model = build("vqgan", config, table, weights, where)
    assert isinstance(model, VQGAN)
    return model, notes


def _state(weights: Weights) -> Weights:
    """A checkpoint of Lightning's keeps the weights in "state_dict", beside optimisers and counters."""
    return (
        weights.inside("state_dict") if any(name.startswith("state_dict.") for name in weights) else weights
    )


def _read_config(
    weights: Weights, codebook: str, said: Mapping[str, Any], pixels: PixelRange, epsilon: float
) -> VQGANConfig:
    """The sizes of the tensors, which must be those that the configuration says."""
    shapes = weights.shapes
    try:
        vocabulary, embedding = shapes[codebook]
        levels = count_children(weights, "decoder.up.")
        blocks = count_children(weights, "decoder.up.0.block.") - 1
        widths = [shapes[f"decoder.up.{level}.block.0.conv1.weight"][0] for level in range(levels)]
        latent = shapes["decoder.conv_in.weight"][1]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{weights.where}: not a VQGAN of taming-transformers ({error})") from error
    channels = widths[0] if widths else 0
    attention = tuple(1 << i for i in range(levels) if f"decoder.up.{i}.attn.0.norm.weight" in weights)
    try:
        found = VQGANConfig(
            vocabulary=vocabulary,
            embedding=embedding,
            latent=latent,
            channels=channels,
            multipliers=tuple(width // channels for width in widths),
            blocks=blocks,
            attention=attention,
            encodes=any(name.startswith("encoder.") for name in weights),
            pixels=pixels,
            norm_epsilon=epsilon,
        )
    except InputError as error:
        raise CheckpointError(f"{weights.where}: not a VQGAN of taming-transformers ({error})") from error
    _compare(found, said, weights.where)
    return found


def _compare(config: VQGANConfig, said: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration that says something else, or something that this model cannot do."""
    if not said:
        return
    inner = said.get("ddconfig", said)
    expected = {
        "n_embed": (said, config.vocabulary),
        "embed_dim": (said, config.embedding),
        "z_channels": (inner, config.latent),
        "ch": (inner, config.channels),
        "ch_mult": (inner, list(config.multipliers)),
        "num_res_blocks": (inner, config.blocks),
        "in_channels": (inner, 3),
        "out_ch": (inner, 3),
        "double_z": (inner, False),
        "resamp_with_conv": (inner, True),
        "give_pre_end": (inner, False),
    }
    for key, (table, wanted) in expected.items():
        value = table.get(key, wanted)
        if (list(value) if isinstance(value, (list, tuple)) else value) != wanted:
            raise CheckpointError(
                f"{where}: its configuration says {key} {shown(value)}, its tensors {wanted!r}"
            )
    side, grids = inner.get("resolution"), inner.get("attn_resolutions")
    if side is not None and grids is not None:
        wanted = sorted(side // factor for factor in config.attention)
        possible = {side >> level for level in range(len(config.multipliers))}
        if sorted(set(grids) & possible) != wanted:
            raise CheckpointError(
                f"{where}: its configuration says attn_resolutions {shown(grids)}, its tensors {wanted}"
            )


def _yaml(source: Source) -> Mapping[str, Any]:
    """`model.params` of the YAML beside a checkpoint: of the same name, or the only one; else nothing."""
    beside = sorted({*source.folder.glob("*.yaml"), *source.folder.glob("*.yml")})
    named = [path for path in beside if path.stem == source.path.stem]
    chosen = named or (beside if len(beside) == 1 else [])
    return _params(chosen[0]) if chosen else {}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # it has no types
    """Without aliases, by which few lines become any number of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases, which no configuration needs")
        return super().compose_node(parent, index)


def _params(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > LARGEST_YAML:
        raise CheckpointError(f"{path}: more than {LARGEST_YAML} bytes: no configuration is that long")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        params = content["model"]["params"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no model.params of taming-transformers ({error!r})") from error
    if not isinstance(params, Mapping) or not isinstance(params.get("ddconfig", {}), Mapping):
        raise CheckpointError(f"{path}: model.params is not a table")
    return params


def _of_flax(weights: Weights) -> Weights:
    """The names and axes of taming-transformers for Flax's: `down_0.block_1`, `kernel`, `scale`."""
    names = renamed(weights, r"(?<=\.)(down|up|block|attn)_(\d+)(?=\.)", r"\1.\2")
    # the middle's parts are called block_1 and attn_1 in both
    names = renamed(names, r"\.mid\.(block|attn)\.(\d+)\.", r".mid.\1_\2.")
    names = renamed(names, r"^quantize\.embedding\.embedding$", CODEBOOK)
    names = renamed(names, r"\.scale$", ".weight")
    return permuted(names, ".kernel", ".weight", (3, 2, 0, 1))  # (height, width, in, out)


FORMAT = Format(
    name="vqgan-taming",
    title="VQGAN of taming-transformers (.ckpt with its YAML), of min-dalle or of Flax",
    family="codec",
    looks_like=looks_like,
    convert=convert,
)
