"""Karlo as Kakao Brain published it: a folder of checkpoints, each of one network or two.

`prior-*.ckpt`, `decoder-*.ckpt`, `improved-sr-*.ckpt`, `ViT-L-14_stats.th` (mean and standard deviation of
CLIP's image embeddings) and OpenAI's `ViT-L-14.pt`. Which file is which is judged by its tensors. Query, key
and value are interleaved head by head; sizes are told by shapes.

Facts are from kakaobrain/karlo, and names from Diffusers' conversion script for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from torch import nn

from unclip.bundle import Part
from unclip.checkpoints import clip_openai
from unclip.checkpoints.clip_layout import TOKENIZER_OPTION
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build
from unclip.checkpoints.guided_unet import measure, unet_rules
from unclip.checkpoints.karlo import (
    DECODER,
    PRIOR,
    PROCESSES,
    UPSAMPLER,
    context_tokens_rule,
    conversion,
    null_embedding_rule,
)
from unclip.checkpoints.table import Rule, Table, interleaved_heads
from unclip.checkpoints.transforms import gathered
from unclip.checkpoints.weights import SUFFIXES, Weights, count_children, open_weights
from unclip.errors import CheckpointError
from unclip.models import decoder as decoders
from unclip.models import prior as priors
from unclip.models import upsampler as upsamplers
from unclip.models.decoder import Decoder, DecoderConfig
from unclip.models.prior import DiffusionPrior, PriorConfig
from unclip.models.upsampler import Upsampler, UpsamplerConfig
from unclip.native import unfilled
from unclip.tokenizer import CLIPTokenizer

MODEL, FIRST_STEPS, FINAL_STEP = (
    "state_dict.model",
    "state_dict.model_first_steps",
    "state_dict.model_last_step",
)
STATISTICS, CLIP = "statistics", "clip"
# tensors that only one of the files has
MARKS = {
    f"{MODEL}.prd_emb": PRIOR,
    f"{MODEL}.clip_tok_proj.weight": DECODER,
    f"{FIRST_STEPS}.input_blocks.0.0.weight": UPSAMPLER,
    "visual.proj": CLIP,
}
NEEDED = {
    PRIOR: "prior-ckpt-step=01000000-of-01000000.ckpt",
    DECODER: "decoder-ckpt-step=01000000-of-01000000.ckpt",
    UPSAMPLER: "improved-sr-ckpt-step=1.2M.ckpt",
    STATISTICS: "ViT-L-14_stats.th",
    CLIP: "ViT-L-14.pt",
}
HEAD_CHANNELS = 64  # of prior and decoder, which shapes do not tell
PRIOR_LIMIT = 10.0  # to which the original sampler clamps x0; Diffusers' config says 5


def role(weights: Weights) -> str | None:
    """The component that a file holds; None where it is none of Karlo's."""
    for name, found in MARKS.items():
        if name in weights:
            return found
    shapes = set(weights.shapes.values())
    alike = len(weights) == 2 and len(shapes) == 1 and all(len(shape) == 1 for shape in shapes)
    return STATISTICS if alike else None


# --- the key tables ---


def prior_table(heads: int) -> Table:
    """The prior as `model.`, the statistics as `statistics.`."""
    return Table(_prior_rules(heads))


def _prior_rules(heads: int) -> Iterator[Rule]:
    yield Rule("whitening.mean", f"{STATISTICS}.0")
    yield Rule("whitening.std", f"{STATISTICS}.1")
    names = {
        "sequence_in.1": "text_enc_proj",
        "text_in": "text_emb_proj",
        "time.linear_in": "time_embed.0",
        "time.linear_out": "time_embed.2",
        "image_in": "clip_img_proj",
        "norm_out": "final_ln",
        "out": "out_proj",
    }
    for ours, theirs in names.items():
        yield Rule(f"{ours}.{{p}}", f"model.{theirs}.{{p}}")
    yield Rule("query", "model.prd_emb", lambda theirs: theirs[0, 0], lambda ours: ours[None, None])
    yield Rule("position", "model.positional_embedding", lambda theirs: theirs[0], lambda ours: ours[None])
    block = "transformer.resblocks.{i}"
    attention, theirs = f"{block}.attn", f"model.{block}.attn"
    for part in ("weight", "bias"):
        yield Rule(f"{attention}.in_proj_{part}", f"{theirs}.c_qkv.{part}", *interleaved_heads(heads))
    yield Rule(f"{attention}.out_proj.{{p}}", f"{theirs}.c_proj.{{p}}")
    for name in ("ln_1.{p}", "ln_2.{p}", "mlp.{name*}"):
        yield Rule(f"{block}.{name}", f"model.{block}.{name}")


def decoder_table(decoder: Decoder) -> Table:
    """The decoder, with what makes context tokens of CLIP's embeddings and features."""
    names = {
        "image_to_time": "clip_emb",
        "text_to_time": "text_feat_proj",
        "text_to_context.0": "text_seq_proj.0",
        "text_to_context.1": "text_seq_proj.1",
    }
    return Table(
        [
            null_embedding_rule("cf_param"),
            *(context_tokens_rule("clip_tok_proj", decoder.config.tokens, p) for p in ("weight", "bias")),
            *(Rule(f"{ours}.{{p}}", f"{theirs}.{{p}}") for ours, theirs in names.items()),
            *unet_rules(decoder.unet, by_head=True),
        ]
    )


