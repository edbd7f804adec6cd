"""open_clip's SigLIP: an image tower of timm, pooled by attention, and open_clip's text tower read both ways.

A model is a folder with `open_clip_config.json`, weights and tokenizer, or a checkpoint of open_clip's
training. The image tower's sizes and its GELU follow from the name of timm's model in the config; without a
config they are those of the timm model with tensors of these shapes.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unclip.bundle import Bundle, Part
from unclip.checkpoints.clip_layout import chosen_activation, heads_of_width
from unclip.checkpoints.clip_open import (
    CONFIG,
    LOGITS,
    SIGLIP,
    TEXT_HEADS,
    check_preprocessing,
    published_weights,
    write_folder,
)
from unclip.checkpoints.foreign import Conversion, Format, Options, Source, build
from unclip.checkpoints.table import Rule, Shape, Table
from unclip.checkpoints.weights import count_children
from unclip.errors import CheckpointError, InputError
from unclip.manifest import Preprocessing
from unclip.models.clip import CLIP, CLIP_MEAN, CLIP_STD, SIGMOID_INITIAL_BIAS, CLIPConfig
from unclip.models.siglip import NORM_EPSILON, Gelu, SiglipTextConfig, SiglipVisionConfig
from unclip.tokenizer import TOKENIZER_FILE
from unclip.tokenizer.siglip import SETTINGS, SiglipTokenizer

STATISTICS = (0.5, 0.5, 0.5)  # mean and std of every published SigLIP

OPTIONS = {
    "activation": f"of both towers' MLPs: {' or '.join(Gelu)} (default: as open_clip computes it)",
    "tokenizer": f"folder with {TOKENIZER_FILE} and {SETTINGS} (default: what lies beside the weights)",
}

# --- timm's models: timm/models/vision_transformer.py, 1.0.31 ---

SIZES = {  # width, layers, heads, width inside the MLPs
    "base": (768, 12, 12, 3072),
    "large": (1024, 24, 16, 4096),
    "so400m": (1152, 27, 16, 4304),
    "giantopt": (1536, 40, 16, 6144),
}
TIMM_NAME = re.compile(r"vit_(\w+?)_patch(\d+)_siglip_(\d+)")


def _timm(activation: Gelu, names: str) -> dict[str, SiglipVisionConfig]:
    towers = {}
    for name in names.split():
        found = TIMM_NAME.fullmatch(name)
        assert found is not None
        width, layers, heads, mlp_width = SIZES[found[1]]
        towers[name] = SiglipVisionConfig(
            int(found[3]), int(found[2]), width, layers, heads, mlp_width, activation
        )
    return towers


# transformers computes all of Google's weights with the GELU by tanh; timm only those of the second list.
TIMM_MODELS: dict[str, SiglipVisionConfig] = {
    **_timm(
        Gelu.EXACT,
        "vit_base_patch16_siglip_224 vit_base_patch16_siglip_256 vit_base_patch16_siglip_384 "
        "vit_base_patch16_siglip_512 vit_large_patch16_siglip_256 vit_large_patch16_siglip_384 "
        "vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378 vit_so400m_patch14_siglip_384",
    ),
    **_timm(
        Gelu.TANH,
        "vit_base_patch32_siglip_256 vit_large_patch16_siglip_512 vit_so400m_patch16_siglip_256 "
        "vit_so400m_patch16_siglip_384 vit_so400m_patch16_siglip_512 vit_giantopt_patch16_siglip_256 "
        "vit_giantopt_patch16_siglip_384",
    ),
}

# --- the table of keys ---

BLOCK, THEIRS = "visual.transformer.resblocks.{i}", "visual.trunk.blocks.{i}"
POOL, THEIR_POOL = "visual.pool", "visual.trunk.attn_pool"


def _query_apart(joined: Tensor) -> tuple[Tensor, ...]:
    width = len(joined) // 3
    return tuple(part.contiguous() for part in joined.split([width, 2 * width]))


TABLE = Table(
    (
        *LOGITS,
        Rule("visual.conv1.{name}", "visual.trunk.patch_embed.proj.{name}"),
        Rule(
            "visual.positional_embedding", "visual.trunk.pos_embed", lambda x: x.squeeze(0), lambda x: x[None]
        ),
        Rule(f"{BLOCK}.ln_1.{{name}}", f"{THEIRS}.norm1.{{name}}"),
        Rule(f"{BLOCK}.attn.in_proj_{{name}}", f"{THEIRS}.attn.qkv.{{name}}"),
        Rule(f"{BLOCK}.attn.out_proj.{{name}}", f"{THEIRS}.attn.proj.{{name}}"),
        Rule(f"{BLOCK}.ln_2.{{name}}", f"{THEIRS}.norm2.{{name}}"),
        Rule(f"{BLOCK}.mlp.c_fc.{{name}}", f"{THEIRS}.mlp.fc1.{{name}}"),
        Rule(f"{BLOCK}.mlp.c_proj.{{name}}", f"{THEIRS}.mlp.fc2.{{name}}"),
        Rule("visual.ln_post.{name}", "visual.trunk.norm.{name}"),
        Rule(f"{POOL}.probe", SIGLIP, lambda x: x.flatten(), lambda x: x[None, None]),
        Rule(
            f"{POOL}.in_proj_{{name}}",
            (f"{THEIR_POOL}.q.{{name}}", f"{THEIR_POOL}.kv.{{name}}"),
            lambda query, rest: torch.cat([query, rest]),
            _query_apart,
        ),
        Rule(f"{POOL}.out_proj.{{name}}", f"{THEIR_POOL}.proj.{{name}}"),
        Rule(f"{POOL}.ln.{{name}}", f"{THEIR_POOL}.norm.{{name}}"),
        Rule(f"{POOL}.mlp.c_fc.{{name}}", f"{THEIR_POOL}.mlp.fc1.{{name}}"),
        Rule(f"{POOL}.mlp.c_proj.{{name}}", f"{THEIR_POOL}.mlp.fc2.{{name}}"),
        Rule("text.{name*}", "text.{name*}"),
    )
)

# --- the config: what it tells, and what must be so (with open_clip's default where a key is left out) ---

TOLD = {
    "model_cfg": "embed_dim custom_text vision_cfg text_cfg init_logit_scale init_logit_bias",
    "vision_cfg": "image_size timm_model_name timm_model_pretrained",
    "text_cfg": "context_length vocab_size hf_tokenizer_name width heads layers mlp_ratio proj_type "
    "proj_bias act_kwargs pad_id eos_id",
}
REQUIRED: dict[str, dict[str, tuple[Any, Any]]] = {
    "model_cfg": {},
    "vision_cfg": {"timm_pool": ("map", "avg"), "timm_proj": ("none", "linear")},
    "text_cfg": {
        "no_causal_mask": (True, False),
        "pool_type": ("last", "argmax"),
        "norm_kwargs": ({"eps": NORM_EPSILON}, None),
        "tokenizer_kwargs": ({"clean": "canonicalize"}, None),
    },
}
PREPROCESSING: dict[str, tuple[str, ...]] = {
    "interpolation": ("bicubic",),
    "resize_mode": ("squash", "shortest"),
    "mode": ("RGB",),
}
ACT_KWARGS = {Gelu.EXACT: (None, {}, {"approximate": "none"}), Gelu.TANH: ({"approximate": "tanh"},)}

GUESS = (
    f"There is no {CONFIG} that says how it computes: pictures are squeezed to a square, mean and std are "
    f"{STATISTICS[0]}, and the GELU is exact but where timm's image tower of these sizes has the other. "
    f"Models of SigLIP 2 need the option activation={Gelu.TANH}."
)


@dataclasses.dataclass(frozen=True)
class Siglip:
    """The contents of a source.

    Attributes:
        model: the CLIP.
        tokenizer: of its texts.
        squeezed: whether pictures are made square by squeezing them, as published, and not by cutting.
        notes: what was decided that the source does not say.
    """

    model: CLIP
    tokenizer: SiglipTokenizer
    squeezed: bool = True
    notes: tuple[str, ...] = ()


def looks_like(source: Source) -> bool:
    """The names of a SigLIP's two towers."""
    try:
        names = published_weights(source)
    except CheckpointError:
        return False
    return SIGLIP in names and "text.token_embedding.weight" in names


