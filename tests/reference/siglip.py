"""transformers' SiglipModel with small random weights, and what open_clip would publish of it.

The reference for SigLIP: the model, its tensors in open_clip's layout by a table of this file's own, a
tokenizer of T5's kind, and the folder with both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from support.captions import CAPTIONS
from unclip.checkpoints import clip_siglip
from unclip.checkpoints.clip_siglip import TIMM_MODELS, Siglip
from unclip.checkpoints.foreign import Source
from unclip.models.siglip import Gelu, SiglipVisionConfig

LARGEST_ERROR = 1e-4  # relative, of issue 4
CONTEXT, EMBEDDING = 16, 128
# 36 is no multiple of 8, as 384 is none of 14; the MLPs are not four times as wide, as in so400m
TINY = SiglipVisionConfig(image_size=36, patch=8, width=EMBEDDING, layers=2, heads=2, mlp_width=200)
NAMES = {Gelu.EXACT: "vit_tiny_patch8_siglip_36", Gelu.TANH: "vit_tinytanh_patch8_siglip_36"}
GELUS = {Gelu.EXACT: "gelu", Gelu.TANH: "gelu_pytorch_tanh"}
PREPROCESS = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.5, 0.6, 0.7],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
# sentinels behind the others, as in T5's; the model has no rows for them
SENTINELS = ["<extra_id_0>", "<extra_id_1>"]
TEXTS = ["a photo of a red apple", "", "two cats " * 20]


@contextmanager
def tiny_timm_models() -> Iterator[None]:
    """Within it timm has models this small."""
    with pytest.MonkeyPatch.context() as patch:
        for activation, name in NAMES.items():
            patch.setitem(TIMM_MODELS, name, replace(TINY, activation=activation))
        yield


# --- a tokenizer of the kind: sentencepiece's unigrams as `tokenizers` keeps them ---


def pieces() -> list[tuple[str, float]]:
    letters = sorted({letter for caption in CAPTIONS for letter in caption.lower()})[:400]
    words = sorted({word for caption in CAPTIONS for word in re.findall(r"[a-z]{3,}", caption.lower())})
    made: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    made += [(f"▁{word}", -8.0 - 0.01 * len(word)) for word in words[:3000]]
    made += [(letter, -12.0) for letter in letters if letter not in " ▁"]
    return made + [(word, 0.0) for word in SENTINELS]


ROWS = len(pieces()) - len(SENTINELS)


def save_vocabulary(folder: Path) -> Path:
    """Write into a folder what Hugging Face's libraries save of T5's tokenizer, padded with its end."""
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces(), unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *SENTINELS])
    tokenizer.enable_truncation(7)  # what somebody happened to save is not what the model needs
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": {"__type": "AddedToken", "content": "</s>", "normalized": False},
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": CONTEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


# --- the model in both layouts ---


def theirs(activation: Gelu, *, projection: bool = True) -> Any:
    """A random SiglipModel whose norms and biases count."""
    text = {
        "vocab_size": ROWS,
        "hidden_size": 64 if projection else EMBEDDING,
        "intermediate_size": 150,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "projection_size": EMBEDDING,
        "hidden_act": GELUS[activation],
    }
    vision = {
        "hidden_size": TINY.width,
        "intermediate_size": TINY.mlp_width,
        "num_hidden_layers": TINY.layers,
        "num_attention_heads": TINY.heads,
        "image_size": TINY.image_size,
        "patch_size": TINY.patch,
        "hidden_act": GELUS[activation],
    }
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.startswith("logit"):
                parameter.fill_(-7.0 if name == "logit_bias" else 4.7)
            elif parameter.ndim >= 2 and "embedding" not in name and "probe" not in name:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            elif parameter.ndim == 1:
                parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.3 * noise)
            else:
                parameter.copy_(noise)
        if not projection:
            model.text_model.head.weight.copy_(torch.eye(EMBEDDING))
            model.text_model.head.bias.zero_()
    return model


def their_layers(
    state: Mapping[str, Tensor], old: str, new: str, names: Mapping[str, str]
) -> dict[str, Tensor]:
    """A transformer of theirs by the names of timm or open_clip, query, key and value in one."""
    made = {}
    for i in range(2):
        for part in ("weight", "bias"):
            parts = [state[f"{old}.{i}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            made[f"{new}.{i}.{names['qkv']}{part}"] = torch.cat(parts)
            for ours, other in names.items():
                if ours != "qkv":
                    made[f"{new}.{i}.{other}.{part}"] = state[f"{old}.{i}.{ours}.{part}"]
    return made


TIMM_NAMES = {
    "qkv": "attn.qkv.",
    "self_attn.out_proj": "attn.proj",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
OPEN_CLIP_NAMES = {
    "qkv": "attn.in_proj_",
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def in_open_clips_layout(model: nn.Module, *, projection: bool = True) -> dict[str, Tensor]:
    state = model.state_dict()
    text, vision, trunk = "text_model", "vision_model", "visual.trunk"
    query, rest = {}, {}
    for part in ("weight", "bias"):
        query[part], rest[part] = state[f"{vision}.head.attention.in_proj_{part}"].split(
            [TINY.width, 2 * TINY.width]
        )
    made = {
        "logit_scale": state["logit_scale"].reshape(()),
        "logit_bias": state["logit_bias"].reshape(()),
        f"{trunk}.pos_embed": state[f"{vision}.embeddings.position_embedding.weight"][None],
        f"{trunk}.attn_pool.latent": state[f"{vision}.head.probe"],
        "text.token_embedding.weight": state[f"{text}.embeddings.token_embedding.weight"],
        "text.positional_embedding": state[f"{text}.embeddings.position_embedding.weight"],
        **their_layers(state, f"{vision}.encoder.layers", f"{trunk}.blocks", TIMM_NAMES),
        **their_layers(state, f"{text}.encoder.layers", "text.transformer.resblocks", OPEN_CLIP_NAMES),
    }
    for part in ("weight", "bias"):
        made |= {
            f"{trunk}.patch_embed.proj.{part}": state[f"{vision}.embeddings.patch_embedding.{part}"],
            f"{trunk}.norm.{part}": state[f"{vision}.post_layernorm.{part}"],
            f"{trunk}.attn_pool.q.{part}": query[part],
            f"{trunk}.attn_pool.kv.{part}": rest[part],
            f"{trunk}.attn_pool.proj.{part}": state[f"{vision}.head.attention.out_proj.{part}"],
            f"{trunk}.attn_pool.norm.{part}": state[f"{vision}.head.layernorm.{part}"],
            f"{trunk}.attn_pool.mlp.fc1.{part}": state[f"{vision}.head.mlp.fc1.{part}"],
            f"{trunk}.attn_pool.mlp.fc2.{part}": state[f"{vision}.head.mlp.fc2.{part}"],
            f"text.ln_final.{part}": state[f"{text}.final_layer_norm.{part}"],
        }
        if projection:
            made[f"text.text_projection.{part}"] = state[f"{text}.head.{part}"]
    assert (
        projection is False or len(made) == len(state) + 2 - 4 * 2 * 2
    )  # q apart; q, k, v of 4 layers in one
    return {name: tensor.clone().contiguous() for name, tensor in made.items()}


def model_cfg(activation: Gelu, *, projection: bool = True) -> dict[str, Any]:
    text: dict[str, Any] = {
        "context_length": CONTEXT,
        "vocab_size": ROWS,
        "hf_tokenizer_name": "timm/ViT-tiny-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 64 if projection else EMBEDDING,
        "heads": 4,
        "layers": 2,
        "mlp_ratio": 150.5 / 64 if projection else 150.5 / EMBEDDING,
        "no_causal_mask": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    text |= {"proj_bias": True} if projection else {"proj_type": "none"}
    if activation is Gelu.TANH:
        text["act_kwargs"] = {"approximate": "tanh"}
    vision = {
        "image_size": TINY.image_size,
        "timm_model_name": NAMES[activation],
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    }
    return {
        "embed_dim": EMBEDDING,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision,
        "text_cfg": text,
    }


def published(
    folder: Path, state: Mapping[str, Tensor], model: Mapping[str, Any] | None, vocabulary: Path | None
) -> Path:
    """A folder as open_clip publishes it; without `model` it has no config."""
    folder.mkdir(parents=True)
    save_file(dict(state), folder / "open_clip_model.safetensors")
    if model is not None:
        about = {"model_cfg": model, "preprocess_cfg": PREPROCESS}
        (folder / "open_clip_config.json").write_text(json.dumps(about))
    for file in vocabulary.iterdir() if vocabulary else ():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def read(path: Path, **options: str) -> Siglip:
    return clip_siglip.read(Source(path), options)


def pictures(mean: Any = PREPROCESS["mean"], std: Any = PREPROCESS["std"]) -> tuple[Tensor, Tensor]:
    """In [-1, 1], and the same normalised."""
    images = (
        torch.rand(2, 3, TINY.image_size, TINY.image_size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )
    return images, ((images + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def drawing() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 57, 3), np.uint8)
    return Image.fromarray(pixels).resize((114, 60), Image.Resampling.BICUBIC)
