"""The promise that pictures of one's own become a corpus, however their captions are written."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import unclip
from support.packages import ellipse, svg, tar_bytes
from unclip.cli import main
from unclip.data.corpus import Corpus
from unclip.data.draw_workers import open_staged
from unclip.data.folder import Defaults, build_folder, read_folder
from unclip.data.records import Fit, Split
from unclip.errors import DataError, InputError

COLOURS = {"red": (200, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 200)}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Pictures with a text beside each."""
    folder = tmp_path / "pairs"
    (folder / "deep").mkdir(parents=True)
    for name, colour in COLOURS.items():
        (folder / "deep" / f"{name}.png").write_bytes(ellipse(colour))
        (folder / "deep" / f"{name}.txt").write_text(
            f"a {name} ball\n\na ball that is {name}\n", encoding="utf-8"
        )
    (folder / "no-text.png").write_bytes(ellipse((9, 9, 9)))
    (folder / "drawn.svg").write_text(svg())
    (folder / "drawn.txt").write_text("﻿a drawing\n", encoding="utf-8")
    (folder / "notes.md").write_text("not a picture")
    return folder


def opened(source: Path, out: Path, **options: Any) -> Corpus:
    for _ in build_folder(source, out, **({"size": 32} | options)):
        pass
    return Corpus(out)


def test_texts_beside_pictures(pairs: Path, tmp_path: Path) -> None:
    corpus = opened(pairs, tmp_path / "out", defaults=Defaults(style="photo", licence="CC0-1.0"))
    rows = {row["key"]: row for row in corpus.records.to_pylist()}
    assert set(rows) <= {"deep/red.png", "deep/green.png", "deep/blue.png", "drawn.svg"}
    red = rows["deep/red.png"]
    assert (red["style"], red["licence"], red["concept"]) == ("photo", "CC0-1.0", "a-red-ball")
    assert json.loads(red["captions"]) == {"en": ["a red ball"]}
    assert red["names"] == ["a ball that is red"]
    assert json.loads(rows["drawn.svg"]["captions"]) == {"en": ["a drawing"]}
    assert "| unusable caption" in (tmp_path / "out" / "CARD.md").read_text()


