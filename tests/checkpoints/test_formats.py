"""Promises of conversion: the format is guessed and named, what is not understood is described."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from support.tiny import OPENAI_CLIP
from unclip.bundle import Bundle, Part, save_bundle
from unclip.checkpoints import clip_openai
from unclip.checkpoints.formats import MODULES, Step, convert, export, find_format, formats
from unclip.errors import BundleError, CheckpointError, InputError
from unclip.manifest import Preprocessing
from unclip.models.clip import CLIP
from unclip.nn.transformer import Activation
from unclip.tokenizer import SHIPPED_VOCABULARY, CLIPTokenizer


@pytest.fixture(scope="module")
def model() -> CLIP:
    torch.manual_seed(0)
    return CLIP(OPENAI_CLIP)


@pytest.fixture(scope="module")
def archive(model: CLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of open_clip's training."""
    state = clip_openai.TABLE.write(model.state_dict())
    path = tmp_path_factory.mktemp("foreign") / "tiny.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path


@pytest.fixture(scope="module")
def bundle(model: CLIP, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    parts = {
        "tokenizer": Part(CLIPTokenizer.load(SHIPPED_VOCABULARY)),
        "clip": Part(model, preprocessing=Preprocessing(32, "crop")),
    }
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return save_bundle(folder, name="tiny", parts=parts, card="", family="clip", dtype=None)


def steps(source: Path, folder: Path, **options: Any) -> list[Step]:
    return list(convert(source, folder, **options))


def test_the_format_is_guessed_and_named(archive: Path, model: CLIP, tmp_path: Path) -> None:
    made = steps(archive, tmp_path / "out")
    assert [(step.stage, step.done) for step in made] == [
        (stage, done) for stage in ("recognise", "read", "write") for done in (0, 1)
    ]
    assert f"{archive} is clip-open: open_clip's CLIP" in made[1].text
    assert "The activation is gelu" in made[3].text
    converted = Bundle.load(tmp_path / "out")
    assert (converted.name, converted.family) == ("tiny", "clip")
    state = converted.model("clip").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_what_is_asked_for_is_done(archive: Path, tmp_path: Path) -> None:
    asked = {"format": "clip-open", "name": "mine", "dtype": "bfloat16", "licence": "MIT"}
    steps(archive, tmp_path / "out", **asked, options={"activation": "quick-gelu"})
    converted = Bundle.load(tmp_path / "out")
    assert (converted.name, converted.manifest.licence) == ("mine", "MIT")
    network = converted.model("clip")
    assert isinstance(network, CLIP)
    assert network.config.activation is Activation.QUICK_GELU
    assert network.text.token_embedding.weight.dtype == torch.bfloat16
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# mine" in card
    assert "| clip | CLIP, " in card
    assert "Licence: MIT" in card


@pytest.mark.parametrize("format", ["clip-openai", "clip-open", "clip-transformers"])
def test_what_is_written_is_read_again(bundle: Bundle, model: CLIP, tmp_path: Path, format: str) -> None:
    path = tmp_path / ("clip.pt" if format == "clip-openai" else "clip")
    export(bundle, path, format)
    steps(path, tmp_path / "back", format=format)
    state = Bundle.load(tmp_path / "back").model("clip").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_exports_that_cannot_be_are_refused(bundle: Bundle, tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "there").write_text("precious")
    with pytest.raises(BundleError, match="there exists"):
        export(bundle, tmp_path / "there", "clip-openai")
    assert (tmp_path / "there").read_text() == "precious"
    with pytest.raises(InputError, match="adm is only read: those that are written are clip-openai,"):
        export(bundle, tmp_path / "out", "adm")
    with pytest.raises(CheckpointError, match="of the family unclip: clip-openai holds clip"):
        export(Bundle.load(tiny_bundle), tmp_path / "out", "clip-openai")
    assert not (tmp_path / "out").exists()


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def write_text(path: Path) -> Path:
    path.write_text("hello, these are no weights\n" * 50)
    return path


def write_other(path: Path) -> Path:
    save_file({"lm.weight": torch.ones(3, 4), "lm.bias": torch.ones(3)}, path)
    return path


def write_half(path: Path) -> Path:
    whole = write_other(path).read_bytes()
    path.write_bytes(whole[:-8])
    return path


def write_half_archive(path: Path) -> Path:
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def write_hostile(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Hostile(path.with_name("executed"))))
    return path


def write_nothing(path: Path) -> Path:
    path.mkdir()
    return path


def write_gpt2(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    save_file({"wte.weight": torch.ones(3, 4)}, path / "model.safetensors")
    return path


@pytest.mark.parametrize(
    ("write", "name", "said"),
    [
        (write_text, "text.safetensors", "neither safetensors nor a file of torch's"),
        (
            write_other,
            "other.safetensors",
            r"it holds 2 tensors: lm\.bias \[3\], lm\.weight \[3, 4\].*clip-openai",
        ),
        (write_half, "half.safetensors", "half.safetensors"),
        (write_half_archive, "half.pt", "not a whole zip archive"),
        (write_hostile, "hostile.pt", "refused, for it names .*system"),
        (write_nothing, "nothing", "of no format that is known here"),
        (write_gpt2, "gpt2", r"config\.json says model_type 'gpt2'; it holds 1 tensors: wte\.weight"),
    ],
)
def test_what_is_not_understood_is_described_and_leaves_nothing(
    tmp_path: Path, write: Callable[[Path], Path], name: str, said: str
) -> None:
    source = write(tmp_path / name)
    with pytest.raises(CheckpointError, match=said):
        steps(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_wrong_format_names_the_tensors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        steps(write_other(tmp_path / "other.safetensors"), tmp_path / "out", format="clip-openai")


def test_a_folder_with_other_things_is_left_alone(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(BundleError, match="holds other things than a bundle"):
        steps(archive, tmp_path)
    with pytest.raises(BundleError, match=r"notes\.txt is a file"):
        steps(archive, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int8"}, "unknown dtype 'int8': choose float32, bfloat16, float16"),
        ({"format": "clip-opneai"}, "unknown format 'clip-opneai': did you mean clip-openai"),
        ({"options": {"colour": "red"}}, "has no option 'colour': it has activation, tokenizer"),
    ],
)
def test_wrong_options_are_refused(archive: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        steps(archive, tmp_path / "out", **options)


def test_every_format_is_known_by_its_name() -> None:
    assert {name: format.name for name, format in formats().items()} == {name: name for name in formats()}
    assert all(find_format(name).title for name in formats())


def test_every_file_with_a_format_is_listed_in_the_code_and_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    files = (root / "src/unclip/checkpoints").glob("*.py")
    assert {file.stem for file in files if "\nFORMAT = " in file.read_text(encoding="utf-8")} == set(MODULES)
    page = (root / "docs/checkpoints.md").read_text(encoding="utf-8")
    for format in formats().values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{format.name}` | "))
        assert (format.export is None) == row.endswith(" | yes | no |"), format.name
