"""Promises of sources: what lies in a folder is found, and what is not there is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from unclip.checkpoints.foreign import Conversion, Format, Source
from unclip.config import LARGEST_JSON
from unclip.errors import CheckpointError, InputError


def test_a_source_has_its_weights_its_configs_and_its_parts(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt")
    (tmp_path / "config.json").write_text('{"width": 3}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "vocabulary.json").write_text(json.dumps({"word": "x" * LARGEST_JSON}))
    (tmp_path / "inner").mkdir()
    for source in (Source(tmp_path), Source(tmp_path / "model.pt")):
        assert source.configs == {"config.json": {"width": 3}}
        assert source.config()["width"] == 3
        assert list(source.weights) == ["a"]
        assert source.folder == tmp_path
        assert not source.part("inner").has_weights
    assert (Source(tmp_path).name, Source(tmp_path / "model.pt").name) == (tmp_path.name, "model")
    with pytest.raises(CheckpointError, match=r"no readable model_index.json, which this format needs"):
        Source(tmp_path).config("model_index.json")
    with pytest.raises(CheckpointError, match="unet: no such file or folder"):
        Source(tmp_path).part("unet")


def test_options_that_a_format_does_not_have_are_refused(tmp_path: Path) -> None:
    format = Format(
        name="tiny",
        title="a format of tests",
        family="clip",
        looks_like=lambda source: True,
        convert=lambda source, options: Conversion(options["colour"], "clip", {}),
        options={"colour": "of nothing"},
    )
    assert format.read(Source(tmp_path), {"colour": "red"}).name == "red"
    with pytest.raises(InputError, match="the format tiny has no option 'color': it has colour"):
        format.read(Source(tmp_path), {"color": "red"})


@pytest.mark.parametrize(
    "error", [KeyError("width"), TypeError("no"), RecursionError(), ZeroDivisionError("no")]
)
def test_what_breaks_on_a_config_is_not_of_this_format(tmp_path: Path, error: Exception) -> None:
    def broken(*_: object) -> None:
        raise error

    format = Format("tiny", "a format of tests", "clip", looks_like=broken, convert=broken)  # type: ignore[arg-type]
    for use in (format.read, format.fits):
        with pytest.raises(
            CheckpointError, match=f"not a format of tests: .*{type(error).__name__}"
        ) as caught:
            use(Source(tmp_path))
        assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate")],
)
def test_memory_that_is_lacking_says_nothing_of_the_format(tmp_path: Path, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    format = Format("tiny", "a format of tests", "clip", looks_like=full, convert=full)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="there is not enough memory to read it"):
        format.read(Source(tmp_path))
