"""Promises of adapters kept apart: they draw what the merged weights draw, and on no other weights."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

import unclip
from unclip.adapters import open_bundle, write_adapters
from unclip.bundle import Bundle
from unclip.cli import main
from unclip.errors import BundleError, CheckpointError
from unclip.manifest import Styles
from unclip.nn.low_rank import attention_weights

STYLES = Styles(words=("sks cup",))


@pytest.fixture
def fitted(tiny_bundle: Path) -> dict[str, torch.nn.Module]:
    """The tiny bundle's prior and decoder, their attention changed by matrices of rank 1."""
    found = {}
    torch.manual_seed(0)
    for component in ("prior", "decoder"):
        model = Bundle.load(tiny_bundle).model(component, dtype=torch.float32)
        for _, owner, name in attention_weights(model):
            weight = getattr(owner, name)
            weight.data = weight.data + torch.randn(len(weight), 1) @ torch.randn(1, weight.shape[1])
        found[component] = model
    return found


@pytest.fixture
def lora(tiny_bundle: Path, fitted: dict[str, torch.nn.Module], tmp_path: Path) -> Path:
    """The folder of a fit, with its adapters; they name their bundle by its folder."""
    folder = tmp_path / "fit" / "lora"
    write_adapters(folder, "cups", Bundle.load(tiny_bundle), fitted, 1, STYLES, "CC0-1.0")
    about = json.loads((folder / "adapters.json").read_text())
    (folder / "adapters.json").write_text(json.dumps({**about, "bundle": str(tiny_bundle)}))
    return folder.parent


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, None])
def test_they_are_merged_when_a_network_is_read(
    lora: Path, fitted: dict[str, torch.nn.Module], dtype: torch.dtype | None
) -> None:
    bundle = open_bundle(None, lora)
    for component, wanted in fitted.items():
        plain = Bundle.load(bundle.folder).model(component, dtype=dtype).state_dict()
        for name, tensor in bundle.model(component, dtype=dtype).state_dict().items():
            assert tensor.dtype == plain[name].dtype
            torch.testing.assert_close(
                tensor.float(), wanted.state_dict()[name].float(), atol=1e-4, rtol=1e-2
            )


def test_pictures_are_others_and_say_by_what(lora: Path, tiny_bundle: Path) -> None:
    model, plain = unclip.load(lora=lora), unclip.load(tiny_bundle)
    assert (model.bundle.name, model.bundle.styles) == ("tiny+cups", STYLES)
    assert model.bundle.identity != plain.bundle.identity
    (now,), (before,) = (one.generate("a red apple", size=64, seed=1) for one in (model, plain))
    assert now.image.tobytes() != before.image.tobytes()
    again = pickle.loads(pickle.dumps(model))
    assert again.bundle.identity == model.bundle.identity


def test_the_command_line_draws_with_them(
    lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cup.png"
    assert main(["generate", "a sks cup", "--lora", str(lora), "--size", "64", "--out", str(out)]) == 0
    assert out.is_file()
    capsys.readouterr()


def test_adapters_of_other_weights_and_altered_ones_are_refused(
    lora: Path, tiny_bundle: Path, two_priors_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="the adapters cups belong to .* not to two-priors"):
        open_bundle(two_priors_bundle, lora)
    with pytest.raises(BundleError, match="no adapters in .* name a folder that `unclip fit --lora` wrote"):
        open_bundle(tiny_bundle, tiny_bundle)
    (lora / "lora" / "prior.safetensors").write_bytes(b"no weights")
    with pytest.raises(BundleError, match="missing or was altered"):
        open_bundle(None, lora).model("prior")
    about = json.loads((lora / "lora" / "adapters.json").read_text())
    (lora / "lora" / "adapters.json").write_text(json.dumps({**about, "bundle": "elsewhere"}))
    with pytest.raises(BundleError, match=r"belong to the bundle elsewhere .* name its folder \(--model\)"):
        open_bundle(None, lora)
    broken = Path(shutil.copytree(lora, tmp_path / "broken"))
    (broken / "lora" / "adapters.json").write_text("{}")
    with pytest.raises(BundleError, match="missing key"):
        open_bundle(None, broken)


def test_weights_that_changed_elsewhere_are_no_adapters(
    tiny_bundle: Path, fitted: dict[str, torch.nn.Module], tmp_path: Path
) -> None:
    fitted["decoder"].null_embedding.data += 1
    with pytest.raises(CheckpointError, match="decoder: null_embedding was changed as well"):
        write_adapters(tmp_path / "a", "a", Bundle.load(tiny_bundle), fitted, 1, STYLES, "")
