"""Promises of OpenAI's format: both layouts are read exactly, and a state dict goes back as it came."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from reference import clip as reference
from support.tensors import error
from unclip.bundle import save_bundle
from unclip.checkpoints import clip_openai
from unclip.checkpoints.foreign import Conversion, Source
from unclip.errors import CheckpointError, InputError
from unclip.manifest import Preprocessing
from unclip.models.clip import CLIP, CLIP_MEAN, CLIP_STD, PRESETS
from unclip.native import unfilled
from unclip.nn.transformer import Activation
from unclip.tokenizer import CLIP_VOCABULARY

LARGEST_ERROR = 1e-4  # relative, of issue 4
TEXT = reference.text_shapes(embedding=48, width=64, layers=2, vocabulary=CLIP_VOCABULARY, context=77)
VIT = TEXT | reference.vit_shapes(embedding=48, size=32, patch=8, width=128, layers=2)
RESNET = TEXT | reference.resnet_shapes(embedding=48, size=64, layers=(1, 2, 1, 1), width=8)
# docs of the released models: tensors, parameters in millions (state dict without the three numbers)
PUBLISHED = {
    "ViT-B/32": (302, 151.3),
    "ViT-B/16": (302, 149.6),
    "ViT-L/14": (446, 427.6),
    "ViT-L/14@336px": (446, 427.9),
    "RN50": (489, 102.0),
    "RN101": (795, 119.7),
    "RN50x4": (669, 178.3),
    "RN50x16": (921, 291.0),
    "RN50x64": (1353, 623.3),
}


def save(state: Mapping[str, Tensor], path: Path) -> Path:
    torch.save(dict(state), path)
    return path


def convert(path: Path, **options: str) -> Conversion:
    return clip_openai.FORMAT.read(Source(path), options)


def clip_of(conversion: Conversion) -> CLIP:
    model = conversion.parts["clip"].source
    assert isinstance(model, CLIP)
    return model


def some_images(size: int) -> tuple[Tensor, Tensor]:
    """Pictures in [-1, 1], and the same normalised as OpenAI does."""
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return images, ((images + 1) / 2 - mean) / std


def some_texts() -> Tensor:
    ids = torch.zeros(3, 77, dtype=torch.int64)
    for row, length in enumerate((2, 20, 77)):
        ids[row, 1:length] = torch.arange(1, length) * 613
        ids[row, 0], ids[row, length - 1] = CLIP_VOCABULARY - 2, CLIP_VOCABULARY - 1
    return ids


class Holder(nn.Module):
    """A module that holds parameters under any dotted name, to write archives of any layout."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Holder:
        root = cls()
        for name, tensor in state.items():
            *parents, last = name.split(".")
            module: nn.Module = root
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, cls())
                module = getattr(module, parent)
            module.register_buffer(last, tensor)
        return root


def save_archive(state: Mapping[str, Tensor], path: Path) -> Path:
    numbers = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such
        torch.jit.script(Holder.of({**state, **numbers, "vocab_size": torch.tensor(CLIP_VOCABULARY)})).save(
            path
        )
    return path


@pytest.mark.parametrize("layout", ["state dict", "archive"])
def test_the_image_transformer_and_the_text_are_openais(tmp_path: Path, layout: str) -> None:
    state = reference.random_state(VIT)
    path = (save if layout == "state dict" else save_archive)(state, tmp_path / "model.pt")
    model = clip_of(convert(path))
    images, normalised = some_images(32)
    assert error(model.encode_image(images), reference.encode_vit(normalised, state)) < LARGEST_ERROR
    ids = some_texts()
    assert error(model.encode_text(ids).embedding, reference.encode_text(ids, state)) < LARGEST_ERROR
    assert model.scale.item() == pytest.approx(50)


def test_pictures_are_cut_out_as_by_torchvision(tmp_path: Path) -> None:
    part = convert(save(reference.random_state(VIT), tmp_path / "model.pt")).parts["clip"]
    assert part.preprocessing == Preprocessing(32, "crop")


def test_the_resnet_is_openais(tmp_path: Path) -> None:
    state = reference.random_state(RESNET)
    model = clip_of(convert(save(state, tmp_path / "model.pt")))
    images, normalised = some_images(64)
    assert error(model.encode_image(images), reference.encode_resnet(normalised, state)) < LARGEST_ERROR


