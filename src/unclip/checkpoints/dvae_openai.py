"""OpenAI's discrete VAE of DALL-E 1: `encoder.pkl` and `decoder.pkl`, each a whole pickled module.

Layout: github.com/openai/DALL-E, `dall_e/encoder.py` and `dall_e/decoder.py`. The sizes are read from the
tensors' shapes.
"""

from __future__ import annotations

from unclip.bundle import Part
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build
from unclip.checkpoints.table import Rule, Table
from unclip.checkpoints.transforms import gathered
from unclip.checkpoints.weights import Weights, count_children, open_weights
from unclip.errors import CheckpointError, InputError
from unclip.models.vqvae import VQVAEConfig

HALVES = {"encoder": "encoder.pkl", "decoder": "decoder.pkl"}
INPUT = "blocks.input.w"
OUTPUT = "blocks.output.conv.w"
LICENCE = "MIT (modified)"
DATA = "public pictures with texts from the web (2102.12092, section 2.3; not published)"

TABLE = Table(
    [
        Rule("{half}.{rest*}.weight", "{half}.{rest*}.w"),
        Rule("{half}.{rest*}.bias", "{half}.{rest*}.b"),
    ]
)


def looks_like(source: Source) -> bool:
    """Either half, or a folder with both: no other model calls a convolution's weight `w`."""
    if source.path.is_dir():
        return all((source.path / name).is_file() for name in HALVES.values())
    return source.has_weights and {INPUT, OUTPUT} <= set(source.weights)


def convert(source: Source, options: Options) -> Conversion:
    """Both halves, of which the source may be either, as one codec."""
    halves = {half: _half(source, half) for half in HALVES}
    weights = gathered(str(source), halves)
    model = build("vqvae", read_config(weights), TABLE, weights, str(source))
    return Conversion("dvae", "codec", {"codec": Part(model, licence=LICENCE, data=DATA)}, LICENCE, DATA)


def read_config(weights: Weights) -> VQVAEConfig:
    """The sizes that tensors `encoder.*` and `decoder.*` have. Raises CheckpointError for other tensors."""
    shapes = weights.shapes
    try:
        channels = shapes[f"encoder.{INPUT}"][0]
        vocabulary = shapes[f"encoder.{OUTPUT}"][0]
        decoder_channels = shapes[f"decoder.{INPUT}"][0]
        groups = count_children(weights, "encoder.blocks.group_")
        blocks = count_children(weights, "encoder.blocks.group_1.block_")
        widths = [
            shapes[f"encoder.blocks.group_{group}.block_1.res_path.conv_4.w"][0]
            for group in range(1, groups + 1)
        ]
    except KeyError as error:
        raise CheckpointError(f"{weights.where}: no {error.args[0]}: not OpenAI's discrete VAE") from error
    multipliers = tuple(width // channels for width in widths)
    try:
        return VQVAEConfig(vocabulary, channels, multipliers, blocks, decoder_channels)
    except InputError as error:
        raise CheckpointError(f"{weights.where}: not OpenAI's discrete VAE ({error})") from error


def _half(source: Source, half: str) -> Weights:
    """One half: the source itself where it is this one, else the file of the usual name beside it."""
    if source.path.is_file() and _is(source.weights, half):
        return source.weights
    path = source.folder / HALVES[half]
    if not path.is_file():
        raise CheckpointError(f"{path}: missing: a discrete VAE is {' and '.join(HALVES.values())} together")
    weights = open_weights(path)
    if not _is(weights, half):
        raise CheckpointError(f"{path}: is not the {half} of OpenAI's discrete VAE")
    return weights


def _is(weights: Weights, half: str) -> bool:
    """The encoder begins with a 7 x 7 convolution, the decoder with a 1 x 1."""
    shape = weights.shapes.get(INPUT, ())
    return len(shape) == 4 and (shape[-1] > 1) == (half == "encoder")


FORMAT = Format(
    name="dvae-openai",
    title="OpenAI's discrete VAE of DALL-E 1 (encoder.pkl and decoder.pkl)",
    family="codec",
    looks_like=looks_like,
    convert=convert,
)