def test_the_splits_are_those_of_the_hash(pairs: Path, tmp_path: Path) -> None:
    for n in range(80):
        (pairs / f"{n}.svg").write_text(svg(f"#{n * 3:02x}{255 - n * 3:02x}40", shape=n % 9))
        (pairs / f"{n}.txt").write_text(f"thing number {n}")
    corpus = opened(pairs, tmp_path / "out")
    unseen = Corpus(tmp_path / "out", Split.UNSEEN_CONCEPTS)
    assert len(corpus) > 70
    assert 0 < len(unseen) < 8


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_tables(pairs: Path, tmp_path: Path, kind: str) -> None:
    if kind == "jsonl":
        rows = [
            {
                "file_name": "deep/red.png",
                "text": "a red ball",
                "tags": ["round"],
                "style": "3d",
                "author": "me",
            },
            {"file_name": "deep/blue.png", "captions": {"de": "ein blauer Ball", "ko": ["파란 공", "공"]}},
            {"file_name": "no-text.png", "caption": ["a gray ball", "a ball"], "license": "MIT"},
        ]
        (pairs / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    else:
        (pairs / "metadata.csv").write_text(
            "file_name,text,style,author,license\n"
            'deep/red.png,a red ball,3d,me,\nno-text.png,"a gray ball",,,MIT\n'
        )
    found = {drawing.key: drawing for drawing in read_folder(pairs)}
    assert found["deep/red.png"].captions["en"][0] == "a red ball"
    assert (found["deep/red.png"].style, found["deep/red.png"].author) == ("3d", "me")
    assert found["no-text.png"].licence == "MIT"
    if kind == "jsonl":
        assert found["deep/red.png"].captions == {"en": ["a red ball", "round"]}
        assert found["deep/blue.png"].captions == {"de": ["ein blauer Ball"], "ko": ["파란 공", "공"]}
        assert found["deep/blue.png"].concept == "ein-blauer-ball"
        assert found["no-text.png"].names == ("a ball",)


def test_webdataset_shards(tmp_path: Path) -> None:
    source = tmp_path / "shards"
    source.mkdir()
    (source / "0.tar").write_bytes(
        tar_bytes(
            {
                "a/one.png": ellipse(),
                "a/one.txt": b"first caption\nsecond caption",
                "two.webp": ellipse((0, 0, 9), kind="WEBP"),
                "two.json": json.dumps({"caption": "another", "style": "flat"}).encode(),
                "three.txt": b"no picture",
            },
            "w",
        )
    )
    found = {drawing.key: drawing for drawing in read_folder(source)}
    assert set(found) == {"0/a/one.png", "0/two.webp"}
    assert found["0/a/one.png"].captions == {"en": ["first caption"]}
    assert found["0/a/one.png"].names == ("second caption",)
    assert found["0/two.webp"].style == "flat"


def test_a_corpus_is_itself_a_folder_of_shards(built: Path) -> None:
    original = Corpus(built)
    found = [drawing for drawing in read_folder(built) if drawing.key.startswith("train-")]
    assert len(found) == len(original)
    assert found[0].captions == original.captions(0)
    assert found[0].concept == original.records["concept"][0].as_py()


def test_captions_in_another_language(pairs: Path, tmp_path: Path) -> None:
    drawings = list(read_folder(pairs, Defaults(language="de", fit=Fit.CROP)))
    assert {tuple(drawing.captions) for drawing in drawings} <= {("de",), ()}
    assert {drawing.fit for drawing in drawings} == {Fit.CROP}
    assert len(opened(pairs, tmp_path / "out", defaults=Defaults(language="de"))) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "../secret.png", "text": "x"}', "outside of the folder"),
        ('{"file_name": "/etc/secret.png", "text": "x"}', "outside of the folder"),
        ('{"file_name": "nowhere.png", "text": "x"}', "no picture nowhere.png"),
        ('{"text": "x"}', "no file_name"),
        ("[1]", "no JSON object"),
        ("{", "is no JSON"),
    ],
)
def test_a_bad_row_is_named(pairs: Path, line: str, message: str) -> None:
    (pairs / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_folder(pairs))


def test_folders_that_cannot_be_used(tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        list(build_folder(tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(InputError, match="lies within"):
        list(build_folder(pairs, pairs / "out"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        list(build_folder(tmp_path / "empty", tmp_path / "out"))


def test_the_command_line(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert (
        main(["data", "folder", str(pairs), str(out), "--size", "32", "--workers", "1", "--style", "photo"])
        == 0
    )
    assert capsys.readouterr().out.strip() == str(out)
    assert main(["data", "show", str(out)]) == 0
    assert "# Corpus of pairs" in capsys.readouterr().out
    assert main(["data", "folder", str(pairs), str(out), "--fit", "squeeze"]) == 2
    assert "choose pad, trim, crop" in capsys.readouterr().err
    assert main(["data", "show", str(pairs)]) == 1
    assert main(["data", "pictograms", str(tmp_path / "new"), "--archives", str(tmp_path / "none")]) == 1
    assert "no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_the_same_command_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for n in range(500):
        (source / f"{n}.svg").write_text(svg(f"#{n:06x}"))
        (source / f"{n}.txt").write_text(f"thing {n}")
    command = [sys.executable, "-m", "unclip", "data", "folder", str(source), str(out), "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(unclip.__file__).parent.parent)}
    restore = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*command, "--size", "256"], env=environment, preexec_fn=restore, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not list((out / ".building").glob("00-folder-*.arrow")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (printed, said.strip()) == ("", "unclip: interrupted")
    assert not (out / "manifest.parquet").exists()
    for path in (out / ".building").glob("00-folder-*.arrow"):
        assert len(open_staged([path])) <= 128  # each is whole
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        for _ in range(500):
            os.killpg(process.pid, 0)
            time.sleep(0.02)
    assert len(opened(source, out, size=256)) > 0
