"""open_clip's CLIPs: `CLIP`, named as OpenAI's, and `CustomTextCLIP`, whose text tower stands under `text.`.

Published models are a folder with `open_clip_config.json` and safetensors or `.bin`; checkpoints of a
training run are a `.pt` with the weights inside `state_dict`, each name after `module.` where it was
distributed. The activation is in the config (`quick_gelu`, by default no) and nowhere else. Towers from timm
and Hugging Face are other networks and are refused by name; SigLIP is a format of its own (`clip_siglip`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from unclip.bundle import Bundle
from unclip.checkpoints.clip_layout import (
    ACTIVATION_OPTION,
    OPENAI_RULES,
    TOKENIZER_OPTION,
    chosen_activation,
    clip_of,
    config_from_shapes,
    conversion,
)
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, new_folder, write_json
from unclip.checkpoints.table import Rule, Table
from unclip.checkpoints.weights import Weights
from unclip.errors import CheckpointError
from unclip.models.clip import (
    HEAD_WIDTH,
    SIGMOID_INITIAL_BIAS,
    CLIPConfig,
    TextTransformerConfig,
    VisionTransformerConfig,
)
from unclip.models.clip_resnet import ModifiedResNetConfig
from unclip.nn.transformer import Activation

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
PUBLISHED = (WEIGHTS, "open_clip_pytorch_model.bin")
TEXT_HEADS = 8  # open_clip's default


def _scalar(value: Tensor) -> Tensor:
    return value.reshape(())  # some keep one number in a vector


LOGITS = tuple(Rule(name, name, _scalar, _scalar) for name in ("logit_scale", "logit_bias"))
TOWERS = tuple(Rule(name, name) for name in ("visual.{name*}", "text.{name*}"))
IGNORED = ("attn_mask", "text.attn_mask")
PLAIN = Table((*LOGITS, *OPENAI_RULES), IGNORED)
CUSTOM_TEXT = Table((*LOGITS, *TOWERS), IGNORED)
GUESS = (
    f"The activation is {{activation}}: there is no {CONFIG} that says. Models whose name has quickgelu in "
    "it, and OpenAI's own, need the option activation=quick-gelu."
)
SIGLIP = "visual.trunk.attn_pool.latent"  # the probe of its attention pooling
FOREIGN_TOWERS = ("visual.trunk.", "visual.head.", "text.transformer.embeddings.")

# What a config may say: what shapes tell, what is read here, and what must be as it is in our CLIP.
TOLD = {
    "model_cfg": "embed_dim quick_gelu custom_text vision_cfg text_cfg init_logit_scale init_logit_bias",
    "vision_cfg": "image_size layers width head_width mlp_ratio patch_size patch_dropout",
    "text_cfg": "context_length vocab_size width heads layers mlp_ratio pad_id eos_id",
}
REQUIRED = {
    "pool_type": ("tok", "argmax"),
    "pos_embed_type": ("learnable",),
    "proj_type": ("linear",),
    "block_type": ("default",),
    "interpolation": ("bicubic",),
    "resize_mode": ("shortest",),
    "mode": ("RGB",),
}


def published_weights(source: Source) -> Weights:
    """The weights by open_clip's own names, out of a training checkpoint if need be.

    A published folder often holds the same model for transformers as well: open_clip's own file is taken.
    """
    own = [name for name in PUBLISHED if source.path.is_dir() and (source.path / name).is_file()]
    weights = source.part(own[0]).weights if own else source.weights
    for prefix in ("state_dict", "module"):
        if any(name.startswith(f"{prefix}.") for name in weights):
            weights = weights.inside(prefix)
    return weights


def _table(weights: Weights) -> Table:
    return CUSTOM_TEXT if any(name.startswith("text.") for name in weights) else PLAIN


def looks_like(source: Source) -> bool:
    """The names of a CLIP, without the numbers that OpenAI's archives have beside them."""
    try:
        names = published_weights(source)
    except CheckpointError:
        return False
    text = "token_embedding.weight" in names or "text.token_embedding.weight" in names
    image = any(name.startswith("visual.") for name in names)
    return image and text and "input_resolution" not in names and SIGLIP not in names


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family `clip`."""
    weights, where = published_weights(source), str(source)
    foreign = [name for name in weights if name.startswith(FOREIGN_TOWERS)]
    if foreign:
        raise CheckpointError(
            f"{where}: {foreign[0]} belongs to a tower of timm or Hugging Face, which is another network: "
            "only open_clip's own ViT and ResNet with its own text transformer are read, and SigLIP's towers"
        )
    about = source.configs.get(CONFIG, {})
    _check_config(about, where)
    model, preprocess = about.get("model_cfg", {}), about.get("preprocess_cfg", {})
    said = Activation.QUICK_GELU if model.get("quick_gelu") else Activation.GELU
    activation = chosen_activation(options, Activation) or said
    notes = () if model else (GUESS.format(activation=activation),)
    table = _table(weights)
    config = config_from_shapes(table.shapes(weights, where), activation, where, _heads(model))
    config = _with_statistics(config, preprocess)
    return conversion(source, options, weights, table, config, name=source.name, notes=notes)


def _check_config(about: Mapping[str, Any], where: str) -> None:
    """Refuse what a config asks for that our CLIP does not have and no tensor would show."""
    model = about.get("model_cfg", {})
    said = [("model_cfg", key, value) for key, value in model.items()]
    for tower in ("vision_cfg", "text_cfg"):
        said += [(tower, key, value) for key, value in model.get(tower, {}).items()]
    for name, key, value in said:
        told = key in TOLD[name].split() or value in (None, False)
        if not told and value not in REQUIRED.get(key, ()):
            raise CheckpointError(f"{where}: {CONFIG}: {name}.{key} = {value!r}: such a CLIP is not read")
    check_preprocessing(about, REQUIRED, where)


def check_preprocessing(about: Mapping[str, Any], known: Mapping[str, tuple[str, ...]], where: str) -> None:
    """Refuse another preparation of pictures than is known."""
    for key, value in about.get("preprocess_cfg", {}).items():
        if value not in known.get(key, (value,)):
            allowed = " or ".join(known[key])
            raise CheckpointError(f"{where}: {CONFIG}: preprocess_cfg.{key} = {value!r}: known is {allowed}")


def _heads(model: Mapping[str, Any]) -> tuple[int, int] | None:
    """Heads of the image and the text transformer, where a config says."""
    if not model:
        return None
    image, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
    width = image.get("width", 768)
    return width // image.get("head_width", HEAD_WIDTH), text.get("heads", TEXT_HEADS)


def _with_statistics(config: CLIPConfig, preprocess: Mapping[str, Any]) -> CLIPConfig:
    mean, std = (tuple(preprocess.get(key, getattr(config, key))) for key in ("mean", "std"))
    return dataclasses.replace(config, mean=mean, std=std)


def export(bundle: Bundle, path: Path) -> None:
    """Write the CLIP as a folder that open_clip opens as `local-dir:PATH`.

    Raises CheckpointError where open_clip has no place for what this CLIP has, or the folder holds something.
    """
    model = clip_of(bundle)
    about = {"model_cfg": _model_config(model.config), "preprocess_cfg": _preprocess_config(model.config)}
    write_folder(path, PLAIN.write(model.state_dict()), about)


def write_folder(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write weights and config. Raises CheckpointError where the folder holds something."""
    folder = new_folder(path)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    write_json(folder / CONFIG, about)


