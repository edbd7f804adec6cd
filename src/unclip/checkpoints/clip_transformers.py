"""transformers' CLIPModel: a folder with `config.json`, weights, vocabulary and preprocessing.

Query, key and value are separate there and projections are linear layers; otherwise the towers are ours under
other names. The towers' rules are used by other formats, too, that hold one of them (Karlo's text encoder).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from unclip.bundle import Bundle
from unclip.checkpoints.clip_layout import (
    TOKENIZER_OPTION,
    clip_of,
    config_from_shapes,
    conversion,
)
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, new_folder, write_json
from unclip.checkpoints.table import Rule, Table, joined_rows, transposed
from unclip.errors import CheckpointError
from unclip.images import Fitting
from unclip.models.clip import CLIPConfig, ClipTextConfig, TextTransformerConfig, VisionTransformerConfig
from unclip.nn.transformer import Activation
from unclip.tokenizer import CLIP_END, CLIP_START, CLIPTokenizer

CONFIG, PREPROCESSING, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
BICUBIC = 3  # Pillow's number of the filter
FIT: Fitting = "crop-floor"  # CLIPImageProcessor's
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
NORM_EPSILON = 1e-5
LEGACY_END = 2  # with this eos_token_id they read the feature at the largest id, as OpenAI does
# transformers' defaults, which a config may leave out
DEFAULTS: dict[str, dict[str, Any]] = {
    "text_config": {"num_attention_heads": 8, "eos_token_id": 49_407},
    "vision_config": {"num_attention_heads": 12},
}
ACTIVATIONS = {"quick_gelu": Activation.QUICK_GELU, "gelu": Activation.GELU}


def _blocks(ours: str, theirs: str) -> tuple[Rule, ...]:
    block, layer = f"{ours}.transformer.resblocks.{{i}}", f"{theirs}.encoder.layers.{{i}}"
    separate = tuple(f"{layer}.self_attn.{letter}_proj.{{name}}" for letter in "qkv")
    return (
        Rule(f"{block}.attn.in_proj_{{name}}", separate, *joined_rows(3)),
        Rule(f"{block}.attn.out_proj.{{name}}", f"{layer}.self_attn.out_proj.{{name}}"),
        Rule(f"{block}.ln_1.{{name}}", f"{layer}.layer_norm1.{{name}}"),
        Rule(f"{block}.ln_2.{{name}}", f"{layer}.layer_norm2.{{name}}"),
        Rule(f"{block}.mlp.c_fc.{{name}}", f"{layer}.mlp.fc1.{{name}}"),
        Rule(f"{block}.mlp.c_proj.{{name}}", f"{layer}.mlp.fc2.{{name}}"),
    )


TEXT_RULES = (
    *_blocks("text", "text_model"),
    Rule("text.token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    Rule("text.positional_embedding", "text_model.embeddings.position_embedding.weight"),
    Rule("text.ln_final.{name}", "text_model.final_layer_norm.{name}"),
    Rule("text.text_projection", "text_projection.weight", *transposed()),
)
IMAGE_RULES = (
    *_blocks("visual", "vision_model"),
    Rule("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    Rule("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    Rule("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    Rule("visual.ln_pre.{name}", "vision_model.pre_layrnorm.{name}"),
    Rule("visual.ln_post.{name}", "vision_model.post_layernorm.{name}"),
    Rule("visual.proj", "visual_projection.weight", *transposed()),
)
IGNORED = ("{tower}_model.embeddings.position_ids",)
TABLE = Table((*TEXT_RULES, *IMAGE_RULES, Rule("logit_scale", "logit_scale")), IGNORED)


def looks_like(source: Source) -> bool:
    """A config that says it is a CLIPModel, or the names of one."""
    if source.configs.get(CONFIG, {}).get("model_type") == "clip":
        return True
    names = source.weights if source.has_weights else {}
    return "text_model.final_layer_norm.weight" in names and "vision_model.pre_layrnorm.weight" in names


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family `clip`."""
    where, about = str(source), source.config(CONFIG)
    config = _config(source, about)
    processing = source.configs.get(PREPROCESSING, {})
    config = dataclasses.replace(config, **statistics(processing, config, where))
    name = str(about.get("_name_or_path") or source.folder.resolve().name).rpartition("/")[2]
    return conversion(source, options, source.weights, TABLE, config, name=name, fit=FIT)


