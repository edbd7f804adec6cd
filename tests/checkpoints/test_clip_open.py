"""Promises of open_clip's formats: plain and CustomText, bias or none, and nothing guessed in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference import clip as reference
from unclip.bundle import save_bundle
from unclip.checkpoints import clip_open
from unclip.checkpoints.foreign import Conversion, Source
from unclip.errors import CheckpointError
from unclip.images import fit
from unclip.manifest import Preprocessing
from unclip.models.clip import CLIP
from unclip.nn.transformer import Activation
from unclip.tokenizer import CLIP_VOCABULARY

LARGEST_ERROR = 1e-4  # relative, of issue 4
SHAPES = {
    **reference.text_shapes(embedding=48, width=64, layers=1, vocabulary=CLIP_VOCABULARY, context=77),
    **reference.vit_shapes(embedding=48, size=32, patch=8, width=96, layers=1),
}
STATE = reference.random_state(SHAPES)
# heads of 48 channels, which no shape tells, and statistics that are not OpenAI's
MODEL = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 96, "patch_size": 8, "head_width": 96},
    "text_cfg": {"context_length": 77, "vocab_size": CLIP_VOCABULARY, "width": 64, "heads": 1, "layers": 1},
}
PREPROCESS = {
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def custom_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    top = ("visual.", "logit_")
    return {name if name.startswith(top) else f"text.{name}": tensor for name, tensor in state.items()}


def published(
    folder: Path, state: Mapping[str, Tensor], model: Mapping[str, Any], *, binary: bool = False
) -> Path:
    """A folder as open_clip publishes it."""
    folder.mkdir()
    if binary:
        torch.save(dict(state), folder / "open_clip_pytorch_model.bin")
    else:
        save_file(
            {name: tensor.clone() for name, tensor in state.items()}, folder / "open_clip_model.safetensors"
        )
    about = {"model_cfg": model, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    return folder


def convert(path: Path, **options: str) -> Conversion:
    return clip_open.FORMAT.read(Source(path), options)


def clip_of(conversion: Conversion) -> CLIP:
    model = conversion.parts["clip"].source
    assert isinstance(model, CLIP)
    return model


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Pictures in [-1, 1], the same normalised as PREPROCESS says, and texts."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    ids = torch.tensor([[CLIP_VOCABULARY - 2, 5, 6, CLIP_VOCABULARY - 1, 0, 0]])
    return images, ((images + 1) / 2 - mean) / std, ids


@pytest.mark.parametrize("layout", ["plain", "custom text"])
@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("quick", [False, True], ids=["gelu", "quick-gelu"])
def test_a_published_folder_computes_what_its_config_says(
    tmp_path: Path, layout: str, binary: bool, quick: bool
) -> None:
    state = STATE if layout == "plain" else custom_text(STATE)
    folder = published(tmp_path / "tiny", state, {**MODEL, "quick_gelu": quick}, binary=binary)
    assert clip_open.looks_like(Source(folder))
    conversion = convert(folder)
    assert conversion.notes == ("The tokenizer is CLIP's as published, from this package.",)
    model = clip_of(conversion)
    images, normalised, ids = inputs()
    expected = reference.encode_vit(normalised, STATE, quick=quick)
    assert (model.encode_image(images) - expected).abs().max() < LARGEST_ERROR * expected.abs().max()
    expected = reference.encode_text(ids, STATE, quick=quick)
    assert (model.encode_text(ids).embedding - expected).abs().max() < LARGEST_ERROR * expected.abs().max()


def test_pictures_are_cut_out_as_by_torchvision(tmp_path: Path) -> None:
    part = convert(published(tmp_path / "tiny", STATE, MODEL)).parts["clip"]
    assert part.preprocessing == Preprocessing(32, "crop")


def test_the_bias_of_the_sigmoid_loss_is_read(tmp_path: Path) -> None:
    for shape in ((), (1,)):
        state = {
            **custom_text(STATE),
            "logit_bias": torch.full(shape, -7.0),
            "logit_scale": torch.full(shape, 2.0),
        }
        name = "scalar" if shape == () else "vector"
        model = clip_of(convert(published(tmp_path / name, state, {**MODEL, "init_logit_bias": -10})))
        assert model.config.logit_bias
        assert model.logit_bias.item() == -7
        assert model.scale.item() == pytest.approx(torch.tensor(2.0).exp().item())


def test_a_checkpoint_of_a_training_run_is_unwrapped(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in STATE.items()}
    torch.save(
        {"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "epoch_3.pt"
    )
    assert clip_open.looks_like(Source(tmp_path / "epoch_3.pt"))
    conversion = convert(tmp_path / "epoch_3.pt")
    assert "The activation is gelu: there is no open_clip_config.json that says." in conversion.notes[0]
    assert clip_of(conversion).config.activation == Activation.GELU
    quick = convert(tmp_path / "epoch_3.pt", activation="quick-gelu")
    assert clip_of(quick).config.activation == Activation.QUICK_GELU


@pytest.mark.parametrize(
    "name", ["visual.trunk.patch_embed.proj.weight", "text.transformer.embeddings.word.weight"]
)
def test_towers_of_others_are_refused_by_name(tmp_path: Path, name: str) -> None:
    state = {**custom_text(STATE), name: torch.ones(2)}
    with pytest.raises(CheckpointError, match=f"{name} belongs to a tower of timm or Hugging Face"):
        convert(published(tmp_path / "tiny", state, MODEL))


@pytest.mark.parametrize(
    ("tower", "key", "value"),
    [
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_224"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "hf_tokenizer_name", "xlm-roberta-base"),
        ("text_cfg", "norm_kwargs", {"eps": 1e-6}),
    ],
)
def test_what_no_tensor_shows_is_refused_by_name(tmp_path: Path, tower: str, key: str, value: Any) -> None:
    model = {**MODEL, tower: {**MODEL[tower], key: value}}
    with pytest.raises(CheckpointError, match=f"{tower}.{key} = .*: such a CLIP is not read"):
        convert(published(tmp_path / "tiny", STATE, model))


def test_another_preprocessing_is_refused_by_name(tmp_path: Path) -> None:
    folder = published(tmp_path / "tiny", STATE, MODEL)
    about = {"model_cfg": MODEL, "preprocess_cfg": {**PREPROCESS, "resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match=r"preprocess_cfg.resize_mode = 'squash': known is shortest"):
        convert(folder)


@pytest.mark.parametrize("bias", [False, True], ids=["softmax", "sigmoid"])
def test_a_folder_goes_back_as_it_came(tmp_path: Path, bias: bool) -> None:
    state = {**STATE, "logit_bias": torch.tensor(-7.0)} if bias else STATE
    conversion = convert(published(tmp_path / "tiny", state, {**MODEL, "quick_gelu": True}))
    assert conversion.name == "tiny"
    bundle = save_bundle(
        tmp_path / "bundle", name="tiny", parts=conversion.parts, card="", family="clip", dtype=None
    )
    clip_open.export(bundle, tmp_path / "back")
    back = load_file(tmp_path / "back" / "open_clip_model.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    about = json.loads((tmp_path / "back" / "open_clip_config.json").read_text())
    vision = about["model_cfg"]["vision_cfg"]
    assert {key: vision[key] for key in MODEL["vision_cfg"]} == MODEL["vision_cfg"]
    assert about["model_cfg"]["text_cfg"] == MODEL["text_cfg"]
    assert about["model_cfg"]["quick_gelu"]
    assert {key: about["preprocess_cfg"][key] for key in PREPROCESS} == PREPROCESS
    again = clip_of(convert(tmp_path / "back"))
    assert again.config == clip_of(conversion).config
    with pytest.raises(CheckpointError, match="choose an empty folder"):
        clip_open.export(bundle, tmp_path / "back")


def test_open_clips_own_code_computes_the_same(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip", reason="open_clip wants torchvision", exc_type=ImportError)
    torch.manual_seed(0)  # of what open_clip makes before it reads the file
    bundle = save_bundle(
        tmp_path / "bundle",
        name="tiny",
        parts=convert(published(tmp_path / "tiny", STATE, MODEL)).parts,
        card="",
        family="clip",
        dtype=None,
    )
    clip_open.export(bundle, tmp_path / "back")
    theirs, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'back'}")
    images, normalised, ids = inputs()
    model = bundle.model("clip")
    assert isinstance(model, CLIP)
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(images), theirs.encode_image(normalised), rtol=1e-4, atol=1e-4
        )
        ids = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]))
        torch.testing.assert_close(
            model.encode_text(ids).embedding, theirs.encode_text(ids), rtol=1e-4, atol=1e-4
        )
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 94, 3), dtype=np.uint8))
    preprocessing = bundle.component("clip").preprocessing
    assert preprocessing is not None
    pixels = torch.tensor(np.asarray(fit(wide, 32, preprocessing.fit))).permute(2, 0, 1) / 255  # 47 px wide
    mean, std = (torch.tensor(PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close((pixels - mean) / std, transform(wide))
