"""Karlo as Diffusers keeps it: a folder of UnCLIPPipeline or UnCLIPImageVariationPipeline, read and written.

Each component has a folder with its config and its weights. Facts are from huggingface/diffusers
(`pipelines/deprecated/unclip`, `models/transformers/prior_transformer.py`) and kakaobrain/karlo-v1-alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from unclip.checkpoints.clip_layout import TOKENIZER_OPTION, find_tokenizer
from unclip.checkpoints.clip_transformers import (
    ACTIVATIONS,
    FIT,
    IGNORED,
    LEGACY_END,
    NORM_EPSILON,
    PREPROCESSING,
    TABLE,
    TEXT_RULES,
    statistics,
)
from unclip.checkpoints.diffusers_unet import refuse_unknown, required, unet_sizes
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build
from unclip.checkpoints.karlo import (
    DECODER,
    PRIOR,
    UPSAMPLER,
    Process,
    conversion,
    process,
)
from unclip.checkpoints.karlo_export import export
from unclip.checkpoints.karlo_keys import (
    DECODER_SCHEDULER,
    FEATURES,
    FINAL_STEP,
    FIRST_STEPS,
    FROM_PICTURE,
    FROM_TEXT,
    IMAGE_ENCODER,
    INDEX,
    LEARNED,
    PREDICTIONS,
    PRIOR_FIXED,
    PRIOR_SCHEDULER,
    SCHEDULER_FIXED,
    TEXT_ENCODER,
    TEXT_PROJECTION,
    UPSAMPLER_SCHEDULER,
    decoder_table,
    prior_table,
    upsampler_table,
)
from unclip.checkpoints.table import Table
from unclip.checkpoints.transforms import filled, gathered, renamed
from unclip.errors import CheckpointError
from unclip.manifest import Preprocessing
from unclip.models.caption import Unconditional
from unclip.models.clip import (
    LARGEST_SCALE,
    CLIPConfig,
    ClipTextConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from unclip.models.decoder import Decoder, DecoderConfig, TextNorm
from unclip.models.prior import DiffusionPrior, PriorConfig
from unclip.models.upsampler import Enlargement, Upsampler, UpsamplerConfig
from unclip.native import unfilled
from unclip.nn.transformer import Activation
from unclip.nn.unet import Modulation
from unclip.tokenizer import CLIPTokenizer

LOGIT_SCALE = torch.tensor(LARGEST_SCALE).log()  # of OpenAI's CLIPs; the two towers are published without it
PRIOR_SIZES = (
    "num_attention_heads",
    "attention_head_dim",
    "num_layers",
    "embedding_dim",
    "num_embeddings",
    "dropout",
)


def looks_like(source: Source) -> bool:
    """True where a folder's index names one of the two pipelines."""
    return source.configs.get(INDEX, {}).get("_class_name") in (FROM_TEXT, FROM_PICTURE)


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family "unclip"; one of the image variation pipeline has no prior.

    Raises:
        CheckpointError: a component is missing, its config says what is not done here, or its tensors do not
            fit.
    """
    from_text = source.config(INDEX).get("_class_name") == FROM_TEXT
    tokenizer, note = find_tokenizer(source, options)
    clip, preprocessing = _clip(source, tokenizer, pictures=not from_text)
    decoder = _decoder(source)
    processes = {
        DECODER: _process(DECODER, source.part(DECODER_SCHEDULER)),
        UPSAMPLER: _process(UPSAMPLER, source.part(UPSAMPLER_SCHEDULER)),
    }
    prior = None
    if from_text:
        prior = _prior(source.part(PRIOR))
        processes[PRIOR] = _process(PRIOR, source.part(PRIOR_SCHEDULER))
    if processes[DECODER].diffusion.learned_range != decoder.config.learned_range:
        raise CheckpointError(f"{source}: decoder and decoder_scheduler disagree on the learned variance")
    return conversion(
        tokenizer=tokenizer,
        clip=clip,
        prior=prior,
        decoder=decoder,
        upsamplers=_upsamplers(source, decoder.config.image_size),
        processes=processes,
        preprocessing=preprocessing,
        notes=(note,),
    )


def _prior(source: Source) -> DiffusionPrior:
    config, where = source.config(), str(source)
    refuse_unknown(config, PRIOR_FIXED, PRIOR_SIZES, where)
    embedding = required(config, "embedding_dim", int, where)
    heads = required(config, "num_attention_heads", int, where)
    ours = PriorConfig(
        embedding=embedding,
        text_width=embedding,
        context=required(config, "num_embeddings", int, where),
        width=heads * required(config, "attention_head_dim", int, where),
        layers=required(config, "num_layers", int, where),
        heads=heads,
        dropout=float(config.get("dropout") or 0.0),
        unit_embeddings=False,
        normalised_text=False,
        unconditional=Unconditional.EMPTY_CAPTION,
    )
    return cast(DiffusionPrior, build("diffusion-prior", ours, prior_table(), source.weights, where))


def _decoder(source: Source) -> Decoder:
    parts = {name: source.part(name) for name in (DECODER, TEXT_PROJECTION)}
    config, projection = (part.config() for part in parts.values())
    where = str(parts[DECODER])
    sizes = unet_sizes(config, where, conditional=True)
    read = ("clip_extra_context_tokens", "clip_embeddings_dim", "time_embed_dim", "cross_attention_dim")
    refuse_unknown(projection, {}, read, str(parts[TEXT_PROJECTION]))
    context = required(config, "cross_attention_dim", int, where)
    if projection.get("cross_attention_dim") != context or sizes.in_channels != 3 or sizes.image_size is None:
        raise CheckpointError(
            f"{where}: {sizes.in_channels} channels of {sizes.image_size} px with a context of {context}: "
            f"expected 3 of some size, and text_proj's context {projection.get('cross_attention_dim')}"
        )
    if sizes.out_channels not in (3, 6):
        raise CheckpointError(f"{where}: {sizes.out_channels} channels come out: 3, or 6 with a variance")
    embedding = required(projection, "clip_embeddings_dim", int, str(parts[TEXT_PROJECTION]))
    ours = DecoderConfig(
        image_size=sizes.image_size,
        channels=sizes.channels,
        multipliers=sizes.multipliers,
        blocks=sizes.blocks,
        attention=sizes.attention,
        head_channels=required(config, "attention_head_dim", int, where),
        embedding=embedding,
        tokens=required(projection, "clip_extra_context_tokens", int, str(parts[TEXT_PROJECTION])),
        context=context,
        text_width=embedding,
        dropout=sizes.dropout,
        learned_range=sizes.out_channels == 6,
        unit_embeddings=False,
        text_to_time=True,
        text_norm=TextNorm.AFTER,
        unconditional=Unconditional.EMPTY_CAPTION,
    )
    weights = gathered(str(source), {name: part.weights for name, part in parts.items()})
    table = decoder_table(cast(Decoder, unfilled("decoder", ours)))
    return cast(Decoder, build("decoder", ours, table, weights, str(source)))


def _upsamplers(source: Source, low_size: int) -> tuple[Upsampler, Upsampler]:
    """The networks of all steps but the last, and of the last, whose config may not say its size."""
    first, last = source.part(FIRST_STEPS), source.part(FINAL_STEP)
    size = required(first.config(), "sample_size", int, str(first))
    return _upsampler(first, low_size, size), _upsampler(last, low_size, size)


def _upsampler(source: Source, low_size: int, high_size: int) -> Upsampler:
    sizes = unet_sizes(source.config(), str(source), conditional=False)
    if (sizes.in_channels, sizes.out_channels) != (6, 3) or high_size % low_size:
        raise CheckpointError(
            f"{source}: from {low_size} to {high_size} px with {sizes.in_channels} channels in and "
            f"{sizes.out_channels} out: a whole factor, 6 and 3 are expected"
        )
    ours = UpsamplerConfig(
        low_size=low_size,
        high_size=sizes.image_size or high_size,
        channels=sizes.channels,
        multipliers=sizes.multipliers,
        blocks=sizes.blocks,
        dropout=sizes.dropout,
        modulation=Modulation.SHIFT,
        enlargement=Enlargement.ANTIALIAS,
    )
    table = upsampler_table(cast(Upsampler, unfilled("upsampler", ours)))
    return cast(Upsampler, build("upsampler", ours, table, source.weights, str(source)))


def _process(part: str, source: Source) -> Process:
    """UnCLIPScheduler's config, with what the pipelines do where nobody says otherwise."""
    config, where = source.config("scheduler_config.json"), str(source)
    if config.get("_class_name") != "UnCLIPScheduler":
        raise CheckpointError(f"{where}: a {config.get('_class_name')}, expected an UnCLIPScheduler")
    read = ("variance_type", "clip_sample", "clip_sample_range", "prediction_type")
    refuse_unknown(config, SCHEDULER_FIXED, read, where)
    prediction, variance = config.get("prediction_type", "epsilon"), config.get("variance_type")
    if prediction not in PREDICTIONS or variance not in LEARNED:
        raise CheckpointError(
            f"{where}: prediction_type {prediction!r}, variance_type {variance!r}: known are "
            f"{', '.join(PREDICTIONS)} and {', '.join(LEARNED)}"
        )
    return process(
        part,
        prediction=PREDICTIONS[prediction],
        limit=float(config.get("clip_sample_range", 1.0)) if config.get("clip_sample", True) else None,
        learned_range=LEARNED[variance],
    )


