"""Promises of SigLIP's format: both towers and the tokenizer compute what open_clip's and Google's do.

The reference is transformers' SiglipModel with small random weights, put into open_clip's layout by a table
of this file's own; open_clip's own code where it can be imported (it wants torchvision).
"""

from __future__ import annotations

import copy
import html
import json
import re
import string
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from unclip import cli
from unclip.bundle import Bundle
from unclip.checkpoints import clip_siglip
from unclip.checkpoints.clip_siglip import TIMM_MODELS, Siglip
from unclip.checkpoints.foreign import Source
from unclip.checkpoints.formats import export, guess
from unclip.checkpoints.native import unfilled
from unclip.checkpoints.siglip_tokenizer import SiglipTokenizer, canonical
from unclip.embedding import ClipEmbedder
from unclip.errors import CheckpointError, InputError
from unclip.evaluate.encoder import Encoder
from unclip.images import fit
from unclip.models.clip import CLIP, CLIP_MEAN, CLIP_STD, CBOWConfig, CLIPConfig
from unclip.models.siglip import Gelu, SiglipTextConfig, SiglipVisionConfig
from unclip.nn.transformer import Activation

LARGEST_ERROR = 1e-4  # relative, of issue 4
CAPTIONS = (Path(__file__).parent / "data" / "captions.txt").read_text(encoding="utf-8").splitlines()
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