def _model_config(config: CLIPConfig) -> dict[str, Any]:
    text, image = config.text, config.image
    assert isinstance(text, TextTransformerConfig)  # clip_of
    about: dict[str, Any] = {
        "embed_dim": config.embedding,
        "quick_gelu": config.activation == Activation.QUICK_GELU,
        "vision_cfg": {"image_size": image.image_size, "width": image.width},
        "text_cfg": {
            "context_length": text.context,
            "vocab_size": text.vocabulary,
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
        },
    }
    if isinstance(image, VisionTransformerConfig):
        about["vision_cfg"] |= {
            "layers": image.layers,
            "patch_size": image.patch,
            "head_width": image.width // image.heads,
            "mlp_ratio": image.mlp_ratio,
        }
    else:
        assert isinstance(image, ModifiedResNetConfig)  # clip_of
        about["vision_cfg"] |= {"layers": list(image.layers), "patch_size": None}
    if config.logit_bias:
        about["init_logit_bias"] = SIGMOID_INITIAL_BIAS
    return about


def _preprocess_config(config: CLIPConfig) -> dict[str, Any]:
    statistics = {"mean": list(config.mean), "std": list(config.std)}
    return {**statistics, "interpolation": "bicubic", "resize_mode": "shortest", "mode": "RGB"}


FORMAT = Format(
    name="clip-open",
    title="open_clip's CLIP (safetensors, .bin or training checkpoint; plain or CustomText)",
    family="clip",
    looks_like=looks_like,
    convert=convert,
    options={**ACTIVATION_OPTION, **TOKENIZER_OPTION},
    export=export,
)