def read(source: Source, options: Options) -> Siglip:
    """A SigLIP from a folder or file.

    Raises:
        InputError: an option's value is not allowed.
        CheckpointError: tensors or config are those of another network: the message names them.
    """
    weights, where = published_weights(source), str(source)
    about = source.configs.get(CONFIG, {})
    _check_config(about, where)
    said = about.get("model_cfg", {})
    preprocess = about.get("preprocess_cfg", {})
    tokenizer, note = _tokenizer(source, options)
    config = _config(TABLE.shapes(weights, where), said, tokenizer, where)
    notes = () if said else (GUESS,)
    if (activation := chosen_activation(options, Gelu)) is not None:
        towers = {side: getattr(config, side) for side in ("image", "text")}
        towers = {side: dataclasses.replace(tower, activation=activation) for side, tower in towers.items()}
        config = dataclasses.replace(config, **towers)
    mean, std = (
        tuple(preprocess.get(key, default if about else STATISTICS))
        for key, default in (("mean", CLIP_MEAN), ("std", CLIP_STD))
    )
    squeezed = preprocess.get("resize_mode", "shortest" if about else "squash") == "squash"
    model = build("clip", dataclasses.replace(config, mean=mean, std=std), TABLE, weights, where)
    assert isinstance(model, CLIP)
    return Siglip(model, tokenizer, squeezed, (*notes, note))


