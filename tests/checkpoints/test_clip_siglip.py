"""Promises of SigLIP's format: read and written exactly, refused where it says something else.

The files are made of transformers' SiglipModel with small random weights, see `tests/reference/siglip.py`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from reference.siglip import (
    CONTEXT,
    EMBEDDING,
    LARGEST_ERROR,
    NAMES,
    PREPROCESS,
    ROWS,
    TEXTS,
    TINY,
    drawing,
    in_open_clips_layout,
    model_cfg,
    published,
    read,
    save_vocabulary,
    theirs,
    tiny_timm_models,
)
from support.captions import CAPTIONS
from support.tensors import error
from unclip import cli
from unclip.bundle import Bundle
from unclip.checkpoints import clip_siglip
from unclip.checkpoints.clip_siglip import TIMM_MODELS
from unclip.checkpoints.foreign import Source
from unclip.checkpoints.formats import export, guess
from unclip.embedding import ClipEmbedder
from unclip.errors import CheckpointError, InputError
from unclip.evaluate.encoder import Encoder
from unclip.models.clip import CLIP_MEAN, CLIP_STD
from unclip.models.siglip import Gelu, SiglipTextConfig, SiglipVisionConfig


@pytest.fixture(scope="module", autouse=True)
def small_timm() -> Iterator[None]:
    with tiny_timm_models():
        yield


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return in_open_clips_layout(theirs(Gelu.EXACT))


@pytest.fixture(scope="module")
def folder(state: dict[str, Tensor], vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("published") / "tiny", state, model_cfg(Gelu.EXACT), vocabulary)


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


# --- the bundle ---


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """By the command line, the format guessed."""
    path = tmp_path_factory.mktemp("bundles") / "siglip"
    assert cli.main(["convert", str(folder), str(path)]) == 0
    return Bundle.load(path)


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
