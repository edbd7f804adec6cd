"""Promises of `unclip info` and `generate --like`: what a picture was made with, the picture once more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from unclip import cli

COMMAND = ("--size", "64", "--seed", "7", "--guidance", "3")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


@pytest.fixture
def named(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle where it is found by its name."""
    folder = tmp_path / "home" / "unclip" / "bundles" / "tiny"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tiny_bundle)
    return folder


def test_info_shows_what_a_picture_was_made_with(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "a red\x1b[31m apple", "--model", "tiny", *COMMAND, "--out", "a.webp"]) == 0
    capsys.readouterr()
    assert cli.main(["info", "a.webp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.webp  64 x 64"
    shown = dict(line.split(maxsplit=1) for line in lines[1:])
    assert shown["prompt"] == r"a red\x1b[31m apple"
    assert (shown["seed"], shown["model"], shown["guidance"]) == ("7", "tiny", "3")
    assert cli.main(["info", "a.webp", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert (document["width"], document["made"]["seed"], document["made"]["guidance"]) == (64, 7, 3)


def test_info_says_so_of_pictures_that_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 9)).save("photo.jpg")
    assert cli.main(["info", "photo.jpg"]) == 1
    said = capsys.readouterr()
    assert said.out == "photo.jpg  8 x 9\n"
    assert "photo.jpg: nothing is said of how it was made" in said.err
    assert cli.main(["info", "nothing.png"]) == 2


def test_a_picture_is_drawn_again(named: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "a red apple", "--n", "2", "--model", "tiny", *COMMAND]) == 0
    capsys.readouterr()
    assert cli.main(["generate", "--like", "a-red-apple-seed7-1.png", "--out", "again.png"]) == 0
    assert capsys.readouterr().out == "again.png\n"
    assert Path("again.png").read_bytes() == Path("a-red-apple-seed7-1.png").read_bytes()
    assert cli.main(["generate", "--like", "again.png"]) == 0  # it is the same, and so is its name
    assert capsys.readouterr().out == "a-red-apple-seed7-1.png\n"
    assert cli.main(["generate", "--like", "again.png", "a green apple", "--size", "256", "--json"]) == 0
    (drawn,) = json.loads(capsys.readouterr().out)["pictures"]
    assert (drawn["prompt"], drawn["size"], drawn["seed"], drawn["index"]) == ("a green apple", 256, 7, 1)
    assert drawn["settings"]["guidance"] == 3


@pytest.mark.parametrize("way", [("--dtype", "float32"), ("--dtype", "bfloat16"), ("--exact",)])
def test_a_picture_is_drawn_again_as_it_was_computed(
    named: Path, capsys: pytest.CaptureFixture[str], way: tuple[str, ...]
) -> None:
    assert cli.main(["generate", "a red apple", "--model", "tiny", *COMMAND, *way, "--out", "a.png"]) == 0
    capsys.readouterr()
    assert cli.main(["generate", "--like", "a.png", "--out", "b.png"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()


def test_a_picture_of_other_weights_is_refused_unless_the_model_is_named(
    named: Path, two_priors_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", "a red apple", "--model", "tiny", *COMMAND, "--out", "a.png"]) == 0
    named.unlink()
    assert cli.main(["generate", "--like", "a.png"]) == 1
    assert "no bundle 'tiny'" in capsys.readouterr().err
    named.symlink_to(two_priors_bundle)
    assert cli.main(["generate", "--like", "a.png", "--out", "b.png"]) == 1
    said = capsys.readouterr().err
    assert "a.png was drawn by tiny with the weights " in said
    assert "give --model two-priors to draw it all the same" in said
    assert cli.main(["generate", "--like", "a.png", "--out", "b.png", "--model", str(two_priors_bundle)]) == 0
    said = capsys.readouterr().err
    assert "unclip: warning: a.png was drawn by tiny with the weights " in said
    assert Path("b.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--like", "photo.png"), "photo.png does not say how it was made"),
        (("--like", "nothing.png"), "no such file: nothing.png"),
        (("a", "b", "--like", "photo.png"), "at most one prompt"),
        (("--like", "photo.png", "--from-file", "x"), "at most one prompt"),
    ],
)
def test_what_cannot_be_drawn_again_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Image.new("RGB", (8, 8)).save("photo.png")
    assert cli.main(["generate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
