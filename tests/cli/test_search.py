"""Promises of `unclip index` and `unclip search`: paths, documents, sheets, refusals in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from unclip import cli

Unclip = Callable[..., int]


@pytest.fixture
def unclip(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],  # catches what indexing says here too
) -> Unclip:
    """The command line in a folder with an indexed folder `photos` of three pictures and a text."""
    monkeypatch.chdir(tmp_path)
    for name, colour in (("a.png", "red"), ("b.jpg", "green"), ("trip/c.png", "blue")):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), colour).save(path)
    Path("photos/notes.txt").write_text("no picture")
    Path("photos/broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    assert cli.main(["index", "photos", "--model", str(tiny_bundle), "--workers", "1"]) == 0
    return lambda *arguments: cli.main(list(arguments))


def test_indexing_says_what_it_did(
    unclip: Unclip, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = capsys.readouterr()
    assert said.out.strip().endswith("photos/.unclip-index")
    assert "3 pictures in 3 files: 3 embedded, 0 files unchanged, 0 removed, 2 skipped" in said.err
    assert "skipped broken.jpg: is " in said.err
    assert "skipped 1 files that are no pictures: 1 .txt" in said.err
    assert unclip("index", "photos", "--model", str(tiny_bundle), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["embedded"], document["unchanged"], document["pictures"]) == (0, 5, 3)
    assert unclip("index", "photos", "--model", str(tiny_bundle), "--skipped") == 0
    said = capsys.readouterr().err
    assert "skipped broken.jpg: is " in said
    assert "skipped notes.txt: is not a picture" in said


def test_search_prints_scores_and_paths_with_the_model_of_the_index(
    unclip: Unclip, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert unclip("search", "a red apple", "--index", "photos", "--top", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(Path(line.split("  ")[-1]).is_file() for line in lines)
    assert unclip("search", "photos/a.png", "--index", "photos", "--paths", "--top", "1") == 0
    assert capsys.readouterr().out == "photos/a.png\n"
    assert unclip("search", "사과", "--index", "photos", "--folder", "trip", "--paths") == 0
    assert capsys.readouterr().out == "photos/trip/c.png\n"


def test_paths_for_other_programs_end_in_nul(
    unclip: Unclip, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/a.png").rename("photos/a line\nand 빨강.png")
    assert unclip("index", "photos", "--model", str(tiny_bundle), "--workers", "1") == 0
    capsys.readouterr()
    assert unclip("search", "apple", "--index", "photos", "--print0", "--all") == 0
    *found, end = capsys.readouterr().out.split("\0")
    assert set(found) == {"photos/a line\nand 빨강.png", "photos/b.jpg", "photos/trip/c.png"}
    assert end == ""


def test_hits_come_in_the_order_of_the_probabilities_shown(
    unclip: Unclip, capsys: pytest.CaptureFixture[str]
) -> None:
    for query in ("a red apple", '"apple" + "night"', '"apple" + photos/b.jpg - "night"'):
        capsys.readouterr()
        assert unclip("search", query, "--index", "photos", "--all", "--json") == 0
        shown = [one["probability"] for one in json.loads(capsys.readouterr().out)["pictures"]]
        assert shown == sorted(shown, reverse=True)


def test_folders_that_cannot_be_read_are_listed_as_such(
    unclip: Unclip, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.scandir

    def forbidden(path: Path) -> Any:
        if path.name == "trip":
            raise PermissionError(13, "Permission denied")
        return look(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert unclip("index", "photos", "--model", str(tiny_bundle), "--workers", "1") == 0
    said = capsys.readouterr().err
    assert "skipped trip: folder cannot be read" in said
    assert "0 removed" in said


def test_documents_sheets_and_previews(unclip: Unclip, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    command = ("search", '"apple" + photos/a.png - "night"', "--index", "photos")
    assert unclip(*command, "--json", "--all", "--sheet", "sheets/found.png") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["query"] == command[1]
    assert document["model"]["name"] == "tiny"
    assert {picture["path"] for picture in document["pictures"]} == {
        *("photos/a.png", "photos/b.jpg", "photos/trip/c.png")
    }
    for picture in document["pictures"]:
        assert 0 <= picture["probability"] <= 1
        assert -1 <= picture["cosine"] <= 1
        assert (picture["width"], picture["height"]) == (60, 40)
    with Image.open("sheets/found.png") as found:
        assert found.width > 3 * 256
    assert unclip("search", "apple", "--index", "photos", "--preview", "--top", "1") == 0
    assert "▀" in capsys.readouterr().out


def test_duplicates_are_listed(unclip: Unclip, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unclip("search", "--duplicates", "--index", "photos") == 0
    assert capsys.readouterr().out.endswith("no duplicates\n")
    Path("photos/twin.png").write_bytes(Path("photos/a.png").read_bytes())
    assert unclip("index", "photos", "--model", str(tiny_bundle), "--workers", "1") == 0
    capsys.readouterr()
    assert unclip("search", "--duplicates", "--index", "photos", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [["photos/a.png", "photos/twin.png"]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("search", "--index", "photos"), 2, "say what to look for"),
        (("search", "a", "--duplicates", "--index", "photos"), 2, "say what to look for"),
        (("search", '"a', "--index", "photos"), 2, "is not closed"),
        (("search", "a", "--index", "photos", "--since", "may"), 2, "'may' is no date"),
        (("search", "a", "--index", "photos", "--aspect", "wide"), 2, "unknown aspect 'wide'"),
        (("search", "a", "--index", "photos/trip"), 1, "no index in photos/trip"),
        (("index", "gone"), 2, "no such folder: gone"),
    ],
)
def test_refusals(
    unclip: Unclip,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    capsys.readouterr()
    assert unclip(*arguments) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
