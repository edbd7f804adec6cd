"""DALL-E mini and mega, with their tokenizer and their VQGAN.

Two layouts: min-dalle's (`encoder.pt`, `decoder.pt`, `vocab.json`, `merges.txt`, with `detoker.pt` there or
in `vqgan` beside; `_mini` may follow each name) and the Flax original (`flax_model.msgpack` with all layers
of a network in one tensor each, `config.json`, `vocab.json`, `merges.txt`, the VQGAN in its own folder).

Both are of the same training runs, whose norms in front of a projection have no gain: theirs are ones here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unclip.bundle import Part
from unclip.checkpoints import vqgan_taming
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build
from unclip.checkpoints.table import Rule, Table, joined_rows
from unclip.checkpoints.transforms import filled, gathered, permuted, renamed, unstacked
from unclip.checkpoints.weights import Weights, count_children, open_weights
from unclip.errors import CheckpointError, InputError
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle_mini import PRESETS, DalleMiniConfig
from unclip.tokenizer import DalleMiniTokenizer

HEAD_WIDTH = 64  # of both published sizes; min-dalle's files do not say it
SUFFIXES = ("", "_mini")
DETOKENIZER = "detoker.pt"
VQGAN_FOLDERS = ("vqgan", "../vqgan", "vqgan_imagenet_f16_16384", "../vqgan_imagenet_f16_16384")
MARK = "layers.0.glu.fc0.weight"
FLAX_LAYERS = {half: f"model.{half}.layers.FlaxBart{half.title()}Layers" for half in ("encoder", "decoder")}
LICENCE = "Apache-2.0"
DATA = "Conceptual Captions, Conceptual 12M and a part of YFCC100M, by the model card of dalle-mini"

# How each project draws unless told otherwise: min-dalle 0.4.11, `generate_raw_image_stream`; dalle-mini's
# inference notebook.
MIN_DALLE_SAMPLING = CodeSampling(top_k=256, guidance=16.0)
FLAX_SAMPLING = CodeSampling(guidance=10.0)

# ours, theirs: norms
OUTER_NORMS = {"norm_embedding": "layernorm_embedding", "norm_out": "final_ln"}
NORMS = {
    "norm_in": "pre_self_attn_layer_norm",
    "norm_out": "self_attn_layer_norm",
    "cross_norm_in": "pre_encoder_attn_layer_norm",
    "cross_norm_out": "encoder_attn_layer_norm",
    "mlp.norm_in": "glu.ln0",
    "mlp.norm_inner": "glu.ln1",
}
# Those in front of a projection: what a gain would do, the projection can.
WITHOUT_GAIN = re.compile(
    r"(?:.*\.)?(pre_self_attn_layer_norm|pre_encoder_attn_layer_norm|glu\.ln[01]|final_ln)\.(weight|bias)"
)


def _projections(ours: str, theirs: tuple[str, ...]) -> Rule:
    at = "{half}.layers.{i}."
    if len(theirs) == 1:
        return Rule(at + ours, f"{at}{theirs[0]}.weight")
    return Rule(at + ours, tuple(f"{at}{name}.weight" for name in theirs), *joined_rows(len(theirs)))


TABLE = Table(
    [
        Rule("{half}.token.weight", "{half}.embed_tokens.weight"),
        Rule("{half}.position.weight", "{half}.embed_positions.weight"),
        Rule("decoder.out.weight", "decoder.lm_head.weight"),
        *(
            Rule(f"{{half}}.{ours}.{{end}}", f"{{half}}.{theirs}.{{end}}")
            for ours, theirs in OUTER_NORMS.items()
        ),
        *(
            Rule(f"{{half}}.layers.{{i}}.{ours}.{{end}}", f"{{half}}.layers.{{i}}.{theirs}.{{end}}")
            for ours, theirs in NORMS.items()
        ),
        _projections("attn.in_proj_weight", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        _projections("attn.out_proj.weight", ("self_attn.out_proj",)),
        _projections("cross.q_proj.weight", ("encoder_attn.q_proj",)),
        _projections("cross.kv_proj.weight", ("encoder_attn.k_proj", "encoder_attn.v_proj")),
        _projections("cross.out_proj.weight", ("encoder_attn.out_proj",)),
        _projections("mlp.in_proj.weight", ("glu.fc0", "glu.fc1")),
        _projections("mlp.out_proj.weight", ("glu.fc2",)),
    ]
)

# Flax's names of a layer's parts, in order of construction: theirs, min-dalle's
FLAX_NAMES = {
    "GLU_0.LayerNorm_0": "glu.ln0",
    "GLU_0.LayerNorm_1": "glu.ln1",
    "GLU_0.Dense_0": "glu.fc0",
    "GLU_0.Dense_1": "glu.fc1",
    "GLU_0.Dense_2": "glu.fc2",
    "FlaxBartAttention_0": "self_attn",
    "FlaxBartAttention_1": "encoder_attn",
    "LayerNorm_0": "pre_self_attn_layer_norm",
    "LayerNorm_1": "self_attn_layer_norm",
    "LayerNorm_2": "pre_encoder_attn_layer_norm",
    "LayerNorm_3": "encoder_attn_layer_norm",
}
# What the architecture here is, in dalle-mini's words; what a config leaves out is taken to be so.
FLAX_CONFIG = {
    "activation_function": "gelu",
    "use_glu": True,
    "ln_type": "layernorm",
    "ln_positions": "normformer",
    "use_bias": False,
    "use_head_scale": False,
    "head_scale": False,
    "use_cosine_attention": False,
    "use_deepnet_scaling": False,
    "scale_embedding": False,
    "tie_word_embeddings": False,
    "sinkhorn_iters": 1,
}


def looks_like(source: Source) -> bool:
    """Layers with a gated MLP under min-dalle's or Flax's names."""
    if source.path.is_dir() and any(_min_dalle_halves(source.path, suffix) for suffix in SUFFIXES):
        return True
    if not source.has_weights:
        return False
    return MARK in source.weights or any(name.startswith(FLAX_LAYERS["encoder"]) for name in source.weights)


def convert(source: Source, options: Options) -> Conversion:
    """Transformer, tokenizer and VQGAN. Raises CheckpointError that names what is missing."""
    flax = source.has_weights and any(name.startswith(FLAX_LAYERS["encoder"]) for name in source.weights)
    codec, notes = vqgan_taming.read(_vqgan(source, options))
    vocabulary = codec.config.vocabulary
    if flax:
        said = source.config()
        weights, suffix, sampling = _of_flax(source.weights), "", FLAX_SAMPLING
        config = _read_config(weights, vocabulary, said)
        notes += ("prompts are tokenised as by min-dalle: dalle-mini's own normalisation is not applied",)
    else:
        suffix = _suffix(source)
        folder, sampling = source.folder, MIN_DALLE_SAMPLING
        parts = {half: open_weights(folder / f"{half}{suffix}.pt") for half in FLAX_LAYERS}
        weights = gathered(str(folder), parts)
        config = _read_config(weights, vocabulary, {})
        notes += (f"code {config.start} stands before the first one, as in min-dalle 0.4.11",)
    model = build("dalle-mini", config, TABLE, _with_gains(weights), str(source))
    tokenizer = DalleMiniTokenizer.of_files(
        source.folder / f"vocab{suffix}.json", source.folder / f"merges{suffix}.txt"
    )
    parts_of_bundle = {
        "tokenizer": Part(tokenizer),
        "transformer": Part(model, codes=sampling, licence=LICENCE, data=DATA),
        "codec": Part(codec, licence=vqgan_taming.LICENCE, data=vqgan_taming.DATA),
    }
    name = "dalle-mega" if config.width >= PRESETS["mega"].width else "dalle-mini"
    return Conversion(name, "dalle-mini", parts_of_bundle, LICENCE, DATA, notes)


def _min_dalle_halves(folder: Path, suffix: str) -> bool:
    return all((folder / f"{half}{suffix}.pt").is_file() for half in FLAX_LAYERS)


def _suffix(source: Source) -> str:
    """The end of the names of min-dalle's files: of the file handed in, or of the folder's only model."""
    if source.path.is_file():
        found = [s for s in SUFFIXES if source.path.name in {f"{half}{s}.pt" for half in FLAX_LAYERS}]
    else:
        found = [suffix for suffix in SUFFIXES if _min_dalle_halves(source.path, suffix)]
    if len(found) > 1:
        raise CheckpointError(
            f"{source}: holds mini and mega: hand in {' or '.join(f'encoder{s}.pt' for s in found)} itself"
        )
    for half in FLAX_LAYERS:
        for suffix in found:
            if not (source.folder / f"{half}{suffix}.pt").is_file():
                raise CheckpointError(f"{source.folder}: no {half}{suffix}.pt, which this format needs")
    if not found:
        raise CheckpointError(f"{source}: min-dalle's files are called encoder.pt and decoder.pt")
    return found[0]


def _vqgan(source: Source, options: Options) -> Source:
    """The VQGAN: where `options` say, or in one of the usual places."""
    if "vqgan" in options:
        return Source(options["vqgan"])
    places = [source.folder / DETOKENIZER, *(source.folder / name for name in VQGAN_FOLDERS)]
    for place in places:
        if place.exists():
            return Source(place.resolve())
    looked = ", ".join(str(place) for place in places)
    raise CheckpointError(f"{source}: its VQGAN is not there (looked for {looked}): say where, vqgan=PATH")


def _of_flax(weights: Weights) -> Weights:
    """The names and axes of min-dalle for Flax's."""
    for half, stack in FLAX_LAYERS.items():
        weights = unstacked(weights, stack, f"{half}.layers")
    for theirs, ours in FLAX_NAMES.items():
        weights = renamed(weights, rf"(?<=\d\.){re.escape(theirs)}(?=\.)", ours)
    weights = renamed(weights, r"^model\.(\w+)\.layers\.final_ln\.", r"\1.final_ln.")
    weights = renamed(weights, r"^model\.(\w+)\.", r"\1.")
    weights = renamed(weights, r"^lm_head\.", "decoder.lm_head.")
    weights = renamed(weights, r"\.(embedding|scale)$", ".weight")
    return permuted(weights, ".kernel", ".weight", (1, 0))  # (in, out)