def _check_config(about: Mapping[str, Any], where: str) -> None:
    """Refuse what a config asks for that this network does not have and no tensor would show."""
    model = about.get("model_cfg", {})
    for name in TOLD if model else ():
        said = model if name == "model_cfg" else model.get(name, {})
        for key, (value, default) in REQUIRED[name].items():
            if said.get(key, default) != value:
                found = said.get(key, default)
                raise CheckpointError(
                    f"{where}: {CONFIG}: {name}.{key} = {found!r}: a SigLIP with {value!r} is read"
                )
        for key, value in said.items():
            told = key in TOLD[name].split() or key in REQUIRED[name] or value in (None, False)
            if not told:
                raise CheckpointError(
                    f"{where}: {CONFIG}: {name}.{key} = {value!r}: such a SigLIP is not read"
                )
    check_preprocessing(about, PREPROCESSING, where)


def _config(
    shapes: Mapping[str, Shape], said: Mapping[str, Any], tokenizer: SiglipTokenizer, where: str
) -> CLIPConfig:
    """The architecture: from the config where there is one, and from the tensors' shapes."""
    vision, text = said.get("vision_cfg", {}), said.get("text_cfg", {})
    try:
        image = _named_tower(vision, where) if said else _tower_of(shapes)
        vocabulary, width = shapes["text.token_embedding.weight"]
        context, _ = shapes["text.positional_embedding"]
        mlp_width, _ = shapes["text.transformer.resblocks.0.mlp.c_fc.weight"]
        embedding, _ = shapes.get("text.text_projection.weight", (width, width))
        return CLIPConfig(
            embedding,
            image,
            SiglipTextConfig(
                vocabulary,
                context,
                width,
                layers=count_children(shapes, "text.transformer.resblocks."),
                heads=text.get("heads", TEXT_HEADS) if said else heads_of_width(width),
                mlp_width=mlp_width,
                pad=tokenizer.pad,
                activation=_gelu_of(text.get("act_kwargs"), where),
                projection="text.text_projection.weight" in shapes,
            ),
            end_token=tokenizer.end,
            logit_bias="logit_bias" in shapes,
        )
    except (KeyError, ValueError, InputError) as error:
        raise CheckpointError(f"{where}: not the tensors of a SigLIP ({error})") from error


def _named_tower(vision: Mapping[str, Any], where: str) -> SiglipVisionConfig:
    name = vision.get("timm_model_name")
    if name not in TIMM_MODELS:
        raise CheckpointError(
            f"{where}: {CONFIG}: vision_cfg.timm_model_name = {name!r}: known are {', '.join(TIMM_MODELS)}"
        )
    tower = TIMM_MODELS[name]
    return dataclasses.replace(tower, image_size=vision.get("image_size", tower.image_size))


def _tower_of(shapes: Mapping[str, Shape]) -> SiglipVisionConfig:
    """The timm model whose tensors have these shapes, the one that sees most of its picture."""
    width, _, patch, _ = shapes["visual.conv1.weight"]
    patches, _ = shapes["visual.positional_embedding"]
    mlp_width, _ = shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"]
    layers = count_children(shapes, "visual.transformer.resblocks.")
    made = SiglipVisionConfig(
        math.isqrt(patches) * patch, patch, width, layers, heads_of_width(width), mlp_width
    )
    like = (dataclasses.replace(made, activation=activation) for activation in Gelu)
    return next((tower for tower in like if tower in TIMM_MODELS.values()), made)


def _gelu_of(kwargs: Any, where: str) -> Gelu:
    for gelu, allowed in ACT_KWARGS.items():
        if kwargs in allowed:
            return gelu
    raise CheckpointError(f"{where}: {CONFIG}: text_cfg.act_kwargs = {kwargs!r}: such a SigLIP is not read")