def _config(source: Source, about: Mapping[str, Any]) -> CLIPConfig:
    where = str(source)
    towers = {key: DEFAULTS[key] | (about.get(key) or about.get(f"{key}_dict") or {}) for key in DEFAULTS}
    activations = {tower.get("hidden_act", "quick_gelu") for tower in towers.values()}
    if len(activations) != 1 or not activations <= set(ACTIVATIONS):
        raise CheckpointError(
            f"{where}: {CONFIG}: hidden_act {', '.join(sorted(activations))}: it must be the same for both "
            f"towers and one of {', '.join(ACTIVATIONS)}"
        )
    for key, tower in towers.items():
        if (epsilon := tower.get("layer_norm_eps", NORM_EPSILON)) != NORM_EPSILON:
            raise CheckpointError(
                f"{where}: {CONFIG}: {key}.layer_norm_eps {epsilon}: CLIP's is {NORM_EPSILON}"
            )
    text, image = towers["text_config"], towers["vision_config"]
    heads = (image["num_attention_heads"], text["num_attention_heads"])
    activation = ACTIVATIONS[activations.pop()]
    config = config_from_shapes(TABLE.shapes(source.weights, where), activation, where, heads)
    end = text["eos_token_id"]
    return config if end == LEGACY_END else dataclasses.replace(config, end_token=end)


def statistics(processing: Mapping[str, Any], config: CLIPConfig, where: str) -> dict[str, Any]:
    """Mean and std of a preprocessing that is CLIP's; refuses another."""
    size = config.image.image_size
    expected = {
        "resample": (BICUBIC,),
        "size": (size, {"shortest_edge": size}),
        "crop_size": (size, {"height": size, "width": size}),
        **dict.fromkeys(STEPS, (True,)),
    }
    for key, allowed in expected.items():
        if key in processing and processing[key] not in allowed:
            raise CheckpointError(
                f"{where}: {PREPROCESSING}: {key} = {processing[key]!r}, known is {allowed[-1]!r}"
            )
    names = {"mean": "image_mean", "std": "image_std"}
    return {ours: tuple(processing[theirs]) for ours, theirs in names.items() if theirs in processing}


def export(bundle: Bundle, path: Path) -> None:
    """Write the CLIP as a folder that `CLIPModel.from_pretrained` and `CLIPProcessor` take.

    Raises CheckpointError where CLIPModel has no place for what this CLIP has, or the folder holds something.
    """
    model, tokenizer = clip_of(bundle), bundle.tokenizer()
    config = model.config
    if config.logit_bias or not isinstance(config.image, VisionTransformerConfig):
        raise CheckpointError(
            f"bundle {bundle.name}: transformers' CLIPModel has an image transformer and no logit bias: "
            "choose clip-open"
        )
    if not isinstance(tokenizer, CLIPTokenizer):
        raise CheckpointError(f"bundle {bundle.name}: its tokenizer is not CLIP's")
    tensors = {name: tensor.contiguous() for name, tensor in TABLE.write(model.state_dict()).items()}
    documents = {
        CONFIG: _their_config(config, str(tensors["logit_scale"].dtype).removeprefix("torch.")),
        PREPROCESSING: their_processing(config),
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": config.text.context,
            "bos_token": CLIP_START,
            **dict.fromkeys(("eos_token", "pad_token", "unk_token"), CLIP_END),
        },
    }
    folder = new_folder(path)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    tokenizer.save_vocabulary(folder)
    for name, document in documents.items():
        write_json(folder / name, document)


def _their_config(config: CLIPConfig, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": dtype,
        "projection_dim": config.embedding,
        "text_config": their_text(config),
        "vision_config": their_vision(config),
    }


def their_text(config: CLIPConfig | ClipTextConfig) -> dict[str, Any]:
    """The config of a CLIPTextModel; the text side must be a transformer."""
    text = config.text
    assert isinstance(text, TextTransformerConfig)
    return {
        **_their_tower(config),
        "model_type": "clip_text_model",
        "vocab_size": text.vocabulary,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "intermediate_size": 4 * text.width,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "bos_token_id": config.end_token - 1,
        "eos_token_id": config.end_token,
        "pad_token_id": config.end_token,
    }


def their_vision(config: CLIPConfig) -> dict[str, Any]:
    """The config of a CLIPVisionModel; the image side must be a transformer."""
    image = config.image
    assert isinstance(image, VisionTransformerConfig)
    return {
        **_their_tower(config),
        "model_type": "clip_vision_model",
        "hidden_size": image.width,
        "intermediate_size": round(image.width * image.mlp_ratio),
        "num_hidden_layers": image.layers,
        "num_attention_heads": image.heads,
        "image_size": image.image_size,
        "patch_size": image.patch,
    }


def _their_tower(config: CLIPConfig | ClipTextConfig) -> dict[str, Any]:
    activation = next(name for name, ours in ACTIVATIONS.items() if ours == config.activation)
    return {"hidden_act": activation, "layer_norm_eps": NORM_EPSILON, "projection_dim": config.embedding}


def their_processing(config: CLIPConfig) -> dict[str, Any]:
    """The config of a CLIPImageProcessor."""
    size = config.image.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
        "resample": BICUBIC,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
        **dict.fromkeys((*STEPS, "do_convert_rgb"), True),
    }


FORMAT = Format(
    name="clip-transformers",
    title="transformers' CLIPModel (folder)",
    family="clip",
    looks_like=looks_like,
    convert=convert,
    options=TOKENIZER_OPTION,
    export=export,
)