def upsampler_table(upsampler: Upsampler) -> Table:
    """One of the upsampler's two networks."""
    return Table([*unet_rules(upsampler.unet, by_head=True)])


# --- reading ---


def looks_like(source: Source) -> bool:
    """True for one of Karlo's three checkpoints, or a folder that holds one."""
    files = [source.path] if source.path.is_file() else _files(source.path)
    return any(Source(file).has_weights and role(Source(file).weights) in PROCESSES for file in files)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (*SUFFIXES, ".th") and path.is_file())


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family "unclip" of all files in the source's folder.

    Raises:
        CheckpointError: one of the five is missing, there are two of a kind, or tensors do not fit.
    """
    found: dict[str, Weights] = {}
    for path in _files(source.folder):
        weights = open_weights(path)
        kind = role(weights)
        if kind in found:
            raise CheckpointError(f"{source}: {found[kind].where} and {path} are both of the kind {kind}")
        if kind is not None:
            found[kind] = weights
    clip = options.get(CLIP) or (found[CLIP].where if CLIP in found else None)
    missing = [name for kind, name in NEEDED.items() if kind not in found and (kind != CLIP or clip is None)]
    if missing or clip is None:
        raise CheckpointError(f"{source.folder}: needs {', '.join(missing)} as well")
    parts = _clip(Path(clip), options)
    decoder = _decoder(found[DECODER])
    low = decoder.config.image_size
    processes = {
        **PROCESSES,
        PRIOR: replace(PROCESSES[PRIOR], sampling=replace(PROCESSES[PRIOR].sampling, limit=PRIOR_LIMIT)),
    }
    return conversion(
        tokenizer=cast(CLIPTokenizer, parts["tokenizer"].source),
        clip=cast(nn.Module, parts[CLIP].source),
        prior=_prior(found[PRIOR], found[STATISTICS]),
        decoder=decoder,
        upsamplers=(
            _upsampler(found[UPSAMPLER].inside(FIRST_STEPS), low),
            _upsampler(found[UPSAMPLER].inside(FINAL_STEP), low),
        ),
        processes=processes,
        preprocessing=parts[CLIP].preprocessing,
        notes=(f"The sides are Karlo's, {low} and {4 * low} px: these files do not say them.",),
    )


def _clip(path: Path, options: Options) -> Mapping[str, Part]:
    own = {name: value for name, value in options.items() if name in TOKENIZER_OPTION}
    return clip_openai.FORMAT.read(Source(path), own).parts


def _prior(weights: Weights, statistics: Weights) -> DiffusionPrior:
    own = weights.inside(MODEL)
    shapes = own.shapes
    try:
        _, positions, width = shapes["positional_embedding"]
        embedding, _ = shapes["out_proj.weight"]
        _, text_width = shapes["text_enc_proj.weight"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{weights.where}: not the tensors of Karlo's prior ({error})") from error
    config: PriorConfig = replace(
        priors.KARLO,
        embedding=embedding,
        text_width=text_width,
        context=positions - DiffusionPrior.SPECIAL,
        width=width,
        layers=count_children(shapes, "transformer.resblocks."),
        heads=width // HEAD_CHANNELS,
    )
    both = gathered(weights.where, {"model": own, STATISTICS: statistics})
    table = prior_table(config.heads)
    return cast(DiffusionPrior, build("diffusion-prior", config, table, both, weights.where))


def _decoder(weights: Weights) -> Decoder:
    own = weights.inside(MODEL)
    sizes = measure(own.shapes, weights.where)
    try:
        context, text_width = own.shapes["text_seq_proj.0.weight"]
        rows, embedding = own.shapes["clip_tok_proj.weight"]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{weights.where}: not the tensors of Karlo's decoder ({error})") from error
    config: DecoderConfig = replace(
        decoders.KARLO,
        channels=sizes.channels,
        multipliers=tuple(width // sizes.channels for width in sizes.widths),
        blocks=sizes.blocks,
        attention=sizes.attention,
        head_channels=HEAD_CHANNELS,
        embedding=embedding,
        tokens=rows // context,
        context=context,
        text_width=text_width,
    )
    table = decoder_table(cast(Decoder, unfilled("decoder", config)))
    return cast(Decoder, build("decoder", config, table, own, weights.where))


def _upsampler(weights: Weights, low_size: int) -> Upsampler:
    sizes = measure(weights.shapes, weights.where)
    config: UpsamplerConfig = replace(
        upsamplers.KARLO,
        low_size=low_size,
        high_size=4 * low_size,
        channels=sizes.channels,
        multipliers=tuple(width // sizes.channels for width in sizes.widths),
        blocks=sizes.blocks,
    )
    table = upsampler_table(cast(Upsampler, unfilled("upsampler", config)))
    return cast(Upsampler, build("upsampler", config, table, weights, weights.where))


FORMAT = Format(
    name="karlo-original",
    title="Karlo (Kakao Brain's .ckpt files in a folder)",
    family="unclip",
    looks_like=looks_like,
    convert=convert,
    options={**TOKENIZER_OPTION, CLIP: "OpenAI's ViT-L-14.pt, where it is not in the folder"},
)