def _with_gains(weights: Weights) -> Weights:
    """Ones for the gains that training had switched off; where a file has some of them, it needs all."""
    norms = [found for name in weights if (found := WITHOUT_GAIN.fullmatch(name))]
    if any(found[2] == "weight" for found in norms):
        return weights
    ones = {f"{found[0].removesuffix('bias')}weight": torch.ones(weights.shapes[found[0]]) for found in norms}
    return filled(weights, ones)


def _read_config(weights: Weights, vocabulary: int, said: Mapping[str, Any]) -> DalleMiniConfig:
    """The sizes that the tensors have, and what a config says beyond them. Refuses one that disagrees."""
    shapes = weights.shapes
    try:
        text_vocabulary, width = shapes["encoder.embed_tokens.weight"]
        codes = shapes["decoder.embed_positions.weight"][0]
        config = DalleMiniConfig(
            text_vocabulary=text_vocabulary,
            text_context=shapes["encoder.embed_positions.weight"][0],
            vocabulary=vocabulary,
            code_rows=shapes["decoder.embed_tokens.weight"][0],
            start=said.get("decoder_start_token_id", vocabulary - 1),
            grid=math.isqrt(codes),
            width=width,
            layers=count_children(weights, "encoder.layers."),
            heads=said.get("encoder_attention_heads", max(1, width // HEAD_WIDTH)),
            mlp_width=shapes[f"encoder.{MARK}"][0],
        )
    except (KeyError, ValueError, InputError) as error:
        raise CheckpointError(f"{weights.where}: not DALL-E mini ({error})") from error
    if config.codes != codes:
        raise CheckpointError(f"{weights.where}: {codes} codes are no square")
    expected: dict[str, Any] = {
        **FLAX_CONFIG,
        "encoder_vocab_size": config.text_vocabulary,
        "max_text_length": config.text_context,
        "image_vocab_size": config.code_rows - 1,
        "image_length": config.codes,
        "d_model": config.width,
        "encoder_layers": config.layers,
        "decoder_layers": config.layers,
        "encoder_ffn_dim": config.mlp_width,
        "decoder_ffn_dim": config.mlp_width,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
    }
    for key, wanted in expected.items():
        if said.get(key, wanted) != wanted:
            raise CheckpointError(
                f"{weights.where}: its config says {key} {said[key]!r}, read are models with {wanted!r}"
            )
    return config


FORMAT = Format(
    name="dalle-mini",
    title="DALL-E mini or mega (min-dalle's files, or Flax's), with its VQGAN",
    family="dalle-mini",
    looks_like=looks_like,
    convert=convert,
    options={"vqgan": "file or folder of the VQGAN, where it does not lie beside"},
)
