"""Promises of `unclip classify`: a table, lines, a document, refusals in one line."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from unclip import cli

Classify = Callable[..., int]


@pytest.fixture
def classify(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classify:
    """The verb with the tiny bundle, in a folder with a red, a blue and a broken picture."""
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    Image.new("RGB", (40, 20), "red").save("pictures/a.png")
    Image.new("RGB", (40, 20), "blue").save("pictures/b.jpg")
    Path("pictures/c.png").write_bytes(b"no picture")

    def run(*arguments: str) -> int:
        return cli.main(["classify", "--model", str(tiny_bundle), *arguments])

    return run


def test_one_picture_is_a_table_and_several_are_lines(
    classify: Classify, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify("pictures/a.png", "--labels", "a cat,dog") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split("  ")[0].strip() for line in lines) == ["a cat", "dog"]
    assert sum(float(line.partition("%")[0].split()[-1]) for line in lines) == pytest.approx(100, abs=0.1)
    assert classify("pictures", "--labels", "a cat,dog", "--templates", "best7") == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["pictures/a.png", "pictures/b.jpg"]
    assert said.err.count("skipped pictures/c.png is not a picture") == 1


def test_json_and_labels_from_a_file(classify: Classify, capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.txt").write_text("사과\n\nhouse\ncat\n", encoding="utf-8")
    options = ("--labels-file", "labels.txt", "--template", "a {}.", "--template", "{}!", "--top", "2")
    assert classify("pictures", *options, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["name"] == "tiny"
    assert document["templates"] == ["a {}.", "{}!"]
    assert [picture["path"] for picture in document["pictures"]] == ["pictures/a.png", "pictures/b.jpg"]
    for picture in document["pictures"]:
        values = list(picture["probabilities"].values())
        assert len(values) == 2
        assert values == sorted(values, reverse=True)
    assert [one["path"] for one in document["skipped"]] == ["pictures/c.png"]


def test_comments_in_a_file_of_labels_are_none(
    classify: Classify, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("labels.txt").write_text("# what to tell apart\ncat\n  # and\ndog\n")
    assert classify("pictures/a.png", "--labels-file", "labels.txt", "--json") == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    assert set(picture["probabilities"]) == {"cat", "dog"}


def test_json_is_utf8_whatever_the_terminal_speaks(
    classify: Classify, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("빨강.png").write_bytes(Path("pictures/a.png").read_bytes())
    bytes_of_no_letter = os.fsdecode(b"\xff.png")
    Path(bytes_of_no_letter).write_bytes(Path("pictures/a.png").read_bytes())
    with io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "latin-1", write_through=True) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert classify("빨강.png", bytes_of_no_letter, "--labels", "사과,집 🏠", "--json") == 0
        monkeypatch.undo()
    document = json.loads(capfdbinary.readouterr().out.decode("utf-8"))
    assert [picture["path"] for picture in document["pictures"]] == ["빨강.png", bytes_of_no_letter]
    assert set(document["pictures"][0]["probabilities"]) == {"사과", "집 🏠"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pictures",), "give labels either by --labels or by --labels-file"),
        (("pictures", "--labels", "a", "--labels-file", "b"), "give labels either"),
        (("pictures", "--labels", "a", "--template", "{}", "--templates", "photo"), "not both"),
        (("pictures", "--labels", "a,a"), "the label 'a' is given 2 times"),
        (("pictures", "--labels", "A cat,dog,a Cat"), "the label 'A cat', 'a Cat' is given 2 times"),
        (("pictures/c.png", "--labels", "a,b"), "pictures/c.png is not a picture"),
        (("nothing.png", "--labels", "a,b"), "no such file: nothing.png"),
    ],
)
def test_refusals(
    classify: Classify, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert classify(*arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


def test_the_help_says_that_scores_are_relative(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["classify", "--help"]) == 0
    assert "relative" in capsys.readouterr().out