@pytest.fixture(scope="module", autouse=True)
def tiny_timm_models() -> Any:
    """timm has no model this small."""
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


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Hugging Face's libraries save T5's tokenizer, padded with its end."""
    folder = tmp_path_factory.mktemp("vocabulary")
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


def naive_cleaning(text: str) -> str:
    text = re.sub(
        "[" + re.escape(string.punctuation.replace("_", "")) + "]", "", html.unescape(html.unescape(text))
    )
    return re.sub(r"\s+", " ", text.replace("_", " ").lower()).strip()


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


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return in_open_clips_layout(theirs(Gelu.EXACT))


@pytest.fixture(scope="module")
def folder(state: dict[str, Tensor], vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("published") / "tiny", state, model_cfg(Gelu.EXACT), vocabulary)


def read(path: Path, **options: str) -> Siglip:
    return clip_siglip.read(Source(path), options)


def error(ours: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert ours.shape == expected.shape
    return float((ours - expected).abs().max() / expected.abs().max())


def pictures(mean: Any = PREPROCESS["mean"], std: Any = PREPROCESS["std"]) -> tuple[Tensor, Tensor]:
    """In [-1, 1], and the same normalised."""
    images = (
        torch.rand(2, 3, TINY.image_size, TINY.image_size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )
    return images, ((images + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


TEXTS = ["a photo of a red apple", "", "two cats " * 20]


@pytest.mark.parametrize("activation", Gelu)
@pytest.mark.parametrize("projection", [True, False], ids=["projection", "none"])
@torch.no_grad()
def test_both_towers_are_transformers(
    activation: Gelu, projection: bool, vocabulary: Path, tmp_path: Path
) -> None:
    reference = theirs(activation, projection=projection)
    state = in_open_clips_layout(reference, projection=projection)
    path = published(tmp_path / "tiny", state, model_cfg(activation, projection=projection), vocabulary)
    assert [format.name for format in guess(Source(path))] == ["clip-siglip"]
    siglip = read(path)
    model, tokens = siglip.model, siglip.tokenizer.batch(TEXTS, CONTEXT)
    assert tokens.ids.shape == (3, CONTEXT)
    images, normalised = pictures()
    expected = reference(input_ids=tokens.ids, pixel_values=normalised)
    found = model(images, tokens.ids, tokens.mask)
    assert error(found.image, expected.vision_model_output.pooler_output) < LARGEST_ERROR
    assert error(found.text, expected.text_model_output.pooler_output) < LARGEST_ERROR
    sequence = model.encode_text(tokens.ids).sequence
    assert error(sequence, expected.text_model_output.last_hidden_state) < LARGEST_ERROR
    rows, columns = (torch.nn.functional.normalize(side, dim=-1) for side in (found.image, found.text))
    assert found.bias is not None
    assert error(rows @ columns.T * found.scale + found.bias, expected.logits_per_image) < LARGEST_ERROR
    other = next(gelu for gelu in Gelu if gelu is not activation)
    again = read(path, activation=other).model(images, tokens.ids)  # the two GELU are not the same
    assert error(again.image, found.image) > LARGEST_ERROR
    assert error(again.text, found.text) > LARGEST_ERROR


@torch.no_grad()
def test_a_text_means_the_same_however_it_is_padded(folder: Path) -> None:
    siglip = read(folder)
    whole = siglip.tokenizer.batch(TEXTS[:1], CONTEXT, full=True)
    short = siglip.tokenizer.batch(TEXTS[:1], CONTEXT)
    assert short.ids.shape[1] < CONTEXT
    count = short.ids.shape[1]
    other = whole.ids.masked_fill(~whole.mask, 0)  # padded as another tokenizer would
    expected = siglip.model.encode_text(whole.ids)
    for ids, mask in ((short.ids, None), (short.ids, short.mask), (other, whole.mask)):
        found = siglip.model.encode_text(ids, mask)
        assert torch.equal(found.embedding, expected.embedding)
        assert torch.equal(found.sequence[:, :count], expected.sequence[:, :count])
    assert not torch.equal(siglip.model.encode_text(other).embedding, expected.embedding)
    with pytest.raises(InputError, match="they must be"):
        siglip.model.encode_text(torch.zeros(1, CONTEXT + 1, dtype=torch.int64))


def test_what_a_config_says_is_read(folder: Path) -> None:
    siglip = read(folder)
    assert siglip.squeezed
    assert siglip.notes == ("The tokenizer is the one in tiny.",)
    config = siglip.model.config
    assert (config.mean, config.std) == (tuple(PREPROCESS["mean"]), tuple(PREPROCESS["std"]))
    assert config.image == TINY
    assert config.text == SiglipTextConfig(ROWS, CONTEXT, 64, 2, 4, 150, pad=1)
    assert (config.end_token, config.logit_bias, config.embedding) == (1, True, EMBEDDING)


def test_a_config_without_preprocessing_means_open_clips_default(folder: Path, tmp_path: Path) -> None:
    path = published(tmp_path / "tiny", load_file(folder / "open_clip_model.safetensors"), None, folder)
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg(Gelu.EXACT)}))
    siglip = read(path)
    assert not siglip.squeezed
    assert (siglip.model.config.mean, siglip.model.config.std) == (CLIP_MEAN, CLIP_STD)


def test_a_checkpoint_of_a_training_run_says_what_was_assumed(
    state: dict[str, Tensor], folder: Path, vocabulary: Path, tmp_path: Path
) -> None:
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, tmp_path / "epoch_3.pt")
    source = Source(tmp_path / "epoch_3.pt")
    assert [format.name for format in guess(source)] == ["clip-siglip"]
    with pytest.raises(CheckpointError, match=r"put tokenizer.json and tokenizer_config.json beside"):
        clip_siglip.read(source, {})
    siglip = read(tmp_path / "epoch_3.pt", tokenizer=str(vocabulary))
    assert "need the option activation=gelu-tanh" in siglip.notes[0]
    config = siglip.model.config
    # what cannot be seen of the picture shapes do not tell, and heads are 64 wide
    assert config.image == replace(TINY, image_size=32)
    assert config.text.heads == 1
    assert (siglip.squeezed, config.mean, config.std) == (True, (0.5,) * 3, (0.5,) * 3)
    changed = read(tmp_path / "epoch_3.pt", tokenizer=str(vocabulary), activation="gelu-tanh").model.config
    assert changed.image == replace(TINY, image_size=32, activation=Gelu.TANH)
    assert changed.text == replace(config.text, activation=Gelu.TANH)
    with pytest.raises(InputError, match="activation 'quick-gelu': choose gelu or gelu-tanh"):
        read(tmp_path / "epoch_3.pt", tokenizer=str(vocabulary), activation="quick-gelu")


def test_without_a_config_the_gelu_is_that_of_timms_model(
    state: dict[str, Tensor], vocabulary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES.values():
        monkeypatch.delitem(TIMM_MODELS, name)
    monkeypatch.setitem(TIMM_MODELS, "only", replace(TINY, image_size=32, activation=Gelu.TANH))
    config = read(published(tmp_path / "tiny", state, None, vocabulary)).model.config
    assert isinstance(config.image, SiglipVisionConfig)
    assert config.image.activation is Gelu.TANH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual.trunk.attn_pool.kv.bias"), r"missing visual.trunk.attn_pool.kv.bias"),
        (
            lambda s: s.pop("visual.trunk.blocks.1.norm2.bias"),
            r"missing visual.transformer.resblocks.1.ln_2.bias",
        ),
        (
            lambda s: s.update({"visual.trunk.cls_token": torch.ones(1, 1, 128)}),
            "unknown visual.trunk.cls_token",
        ),
        (
            lambda s: s.update({"visual.trunk.attn_pool.latent": torch.ones(1, 2, 128)}),
            r"mis-shaped visual.pool.probe is \[256\] and should be \[128\]",
        ),
        (
            lambda s: s.update({"visual.trunk.pos_embed": torch.ones(1, 17, 128)}),
            r"mis-shaped visual.positional_embedding is \[17, 128\] and should be \[16, 128\]",
        ),
        (
            lambda s: s.update({"text.cls_emb": torch.ones(64)}),
            "without a place in the model text.cls_emb",
        ),
    ],
)
def test_tensors_are_those_of_the_model_or_named(
    change: Any, message: str, state: dict[str, Tensor], vocabulary: Path, tmp_path: Path
) -> None:
    state = dict(state)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        read(published(tmp_path / "tiny", state, model_cfg(Gelu.EXACT), vocabulary))


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base_patch16_clip_224"),
        ("vision_cfg", "timm_pool", "avg"),
        ("vision_cfg", "timm_proj", "linear"),
        ("vision_cfg", "timm_drop", 0.1),
        ("text_cfg", "no_causal_mask", None),
        ("text_cfg", "pool_type", None),
        ("text_cfg", "norm_kwargs", None),
        ("text_cfg", "norm_kwargs", {"eps": 1e-5}),
        ("text_cfg", "tokenizer_kwargs", {"clean": "whitespace"}),
        ("text_cfg", "tokenizer_mode", "clips"),
        ("text_cfg", "act_kwargs", {"approximate": "none", "inplace": True}),
        ("text_cfg", "hf_model_name", "facebook/nllb-200-distilled-600M"),
        (None, "quick_gelu", True),
    ],
)
def test_what_no_tensor_shows_is_refused_by_name(
    tower: str | None, key: str, value: Any, state: dict[str, Tensor], vocabulary: Path, tmp_path: Path
) -> None:
    model = copy.deepcopy(model_cfg(Gelu.EXACT))
    place = model[tower] if tower else model
    if value is None:
        del place[key]
    else:
        place[key] = value
    with pytest.raises(CheckpointError, match=rf"open_clip_config.json: {tower or 'model_cfg'}\.{key} = "):
        read(published(tmp_path / "tiny", state, model, vocabulary))


def test_another_preprocessing_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    path = published(tmp_path / "tiny", load_file(folder / "open_clip_model.safetensors"), None, folder)
    about = {"model_cfg": model_cfg(Gelu.EXACT), "preprocess_cfg": {**PREPROCESS, "resize_mode": "longest"}}
    (path / "open_clip_config.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="resize_mode = 'longest': known is squash or shortest"):
        read(path)


@pytest.mark.parametrize("activation", Gelu)
@pytest.mark.parametrize("projection", [True, False], ids=["projection", "none"])
def test_a_folder_goes_back_as_it_came(
    activation: Gelu, projection: bool, vocabulary: Path, tmp_path: Path
) -> None:
    state = in_open_clips_layout(theirs(activation, projection=projection), projection=projection)
    said = model_cfg(activation, projection=projection)
    siglip = read(published(tmp_path / "tiny", state, said, vocabulary))
    clip_siglip.write(siglip, tmp_path / "back")
    back = load_file(tmp_path / "back" / "open_clip_model.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    about = json.loads((tmp_path / "back" / "open_clip_config.json").read_text())
    assert about["preprocess_cfg"] == {**PREPROCESS, "mode": "RGB"}
    assert about["model_cfg"]["vision_cfg"] == said["vision_cfg"]
    text = about["model_cfg"]["text_cfg"]
    assert int(text["width"] * text["mlp_ratio"]) == 150  # as they compute it
    again = read(tmp_path / "back")
    assert again.model.config == siglip.model.config
    assert again.squeezed is siglip.squeezed
    for caption in CAPTIONS[:50]:
        assert again.tokenizer.encode(caption) == siglip.tokenizer.encode(caption)
    assert (again.tokenizer.end, again.tokenizer.pad) == (siglip.tokenizer.end, siglip.tokenizer.pad)
    with pytest.raises(CheckpointError, match="choose an empty folder"):
        clip_siglip.write(siglip, tmp_path / "back")


def test_what_timm_does_not_have_is_not_written(folder: Path, tmp_path: Path) -> None:
    tanh = read(folder, activation="gelu-tanh")
    name = NAMES[Gelu.TANH]
    clip_siglip.write(tanh, tmp_path / "tanh")
    about = json.loads((tmp_path / "tanh" / "open_clip_config.json").read_text())
    assert about["model_cfg"]["vision_cfg"]["timm_model_name"] == name
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(TIMM_MODELS, name)
        with pytest.raises(CheckpointError, match="timm has no image tower like"):
            clip_siglip.write(tanh, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("activation", Gelu)
@pytest.mark.parametrize("projection", [True, False], ids=["projection", "none"])
@torch.no_grad()
def test_open_clips_own_code_computes_the_same(
    activation: Gelu, projection: bool, vocabulary: Path, tmp_path: Path
) -> None:
    """From the folder that is read, and from what is written of it; pictures by timm, texts from words on."""
    open_clip = pytest.importorskip("open_clip", reason="open_clip wants torchvision", exc_type=ImportError)
    timm = pytest.importorskip("timm")

    def tiny(pretrained: bool = False, *, num_classes: int, global_pool: str, **_: Any) -> Any:
        return timm.models.VisionTransformer(
            img_size=TINY.image_size,
            patch_size=TINY.patch,
            embed_dim=TINY.width,
            depth=TINY.layers,
            num_heads=TINY.heads,
            mlp_ratio=TINY.mlp_width / TINY.width,
            act_layer="gelu_tanh" if activation is Gelu.TANH else None,
            class_token=False,
            num_classes=num_classes,
            global_pool=global_pool,
        )

    tiny.__name__, tiny.__module__ = NAMES[activation], "timm.models.vision_transformer"
    timm.models.vision_transformer.__dict__[tiny.__name__] = tiny
    timm.models.register_model(tiny)
    state = in_open_clips_layout(theirs(activation, projection=projection), projection=projection)
    given = published(tmp_path / "given", state, model_cfg(activation, projection=projection), vocabulary)
    siglip = read(given)
    clip_siglip.write(siglip, tmp_path / "written")
    images, normalised = pictures()
    texts = [*TEXTS, *CAPTIONS[:100]]
    for path in (given, tmp_path / "written"):
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{path}")
        ids = open_clip.get_tokenizer(f"local-dir:{path}")(texts)
        assert torch.equal(ids, siglip.tokenizer.batch(texts, CONTEXT, full=True).ids)
        assert error(siglip.model.encode_image(images), model.encode_image(normalised)) < LARGEST_ERROR
        assert error(siglip.model.encode_text(ids).embedding, model.encode_text(ids)) < LARGEST_ERROR
        assert siglip.model.scale.item() == pytest.approx(model.logit_scale.exp().item())
        seen = fit(drawing(), TINY.image_size, "stretch")
        pixels = torch.from_numpy(np.asarray(seen).copy()).permute(2, 0, 1) / 255
        mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
        assert error((pixels - mean) / std, transform(drawing())) < LARGEST_ERROR


@pytest.mark.parametrize("name", sorted(TIMM_MODELS))
def test_timms_models_are_as_the_table_has_them(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm wants torchvision", exc_type=ImportError)
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0, global_pool="map")
    first, pool = model.blocks[0], model.attn_pool
    (size, _), (patch, _) = model.patch_embed.img_size, model.patch_embed.patch_size
    activation = Gelu.TANH if type(first.mlp.act).__name__ == "GELUTanh" else Gelu.EXACT
    sizes = (model.embed_dim, len(model.blocks), first.attn.num_heads, first.mlp.fc1.out_features)
    assert SiglipVisionConfig(size, patch, *sizes, activation) == TIMM_MODELS[name]
    assert (pool.num_heads, pool.mlp.fc1.out_features) == sizes[2:]
    assert type(pool.mlp.act) is type(first.mlp.act)
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-6}


# --- tokenizer ---


def test_a_thousand_captions_have_the_same_tokens(vocabulary: Path) -> None:
    ours = SiglipTokenizer.load(vocabulary)
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(vocabulary))
    assert len(CAPTIONS) >= 1000
    cleaned = [naive_cleaning(caption) for caption in CAPTIONS]
    assert cleaned == [canonical(caption) for caption in CAPTIONS]
    settings = {"max_length": CONTEXT, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
    expected = tokenizer(cleaned, **settings)["input_ids"]  # as open_clip calls it
    batch = ours.batch(CAPTIONS, CONTEXT, full=True)
    assert torch.equal(batch.ids, expected)
    cut = [len(ours.encode(caption)) > CONTEXT - 1 for caption in CAPTIONS]
    assert sum(cut) >= 30
    assert [text is not None for text in batch.truncated] == cut
    for caption, text, row in zip(CAPTIONS, batch.truncated, batch.ids.tolist(), strict=True):
        if text is not None:
            assert canonical(caption).endswith(text)
            assert row[-1] == ours.end
    assert (batch.ids == 2).any()  # some letters are unknown


def test_a_row_is_tokens_an_end_and_padding(vocabulary: Path) -> None:
    tokenizer = SiglipTokenizer.load(vocabulary)
    assert (tokenizer.end, tokenizer.start, tokenizer.pad, tokenizer.vocabulary) == (1, 1, 1, ROWS)
    batch = tokenizer.batch(["", "a red apple"], CONTEXT)
    apple = tokenizer.encode("A_red, APPLE!")
    assert batch.ids.tolist() == [[1] * (len(apple) + 1), [*apple, 1]]
    assert batch.mask.sum(1).tolist() == [1, len(apple) + 1]
    assert tokenizer.batch([""], CONTEXT).ids.tolist() == [[1]]
    assert tokenizer.batch(["</s>"], CONTEXT).ids.tolist() == [[*tokenizer.encode("s"), 1]]
    for texts, context in (([], CONTEXT), (["a"], 1)):
        with pytest.raises(InputError):
            tokenizer.batch(texts, context)


def test_no_text_reaches_an_id_that_the_model_has_no_row_for(vocabulary: Path) -> None:
    tokenizer = SiglipTokenizer.load(vocabulary)
    full_width = "".join(chr(ord(letter) + 0xFEE0) for letter in SENTINELS[0])
    for text in (SENTINELS[0], full_width, f"a {full_width} b"):
        assert max(tokenizer.encode(text)) < ROWS


def test_a_tokenizer_is_saved_with_its_padding(vocabulary: Path, tmp_path: Path) -> None:
    tokenizer = SiglipTokenizer.load(vocabulary)
    tokenizer.save(tmp_path / "saved.json")
    again = SiglipTokenizer.load(tmp_path / "saved.json")
    assert (again.end, again.pad, again.vocabulary) == (tokenizer.end, tokenizer.pad, tokenizer.vocabulary)
    assert torch.equal(again.batch(CAPTIONS, 64).ids, tokenizer.batch(CAPTIONS, 64).ids)


def test_gemmas_kind_of_tokenizer_is_read(tmp_path: Path) -> None:
    """Byte-pair merges, unknown letters by their bytes, and a padding that is not the end."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", "a", "b", "ab", "▁ab", "<start_of_image>"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab={word: i for i, word in enumerate(words)},
            merges=[("a", "b"), ("▁", "ab")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_image>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": False, "add_eos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = SiglipTokenizer.load(tmp_path)
    ids = {word: i for i, word in enumerate(words)}
    assert ours.vocabulary == ids["▁ab"] + 1
    euro = [ids[f"<0x{byte:02X}>"] for byte in "€".encode()]
    batch = ours.batch(["Ab ab €", "b"], 16)
    assert batch.ids.tolist()[0] == [ids["ab"], ids["▁ab"], ids["▁"], *euro, 1]
    assert batch.ids.tolist()[1] == [ids["b"], 1, 0, 0, 0, 0, 0]
    for change, message in (
        ({"add_bos_token": True}, "have an end and no start"),
        ({"add_eos_token": False}, "have an end and no start"),
        ({"pad_token": "<nothing>"}, "pad_token is '<nothing>', which the vocabulary does not have"),
        ({"eos_token": None}, "eos_token is None"),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | change))
        with pytest.raises(InputError, match=message):
            SiglipTokenizer.load(tmp_path)


