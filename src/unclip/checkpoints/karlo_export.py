"""Karlo written as Diffusers keeps it: a folder that UnCLIPPipeline or UnCLIPImageVariationPipeline loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.checkpoints.clip_transformers import (
    IMAGE_RULES,
    PREPROCESSING,
    TEXT_RULES,
    their_processing,
    their_text,
    their_vision,
)
from unclip.checkpoints.clip_transformers import WEIGHTS as TOWER_WEIGHTS
from unclip.checkpoints.diffusers_unet import unet_config
from unclip.checkpoints.foreign import new_folder, write_json
from unclip.checkpoints.karlo import DECODER, PRIOR, UPSAMPLER
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
from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.schedule import ScheduleName
from unclip.errors import CheckpointError
from unclip.manifest import LAST_STEP
from unclip.models import decoder as decoders
from unclip.models import prior as priors
from unclip.models import upsampler as upsamplers
from unclip.models.clip import CLIP, CLIPConfig, ClipText, ClipTextConfig, VisionTransformerConfig
from unclip.models.decoder import Decoder
from unclip.models.prior import DiffusionPrior
from unclip.models.upsampler import Upsampler
from unclip.tokenizer import CLIP_END, CLIP_START, CLIPTokenizer

# Fields in which Karlo's networks differ from ours: a network that has them otherwise is not Karlo's.
PRIOR_WAYS = ("unit_embeddings", "normalised_text", "unconditional")
DECODER_WAYS = (
    "patch",
    "caption",
    "noisy_embedding",
    "unit_embeddings",
    "text_to_time",
    "text_norm",
    "unconditional",
)
UPSAMPLER_WAYS = ("patch", "residual", "modulation", "enlargement")

WEIGHTS = "diffusion_pytorch_model.safetensors"


def export(bundle: Bundle, path: Path) -> None:
    """Write a bundle of Karlo's networks.

    Raises:
        CheckpointError: one of them is not as Karlo has it, or its diffusion not as UnCLIPScheduler does it.
    """
    from_text = PRIOR in bundle.components
    folder = new_folder(path)
    modules = _tokenizer(bundle, folder) | _clip(bundle, folder, pictures=not from_text)
    if from_text:
        modules |= _prior(bundle, folder)
    modules |= _decoder(bundle, folder) | _upsamplers(bundle, folder)
    index = {"_class_name": FROM_TEXT if from_text else FROM_PICTURE, "_diffusers_version": "0.33.1"}
    write_json(folder / INDEX, {**index, **modules})


Modules = dict[str, list[str]]  # of a pipeline: the library and the class of each component


def _prior(bundle: Bundle, folder: Path) -> Modules:
    prior = cast(DiffusionPrior, _karlo(bundle, PRIOR, priors.KARLO, PRIOR_WAYS))
    config = prior.config
    if config.text_width != config.embedding:
        raise CheckpointError(f"{PRIOR}: features of {config.text_width}, embeddings of {config.embedding}")
    about = {
        "_class_name": "PriorTransformer",
        **PRIOR_FIXED,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "num_layers": config.layers,
        "embedding_dim": config.embedding,
        "num_embeddings": config.context,
        "dropout": config.dropout,
    }
    _network(folder / PRIOR, about, prior_table().write(prior.state_dict()))
    _scheduler(bundle, PRIOR, folder / PRIOR_SCHEDULER)
    return {PRIOR: ["diffusers", "PriorTransformer"], PRIOR_SCHEDULER: ["diffusers", "UnCLIPScheduler"]}


def _decoder(bundle: Bundle, folder: Path) -> Modules:
    decoder = cast(Decoder, _karlo(bundle, DECODER, decoders.KARLO, DECODER_WAYS))
    config, tensors = decoder.config, decoder_table(decoder).write(decoder.state_dict())
    about = {
        "_class_name": "UnCLIPTextProjModel",
        "clip_embeddings_dim": config.embedding,
        "clip_extra_context_tokens": config.tokens,
        "cross_attention_dim": config.context,
        "time_embed_dim": 4 * config.channels,
    }
    for name, document in (
        (DECODER, unet_config(decoder.unet, config.image_size)),
        (TEXT_PROJECTION, about),
    ):
        start = f"{name}."
        own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        _network(folder / name, document, own)
    _scheduler(bundle, DECODER, folder / DECODER_SCHEDULER)
    return {
        DECODER: ["diffusers", "UNet2DConditionModel"],
        TEXT_PROJECTION: ["unclip", "UnCLIPTextProjModel"],
        DECODER_SCHEDULER: ["diffusers", "UnCLIPScheduler"],
    }


def _upsamplers(bundle: Bundle, folder: Path) -> Modules:
    names = [name for name in bundle.components if name.startswith(UPSAMPLER)]
    first = names[0] if names else UPSAMPLER
    if sorted(names) != sorted((first, f"{first}{LAST_STEP}")):
        raise CheckpointError(
            f"bundle {bundle.name}: upsamplers {', '.join(names) or 'none'}: Karlo has one, and a network "
            "for its last step"
        )
    for name, target in ((first, FIRST_STEPS), (f"{first}{LAST_STEP}", FINAL_STEP)):
        model = cast(Upsampler, _karlo(bundle, name, upsamplers.KARLO, UPSAMPLER_WAYS))
        config = unet_config(model.unet, model.config.high_size)
        _network(folder / target, config, upsampler_table(model).write(model.state_dict()))
    _scheduler(bundle, first, folder / UPSAMPLER_SCHEDULER)
    return {
        FIRST_STEPS: ["diffusers", "UNet2DModel"],
        FINAL_STEP: ["diffusers", "UNet2DModel"],
        UPSAMPLER_SCHEDULER: ["diffusers", "UnCLIPScheduler"],
    }


def _tokenizer(bundle: Bundle, folder: Path) -> Modules:
    tokenizer = bundle.tokenizer()
    if not isinstance(tokenizer, CLIPTokenizer):
        raise CheckpointError(f"bundle {bundle.name}: its tokenizer is not CLIP's, which Karlo's is")
    target = folder / "tokenizer"
    target.mkdir()
    tokenizer.save_vocabulary(target)
    about = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.context,
        "bos_token": CLIP_START,
        "eos_token": CLIP_END,
        "unk_token": CLIP_END,
        "pad_token": "!",  # id 0
    }
    write_json(target / "tokenizer_config.json", about)
    return {"tokenizer": ["transformers", "CLIPTokenizer"]}


def _clip(bundle: Bundle, folder: Path, *, pictures: bool) -> Modules:
    config: CLIPConfig | ClipTextConfig = bundle.config("clip")
    model = cast("CLIP | ClipText", bundle.model("clip"))
    image = config.image if isinstance(config, CLIPConfig) else None
    if pictures and not isinstance(image, VisionTransformerConfig):
        raise CheckpointError(f"bundle {bundle.name}: its CLIP has no transformer that sees pictures")
    text = {**their_text(config), "architectures": ["CLIPTextModelWithProjection"]}
    _tower(folder / TEXT_ENCODER, text, model, "text.", Table(TEXT_RULES))
    modules = {TEXT_ENCODER: ["transformers", "CLIPTextModelWithProjection"]}
    if not pictures:
        return modules
    assert isinstance(config, CLIPConfig)  # it has an image side
    vision = {**their_vision(config), "architectures": ["CLIPVisionModelWithProjection"]}
    _tower(folder / IMAGE_ENCODER, vision, model, "visual.", Table(IMAGE_RULES))
    (folder / FEATURES).mkdir()
    write_json(folder / FEATURES / PREPROCESSING, their_processing(config))
    return modules | {
        IMAGE_ENCODER: ["transformers", "CLIPVisionModelWithProjection"],
        FEATURES: ["transformers", "CLIPImageProcessor"],
    }


def _tower(folder: Path, config: Mapping[str, Any], model: nn.Module, start: str, table: Table) -> None:
    state = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(start)}
    _network(folder, config, table.write(state), TOWER_WEIGHTS)


def _karlo(bundle: Bundle, name: str, preset: Any, ways: tuple[str, ...]) -> nn.Module:
    """A component's network. Raises CheckpointError where it is not made in Karlo's ways."""
    config = bundle.config(name)
    expected = {way: getattr(preset, way) for way in ways}
    if type(config) is not type(preset) or replace(config, **expected) != config:
        wanted = ", ".join(f"{way} {value!r}" for way, value in expected.items())
        raise CheckpointError(f"bundle {bundle.name}: {name} is not Karlo's, which has {wanted}")
    return bundle.model(name)


def _scheduler(bundle: Bundle, name: str, folder: Path) -> None:
    component = bundle.component(name)
    diffusion, sampling = component.diffusion, component.sampling
    names = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if diffusion is None or sampling is None or diffusion.prediction not in names:
        raise CheckpointError(f"bundle {bundle.name}: {name} predicts what UnCLIPScheduler does not know")
    cosine = replace(diffusion, schedule=ScheduleName.COSINE, steps=1000, shift=0.0) == diffusion
    if not cosine or sampling.threshold is Threshold.DYNAMIC:
        raise CheckpointError(
            f"bundle {bundle.name}: {name}: UnCLIPScheduler has 1000 cosine steps and a static threshold"
        )
    folder.mkdir()
    about = {
        "_class_name": "UnCLIPScheduler",
        **SCHEDULER_FIXED,
        "prediction_type": names[diffusion.prediction],
        "variance_type": next(
            kind for kind, learned in LEARNED.items() if learned is diffusion.learned_range
        ),
        "clip_sample": sampling.threshold is Threshold.STATIC,
        "clip_sample_range": sampling.limit,
    }
    write_json(folder / "scheduler_config.json", about)


def _network(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], file: str = WEIGHTS
) -> None:
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file, {"format": "pt"}
    )
    write_json(folder / "config.json", config)
