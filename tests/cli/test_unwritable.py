"""The promise that no verb works for a file that it cannot write: it says so before it loads anything."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip import cli
from unclip.bundle import Bundle
from unclip.checkpoints import download
from unclip.checkpoints.foreign import Source
from unclip.data.corpus import Corpus

# The last argument is where to write, beneath a folder that there may not be.
VERBS = {
    "generate": ("generate", "a red apple", "--out", "{}/new/"),
    "vary": ("vary", "a.png", "--out", "{}/{{index}}.png"),
    "blend": ("blend", "a.png", "a.png", "--out", "{}/new/"),
    "blend --gif": ("blend", "a.png", "a.png", "--gif", "{}/a.gif"),
    "blend --webp": ("blend", "a.png", "a.png", "--webp", "{}/a.webp"),
    "restyle": ("restyle", "a.png", "--to", "a cat", "--out", "{}/new/"),
    "restyle --sheet": ("restyle", "a.png", "--to", "a cat", "--sheet", "{}/a.png"),
    "edit": ("edit", "a.png", "a red apple", "--out", "{}/new/"),
    "outpaint": ("outpaint", "a.png", "a red apple", "--left", "8", "--out", "{}/new/"),
    "reconstruct": ("reconstruct", "a.png", "--out", "{}/new/"),
    "index": ("index", ".", "--out", "{}/index"),
    "search --sheet": ("search", "a red apple", "--sheet", "{}/sheet.png"),
    "evaluate": ("evaluate", "pictograms", "--data", "corpus", "--out", "{}/report"),
    "train": ("train", "pictograms", "--data", "corpus", "--out", "{}/run"),
    "data folder": ("data", "folder", ".", "{}/corpus"),
    "data pictograms": ("data", "pictograms", "{}/corpus"),
    "convert": ("convert", "a.pt", "{}/bundle"),
    "convert --to": ("convert", "pictograms", "--to", "karlo-diffusers", "{}/weights"),
}


@pytest.fixture(autouse=True)
def _nothing_may_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("the verb loads before it knows whether it can write")

    for owner, name in ((Bundle, "load"), (Corpus, "__init__"), (Source, "__init__"), (download, "fetch")):
        monkeypatch.setattr(owner, name, load)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Image.new("RGB", (8, 8)).save("a.png")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a verb says that is refused, in one line and without a trace."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_beneath_a_file_is_refused_first(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("../file").touch()
    arguments = [argument.format(os.path.join("..", "file")) for argument in VERBS[verb]]
    assert "file is not a folder" in refused(capsys, *arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder_without_permission_is_refused_first(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tempfile.TemporaryFile

    def refuse(*arguments: Any, dir: Path | None = None, **options: Any) -> Any:
        if dir is None:  # scratch of one's own, in the system's folder
            return real(*arguments, **options)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    Path("../locked").mkdir()
    line = refused(capsys, *(argument.format("../locked") for argument in VERBS[verb]))
    assert "cannot write into ../locked" in line
    assert "permission denied; choose another" in line


def test_a_model_is_not_fetched_that_cannot_be_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("../file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(Path("../file").resolve()))
    assert "file is not a folder" in refused(capsys, "pull", "karlo")
