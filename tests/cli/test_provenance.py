"""Promises of `unclip provenance` and `unclip verify`, and of signed files from the verbs that draw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from unclip import cli
from unclip.bundle import Bundle
from unclip.images import read_source_type
from unclip.xmp import SourceType


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNCLIP_PROVENANCE", str(tmp_path / "keys"))


def proofs(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """The exit code of `verify`, and the proof of each file."""
    capsys.readouterr()
    code = cli.main(["verify", "--json", *arguments])
    return code, [one.get("proof", "error") for one in json.loads(capsys.readouterr().out)]


def test_pictures_are_signed_once_there_is_a_key_and_not_where_that_is_switched_off(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ["generate", "a cat", "--model", str(tiny_bundle), "--size", "64", "--seed", "1"]
    assert cli.main([*draw, "--out", "before.png"]) == 0
    assert cli.main(["provenance", "init", "--name", "Kim"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(Path("keys/anchor.pem").absolute())
    assert cli.main([*draw, "--out", "after.png"]) == 0
    assert cli.main([*draw, "--out", "bare.webp", "--no-metadata"]) == 0
    assert cli.main([*draw, "--out", "off.jpg", "--no-provenance"]) == 0
    assert cli.main([*draw, "--out", "none.jpg", "--no-provenance", "--no-metadata"]) == 0
    files = ["before.png", "after.png", "bare.webp", "off.jpg", "none.jpg"]
    expected = ["labelled", "trusted", "trusted", "settings", "nothing"]
    assert proofs(capsys, *files) == (1, expected)
    assert proofs(capsys, "after.png", "bare.webp") == (0, ["trusted", "trusted"])


def test_a_variation_names_the_picture_that_it_was_made_of(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["provenance", "init"]) == 0
    Image.new("RGB", (16, 16), "red").save("red.png")
    drawn = ["vary", "red.png", "--model", str(tiny_bundle), "--size", "64", "--out", "b.png"]
    assert cli.main(drawn) == 0
    capsys.readouterr()
    assert cli.main(["verify", "b.png"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("b.png: trusted (unclip user): signed by a key that you trust")
    assert said[1] == "  made of red.png"


def test_a_watermark_is_drawn_in_where_it_is_asked_for(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = ["generate", "a cat", "--model", str(tiny_bundle), "--size", "1024", "--seed", "1"]
    plain = ["--no-provenance", "--no-metadata"]
    assert cli.main([*draw, *plain, "--out", "without.png"]) == 0
    assert cli.main([*draw, *plain, "--watermark", "--out", "with.png"]) == 0
    assert cli.main([*draw, "--watermark", "--out", "all.jpg"]) == 0
    assert proofs(capsys, "without.png", "with.png", "all.jpg") == (1, ["nothing", "marked", "marked"])
    assert cli.main(["verify", "--json", "with.png"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["watermark"]["weights"] == Bundle.load(tiny_bundle).identity


def test_frames_in_one_file_are_marked_and_signed_too(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["provenance", "init"]) == 0
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16), "red" if name == "a.png" else "blue").save(name)
    command = ["blend", "a.png", "b.png", "--frames", "2", "--model", str(tiny_bundle), "--size", "64"]
    assert cli.main([*command, "--sheet", "sheet.png", "--webp", "all.webp", "--gif", "all.gif"]) == 0
    assert proofs(capsys, "sheet.png", "all.webp", "all.gif") == (0, ["trusted"] * 3)
    assert cli.main([*command, "--gif", "b.gif", "--no-metadata"]) == 0
    assert read_source_type("b.gif") == SourceType.GENERATED


def test_a_picture_in_a_folder_that_cannot_be_read_is_an_error_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("folder").mkdir()
    Path("folder/a.png").write_text("text")
    Image.new("RGB", (4, 4)).save("folder/b.png")
    assert proofs(capsys, "folder") == (1, ["error", "nothing"])


def test_show_tells_of_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["provenance", "show"]) == 0
    assert "pictures are not signed" in capsys.readouterr().out
    assert cli.main(["provenance", "init", "--name", "Kim"]) == 0
    assert cli.main(["provenance", "init", "--name", "Kim"]) == 2
    assert "has a key already" in capsys.readouterr().err
    assert cli.main(["provenance", "show"]) == 0
    assert "name Kim" in capsys.readouterr().out