def _clip(
    source: Source, tokenizer: CLIPTokenizer, *, pictures: bool
) -> tuple[nn.Module, Preprocessing | None]:
    """The text tower, or with `pictures` the whole CLIP and how pictures are prepared for it."""
    encoder = source.part(TEXT_ENCODER)
    config, where = encoder.config(), str(encoder)
    text = TextTransformerConfig(
        required(config, "vocab_size", int, where),
        required(config, "max_position_embeddings", int, where),
        required(config, "hidden_size", int, where),
        required(config, "num_hidden_layers", int, where),
        required(config, "num_attention_heads", int, where),
    )
    embedding = required(config, "projection_dim", int, where)
    activation = _activation(config, where)
    end = config.get("eos_token_id", tokenizer.end)
    if end not in (LEGACY_END, tokenizer.end):
        raise CheckpointError(f"{where}: eos_token_id is {end}, the tokenizer ends with {tokenizer.end}")
    if not pictures:
        tower = ClipTextConfig(embedding, text, tokenizer.end, activation)
        table = Table(TEXT_RULES, IGNORED)
        return build("clip-text", tower, table, encoder.weights, where), None
    eye, images = source.part(IMAGE_ENCODER), source.part(FEATURES)
    config, where = eye.config(), str(eye)
    width = required(config, "hidden_size", int, where)
    vision = VisionTransformerConfig(
        image_size=required(config, "image_size", int, where),
        patch=required(config, "patch_size", int, where),
        width=width,
        layers=required(config, "num_hidden_layers", int, where),
        heads=required(config, "num_attention_heads", int, where),
        mlp_ratio=required(config, "intermediate_size", int, where) / width,
    )
    if _activation(config, where) is not activation:
        raise CheckpointError(f"{where}: its activation is not the text encoder's")
    whole = CLIPConfig(embedding, vision, text, tokenizer.end, activation)
    whole = replace(whole, **statistics(images.config(PREPROCESSING), whole, str(images)))
    weights = gathered(str(source), {"text": encoder.weights, "image": eye.weights})
    weights = filled(renamed(weights, r"^(text|image)\.", ""), {"logit_scale": LOGIT_SCALE})
    model = build("clip", whole, TABLE, weights, str(source))
    return model, Preprocessing(vision.image_size, FIT)


def _activation(config: Mapping[str, Any], where: str) -> Activation:
    name = config.get("hidden_act")
    if name not in ACTIVATIONS:
        raise CheckpointError(f"{where}: hidden_act {name!r}: known are {', '.join(ACTIVATIONS)}")
    if config.get("layer_norm_eps", NORM_EPSILON) != NORM_EPSILON:
        raise CheckpointError(f"{where}: layer_norm_eps {config['layer_norm_eps']}: CLIP's is {NORM_EPSILON}")
    return ACTIVATIONS[name]


FORMAT = Format(
    name="karlo-diffusers",
    title="Karlo (folder of Diffusers' UnCLIPPipeline or UnCLIPImageVariationPipeline)",
    family="unclip",
    looks_like=looks_like,
    convert=convert,
    options=TOKENIZER_OPTION,
    export=export,
)