def _tokenizer(source: Source, options: Options) -> tuple[SiglipTokenizer, str]:
    if "tokenizer" in options:
        return SiglipTokenizer.load(options["tokenizer"]), f"The tokenizer is {options['tokenizer']}."
    for folder in (source.folder, source.folder / "tokenizer"):
        if (folder / TOKENIZER_FILE).is_file():
            try:
                return SiglipTokenizer.load(folder), f"The tokenizer is the one in {folder.name}."
            except InputError as error:
                raise CheckpointError(str(error)) from error
    raise CheckpointError(
        f"{source}: SigLIP's tokenizer is not there: put {TOKENIZER_FILE} and {SETTINGS} beside the weights, "
        "or name their folder with the option tokenizer"
    )


def write(siglip: Siglip, path: Path) -> None:
    """Write a folder that open_clip opens as `local-dir:PATH`.

    Raises CheckpointError where timm has no image tower of these sizes, or the folder holds something.
    """
    config = siglip.model.config
    image, text = config.image, config.text
    name = next((name for name, tower in TIMM_MODELS.items() if tower == image), None)
    if name is None or not isinstance(text, SiglipTextConfig):
        raise CheckpointError(
            f"timm has no image tower like {image}: open_clip's SigLIP are those of {', '.join(TIMM_MODELS)}"
        )
    preprocess = {
        "mean": list(config.mean),
        "std": list(config.std),
        "interpolation": "bicubic",
        "resize_mode": "squash" if siglip.squeezed else "shortest",
        "mode": "RGB",
    }
    about = {"model_cfg": _model_config(config, text, name, path.name), "preprocess_cfg": preprocess}
    write_folder(path, TABLE.write(siglip.model.state_dict()), about)
    siglip.tokenizer.save_folder(path, text.context)


def _model_config(config: CLIPConfig, text: SiglipTextConfig, timm_name: str, name: str) -> dict[str, Any]:
    about: dict[str, Any] = {
        "embed_dim": config.embedding,
        "custom_text": True,
        "vision_cfg": {
            "image_size": config.image.image_size,
            "timm_model_name": timm_name,
            "timm_model_pretrained": False,
            **{key: value for key, (value, _) in REQUIRED["vision_cfg"].items()},
        },
        "text_cfg": {
            "context_length": text.context,
            "vocab_size": text.vocabulary,
            "hf_tokenizer_name": name,  # of a folder they take the folder's own, if there is any name
            "width": text.width,
            "heads": text.heads,
            "layers": text.layers,
            "mlp_ratio": _ratio(text.mlp_width, text.width),
            "proj_type": "linear" if text.projection else "none",
            "proj_bias": text.projection,
            "act_kwargs": ACT_KWARGS[text.activation][-1],
            **{key: value for key, (value, _) in REQUIRED["text_cfg"].items()},
        },
    }
    if config.logit_bias:
        about["init_logit_bias"] = SIGMOID_INITIAL_BIAS
    return about


def _ratio(inner: int, width: int) -> float:
    """A ratio of which `int(width * ratio)`, as they compute it, is `inner`."""
    return inner / width if int(width * (inner / width)) == inner else (inner + 0.5) / width


def convert(source: Source, options: Options) -> Conversion:
    """A bundle of the family `clip`."""
    siglip = read(source, options)
    size = siglip.model.config.image.image_size
    preprocessing = Preprocessing(size, "stretch" if siglip.squeezed else "crop")
    parts = {"tokenizer": Part(siglip.tokenizer), "clip": Part(siglip.model, preprocessing=preprocessing)}
    return Conversion(source.name, "clip", parts, notes=siglip.notes)


def export(bundle: Bundle, path: Path) -> None:
    """`write` for the CLIP of a bundle. Raises CheckpointError where it is no SigLIP that open_clip has."""
    model, tokenizer = bundle.model("clip"), bundle.tokenizer()
    if not isinstance(model, CLIP) or not isinstance(tokenizer, SiglipTokenizer):
        raise CheckpointError(f"bundle {bundle.name}: its CLIP or its tokenizer is not SigLIP's")
    preprocessing = bundle.component("clip").preprocessing
    if preprocessing is not None and preprocessing.fit == "pad":
        raise CheckpointError(f"bundle {bundle.name}: open_clip has no preprocessing that pads with white")
    write(Siglip(model, tokenizer, preprocessing is None or preprocessing.fit == "stretch"), path)


FORMAT = Format(
    name="clip-siglip",
    title="open_clip's SigLIP (safetensors, .bin or training checkpoint)",
    family="clip",
    looks_like=looks_like,
    convert=convert,
    options=OPTIONS,
    export=export,
)