def openais_code() -> ModuleType:
    """`clip/model.py` of an installed openai/CLIP or clip-anytorch; the package itself wants torchvision."""
    package = importlib.util.find_spec("clip")
    if package is None or not package.submodule_search_locations:
        pytest.skip("neither openai/CLIP nor clip-anytorch is installed: they want torchvision")
    spec = importlib.util.spec_from_file_location(
        "openai_clip_model", Path(package.submodule_search_locations[0]) / "model.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shapes", [VIT, RESNET], ids=["vit", "resnet"])
def test_openais_own_code_computes_the_same(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    state = reference.random_state(shapes)
    image = (32, 2, 128, 8) if shapes is VIT else (64, (1, 2, 1, 1), 8, None)  # size, layers, width, patch
    theirs = openais_code().CLIP(48, *image, 77, CLIP_VOCABULARY, 64, 1, 2).eval()
    theirs.load_state_dict(state)
    model = clip_of(convert(save(state, tmp_path / "model.pt")))
    images, normalised = some_images(model.config.image.image_size)
    with torch.no_grad():
        assert error(model.encode_image(images), theirs.encode_image(normalised)) < LARGEST_ERROR
        assert (
            error(model.encode_text(some_texts()).embedding, theirs.encode_text(some_texts())) < LARGEST_ERROR
        )


def test_both_layouts_are_recognised_and_an_archive_by_its_numbers(tmp_path: Path) -> None:
    state = reference.random_state(VIT)
    assert clip_openai.looks_like(Source(save_archive(state, tmp_path / "archive.pt")))
    # a plain state dict of no released architecture might be anybody's
    assert not clip_openai.looks_like(Source(save(state, tmp_path / "state.pt")))


def test_a_bundle_reads_and_writes_back_every_bit(tmp_path: Path) -> None:
    state = reference.random_state(VIT)
    conversion = convert(save(state, tmp_path / "tiny.pt"))
    bundle = save_bundle(
        tmp_path / "bundle",
        name=conversion.name,
        parts=conversion.parts,
        card="",
        family=conversion.family,
        dtype=None,
    )
    clip_openai.export(bundle, tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    assert bundle.tokenizer().encode("a red apple") == [320, 736, 3055]


def test_the_activation_is_quick_gelu_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    state = reference.random_state(VIT)
    path = save(state, tmp_path / "model.pt")
    assert clip_of(convert(path)).config.activation == Activation.QUICK_GELU
    gelu = clip_of(convert(path, activation="gelu"))
    images, normalised = some_images(32)
    assert (
        error(gelu.encode_image(images), reference.encode_vit(normalised, state, quick=False)) < LARGEST_ERROR
    )
    with pytest.raises(InputError, match="activation 'relu': choose gelu or quick-gelu"):
        convert(path, activation="relu")
    with pytest.raises(InputError, match="has no option 'colour'"):
        convert(path, colour="red")


def test_a_tensor_too_many_too_few_or_of_another_shape_is_named(tmp_path: Path) -> None:
    state = reference.random_state(VIT)
    with pytest.raises(CheckpointError, match="unknown visual_extra.weight"):
        convert(save({**state, "visual_extra.weight": torch.ones(2)}, tmp_path / "extra.pt"))
    fewer = {name: tensor for name, tensor in state.items() if name != "visual.ln_pre.bias"}
    with pytest.raises(CheckpointError, match="missing visual.ln_pre.bias"):
        convert(save(fewer, tmp_path / "fewer.pt"))
    wrong = {**state, "ln_final.bias": torch.ones(3)}
    with pytest.raises(CheckpointError, match=r"text.ln_final.bias is \[3\] and should be \[64\]"):
        convert(save(wrong, tmp_path / "wrong.pt"))
    with pytest.raises(CheckpointError, match="not the tensors of a CLIP"):
        convert(save({"a": torch.ones(2)}, tmp_path / "stranger.pt"))


def test_half_precision_stays_but_norms_are_made_float32(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in reference.random_state(VIT).items()}
    model = clip_of(convert(save(halves, tmp_path / "model.pt")))
    assert model.visual.proj.dtype == torch.float16
    assert model.text.ln_final.weight.dtype == torch.float32


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_released_sizes_are_the_published_ones_and_are_told_by_shapes(name: str) -> None:
    tensors, millions = PUBLISHED[name]
    with torch.device("meta"):
        model = unfilled("clip", PRESETS[name])
    state = clip_openai.TABLE.write(model.state_dict())
    assert len(state) == tensors
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.05
    )
    found = clip_openai.config_from_shapes(clip_openai.TABLE.shapes(state, name), Activation.QUICK_GELU, name)
    assert found == PRESETS[name]