def test_what_is_no_such_tokenizer_is_refused(vocabulary: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a tokenizer"):
        SiglipTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((vocabulary / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"tokenizer_config.json: needed to know how texts end"):
        SiglipTokenizer.load(tmp_path)
    with pytest.raises(InputError, match="how it is padded: give its folder"):
        SiglipTokenizer.load(tmp_path / "tokenizer.json")
    bare = tokenizers.Tokenizer(models.Unigram([("</s>", 0.0), ("a", -1.0)]))
    bare.save(str(tmp_path / "tokenizer.json"))
    settings = {"eos_token": "</s>", "pad_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="has no token <unk>"):
        SiglipTokenizer.load(tmp_path)


# --- sizes ---

# Parameters and tensors of `open_clip.CustomTextCLIP` for open_clip 3.3.0's configs of these names, built on
# the meta device with timm 1.0.31; docs/model_profile.csv of open_clip has the first nine to 0.01 million.
# timm's model, text: vocabulary, context, width, projection -> parameters, tensors
PUBLISHED = {
    "ViT-B-16-SigLIP": ("base_patch16_siglip_224", 32_000, 64, 768, True, 203_155_970, 314),
    "ViT-B-16-SigLIP-256": ("base_patch16_siglip_256", 32_000, 64, 768, True, 203_202_050, 314),
    "ViT-B-16-SigLIP-384": ("base_patch16_siglip_384", 32_000, 64, 768, True, 203_447_810, 314),
    "ViT-B-16-SigLIP-512": ("base_patch16_siglip_512", 32_000, 64, 768, True, 203_791_874, 314),
    "ViT-B-16-SigLIP-i18n-256": ("base_patch16_siglip_256", 250_000, 64, 768, True, 370_626_050, 314),
    "ViT-L-16-SigLIP-256": ("large_patch16_siglip_256", 32_000, 64, 1024, True, 652_150_786, 602),
    "ViT-L-16-SigLIP-384": ("large_patch16_siglip_384", 32_000, 64, 1024, True, 652_478_466, 602),
    "ViT-SO400M-14-SigLIP": ("so400m_patch14_siglip_224", 32_000, 16, 1152, True, 877_360_306, 674),
    "ViT-SO400M-14-SigLIP-384": ("so400m_patch14_siglip_384", 32_000, 64, 1152, True, 877_960_498, 674),
    "ViT-SO400M-16-SigLIP-i18n-256": (
        *("so400m_patch16_siglip_256", 250_000, 64, 1152, False),
        *(1_127_430_706, 672),
    ),
    "ViT-B-32-SigLIP2-256": ("base_patch32_siglip_256", 256_000, 64, 768, True, 376_856_066, 314),
    "ViT-L-16-SigLIP2-512": ("large_patch16_siglip_512", 256_000, 64, 1024, True, 882_313_218, 602),
    "ViT-SO400M-14-SigLIP2-378": ("so400m_patch14_siglip_378", 256_000, 64, 1152, True, 1_136_008_498, 674),
    "ViT-gopt-16-SigLIP2-384": ("giantopt_patch16_siglip_384", 256_000, 64, 1152, True, 1_871_885_426, 830),
}
TEXT_SIZES = {768: (12, 12, 3072), 1024: (24, 16, 4096), 1152: (27, 16, 4304)}  # layers, heads, MLP


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_the_published_numbers(name: str) -> None:
    timm_name, vocabulary, context, width, projection, parameters, tensors = PUBLISHED[name]
    image = TIMM_MODELS[f"vit_{timm_name}"]
    text = SiglipTextConfig(vocabulary, context, width, *TEXT_SIZES[width], pad=1, projection=projection)
    config = CLIPConfig(image.width, image, text, end_token=1, logit_bias=True)
    with torch.device("meta"):
        model = CLIP(config)
    written = clip_siglip.TABLE.write(model.state_dict())
    assert sum(tensor.numel() for tensor in written.values()) == parameters
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(written) == tensors
    shapes = clip_siglip.TABLE.shapes(written, name)
    assert shapes == {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def test_google_counts_the_same() -> None:
    with torch.device("meta"):
        model = transformers.SiglipModel(transformers.SiglipConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED["ViT-B-16-SigLIP"][-2]


# --- the config ---

IMAGE = SiglipVisionConfig(image_size=16, patch=8, width=32, layers=1, heads=2, mlp_width=64)
TEXT = SiglipTextConfig(vocabulary=9, context=4, width=32, layers=1, heads=2, mlp_width=64, pad=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": 48}, "siglip-vit has no projection and a width of 32"),
        (
            {"text": replace(TEXT, width=16, projection=False)},
            "siglip-transformer has no projection and a width of 16",
        ),
        ({"activation": Activation.QUICK_GELU}, "SigLIP's towers have one each of their own"),
        ({"dropout": 0.1}, "siglip-vit with siglip-transformer has no transformer to drop from"),
        (
            {"text": CBOWConfig(9, 4, 16), "activation": Activation.QUICK_GELU},
            "SigLIP's towers have one each of their own",
        ),
    ],
)
def test_a_config_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(CLIPConfig(32, IMAGE, TEXT, end_token=1), **change)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="patches of 17 pixels do not fit 16"):
        replace(IMAGE, patch=17)
    with pytest.raises(InputError, match="pad 9 is not in the vocabulary of 9"):
        replace(TEXT, pad=9)


def test_both_towers_train() -> None:
    torch.manual_seed(0)
    model = CLIP(CLIPConfig(32, IMAGE, TEXT, end_token=1, logit_bias=True))
    features = model(torch.rand(2, 3, 16, 16) * 2 - 1, torch.tensor([[3, 4, 1], [5, 1, 1]]))
    assert features.bias is not None
    (features.image @ features.text.T * features.scale + features.bias).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_a_model_is_made_unfilled_in_no_time() -> None:
    model = unfilled("clip", CLIPConfig(32, IMAGE, TEXT, end_token=1))
    assert isinstance(model, CLIP)


# --- the bundle ---


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """By the command line, the format guessed."""
    path = tmp_path_factory.mktemp("bundles") / "siglip"
    assert cli.main(["convert", str(folder), str(path)]) == 0
    return Bundle.load(path)


def drawing() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 57, 3), np.uint8)
    return Image.fromarray(pixels).resize((114, 60), Image.Resampling.BICUBIC)


@torch.no_grad()
def test_a_bundle_embeds_pictures_and_texts_as_google_does(bundle: Bundle) -> None:
    reference = theirs(Gelu.EXACT)
    processor = getattr(transformers, "SiglipImageProcessorPil", transformers.SiglipImageProcessor)(
        size={"height": TINY.image_size, "width": TINY.image_size},
        resample=Image.Resampling.BICUBIC,  # open_clip's; theirs is the same but for its config
        image_mean=PREPROCESS["mean"],
        image_std=PREPROCESS["std"],
    )
    embedder = ClipEmbedder.of(bundle, torch.device("cpu"), torch.float32)
    tokens = bundle.tokenizer().batch(TEXTS, CONTEXT, full=True)
    expected = reference(
        pixel_values=processor(drawing(), return_tensors="pt")["pixel_values"], input_ids=tokens.ids
    )
    assert error(embedder.embed_images([drawing()]), expected.image_embeds) < LARGEST_ERROR
    assert error(embedder.embed_texts(TEXTS), expected.text_embeds) < LARGEST_ERROR
    for text, row in zip(TEXTS, expected.text_embeds, strict=True):  # alone, short
        assert error(embedder.read([text]).embedding[0], row) < LARGEST_ERROR
    classes = embedder.classify([drawing()], ["apple", "cat"])[0]
    assert sum(classes.values()) == pytest.approx(1)


def test_its_image_tower_measures_how_differently_pictures_look(bundle: Bundle) -> None:
    encoder = Encoder.of(bundle, torch.device("cpu"), torch.float32)
    first = np.asarray(drawing().resize((36, 36)))[None]
    apart = encoder.distances(np.concatenate([first, first]), np.concatenate([first, 255 - first]))
    assert apart[0] == pytest.approx(0, abs=1e-6)
    assert apart[1] > 0.01


def test_a_bundle_goes_back(bundle: Bundle, state: dict[str, Tensor], tmp_path: Path) -> None:
    export(bundle, tmp_path / "back", "clip-siglip")
    back = load_file(tmp_path / "back" / "open_clip_model.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    about = json.loads((tmp_path / "back" / "open_clip_config.json").read_text())
    assert about["preprocess_cfg"] == {**PREPROCESS, "mode": "RGB"}
    for format in ("clip-openai", "clip-open", "clip-transformers"):
        with pytest.raises(CheckpointError, match="no transformer for texts, as others expect"):
            export(bundle, tmp_path / format, format)


def test_other_clips_are_not_written(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its CLIP or its tokenizer is not SigLIP's"):
        clip_siglip.export(Bundle.load(tiny_bundle), tmp_path / "out")
