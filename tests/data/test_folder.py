"""The promise that pictures of one's own become a corpus, however their captions are written."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import unclip
from support.folders import pictures, read
from support.packages import ellipse, svg, tar_bytes
from unclip.cli import main
from unclip.data.corpus import Corpus
from unclip.data.described import Defaults
from unclip.data.draw_workers import open_staged
from unclip.data.folder import read_folder
from unclip.data.prepare.run import build_folder
from unclip.data.records import Fit, Split
from unclip.errors import DataError, InputError


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


# --- what others write ---


@pytest.mark.parametrize("name", ["a.caption", "a.TXT", "a.png.txt", "a.png.caption", "a.cap", "a.json"])
def test_files_of_captions_as_other_tools_call_them(tmp_path: Path, name: str) -> None:
    text = '{"caption": "a ball", "style": "flat"}' if name == "a.json" else "a ball"
    (pictures(tmp_path, "a.png") / name).write_text(text)
    assert read(tmp_path)[0]["a.png"].captions == {"en": ["a ball"]}


@pytest.mark.parametrize(
    "name", ["a.parquet", "metadata.parquet", "a.csv", "metadata.json", "a.tar", "a.tgz", "a.jsonl"]
)
@pytest.mark.parametrize("content", [b"", b"PAR1" + b"\xff" * 3000 + b"PAR1", b"[" * 200_000, b"\0" * 4096])
def test_a_broken_file_is_listed_and_the_pictures_beside_it_are_read(
    pairs: Path, name: str, content: bytes
) -> None:
    (pairs / name).write_bytes(content)
    found, left_out = read(pairs)
    assert len(found) == 4
    assert name in {left.key.partition(",")[0] for left in left_out}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize(
    ("picture", "caption"),
    [("jpg", "txt"), ("input.jpg", "outputs.txt"), ("JPEG", "caption"), ("img", "cap")],
)
def test_shards_of_other_tools(tmp_path: Path, ending: str, picture: str, caption: str) -> None:
    (tmp_path / "deep").mkdir()
    kind = {".tar": "w", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}.get(ending, "w:gz")
    files = {
        f"t 2.{n} x.{end}": ellipse((n, 0, 0)) if end == picture else b"a ball"
        for n in range(3)
        for end in (picture, caption)
    }
    (tmp_path / "deep" / f"0{ending}").write_bytes(tar_bytes(files, kind))
    found, left_out = read(tmp_path)
    assert len(found) == 3 or picture == "input.jpg"
    assert all(key.startswith("deep/0/t 2.") for key in found)
    assert not left_out or picture == "input.jpg"


def test_samples_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    files = {
        "0.png": ellipse((1, 2, 3)),
        "0.txt": b"a ball",
        "1.png": ellipse((200, 2, 3)),
        "2.txt": b"no picture",
        "3.png": ellipse((90, 2, 3)),
        "3.txt": "grün".encode("latin-1"),
        "4.png": ellipse((9, 200, 3)),
        "4.json": b"[1]",
        "5.input.png": ellipse((9, 20, 200)),
        "5.other.png": ellipse((9, 20, 200)),
        "5.output.txt": b"a cup",
        "6.txt": b"of the last one nobody knows what else there was",
    }
    (tmp_path / "0.tar").write_bytes(tar_bytes(files, "w").rstrip(b"\0"))
    found, left_out = read(tmp_path)
    assert set(found) == {"0/0.png", "0/5.input.png"}
    assert {(left.key, left.reason) for left in left_out} == {
        ("0/1.png", "unusable caption"),
        ("0/2", "sample without a picture"),
        ("0/3.png", "unreadable caption"),
        ("0/4.png", "unreadable caption"),
        ("0/5.other.png", "second picture of a sample"),
        ("0.tar", "shard that cannot be read to its end"),
    }


def test_a_stray_archive_hides_nothing_and_is_said(pairs: Path) -> None:
    (pairs / "code.tar").write_bytes(tar_bytes({f"{n}.py": b"" for n in range(9)}, "w"))
    found, left_out = read(pairs)
    assert len(found) == 4
    assert ("code.tar", "archive without pictures") in {(left.key, left.reason) for left in left_out}


def test_whatever_lies_in_a_folder_is_counted_and_ends_nothing(pairs: Path, tmp_path: Path) -> None:
    for name in ("pipe.png", "pipe.txt", "metadata.csv", "a.tar"):
        os.mkfifo(pairs / name)
    (pairs / "nowhere.png").symlink_to("nothing")
    (pairs / "itself.png").symlink_to("itself.png")
    (pairs / "linked").symlink_to(tmp_path)
    (pairs / "folder.png").mkdir()
    for name in (b"\xff.png", b"\xff.txt"):
        (pairs / os.fsdecode(name)).write_bytes(ellipse())
    found, left_out = read(pairs)
    assert len(found) == 4
    told = {(left.key, left.reason) for left in left_out}
    assert {("pipe.png", "pipe, socket or device"), ("a.tar", "pipe, socket or device")} <= told
    assert {("nowhere.png", "broken link"), ("itself.png", "broken link")} <= told
    assert ("linked", "linked folder, not followed") in told
    assert ("\\xff.png", "name that is no UTF-8") in told
    assert ("notes.md", ".md file, not read") in told
    assert len(opened(pairs, tmp_path / "out")) > 0


def test_files_and_folders_that_may_not_be_read_are_listed(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def called(path: Any, *arguments: Any, **options: Any) -> Any:
            if str(path).endswith(name):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *arguments, **options)

        return called

    (pairs / "secret").mkdir()
    monkeypatch.setattr(os, "scandir", forbidden(os.scandir, "secret"))
    monkeypatch.setattr(Path, "open", forbidden(Path.open, "red.png"))
    found, left_out = read(pairs)
    assert len(found) == 3
    told = {(left.key, left.reason) for left in left_out}
    assert {("secret", "unreadable folder"), ("deep/red.png", "unreadable file")} <= told


def test_files_of_any_length_are_judged_before_they_are_read(pairs: Path) -> None:
    for name in ("a.png", "b.svg", "b.txt", "m.json", "m.csv", "m.jsonl", "m.tar"):
        (pairs / name).touch()
        os.truncate(pairs / name, 2**40)
    (pairs / "a.txt").write_text("a ball")
    found, left_out = read(pairs)
    assert len(found) == 4
    assert {"a.png", "b.svg", "m.json", "m.csv", "m.jsonl"} <= {left.key for left in left_out}


def test_the_last_lines_say_what_went_in_what_stayed_and_why(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (pairs / "bad.png").write_bytes(b"no picture")
    (pairs / "bad.txt").write_text("a \x1b[2J thing")
    (pairs / "\x1b[2J.md").touch()
    command = ["data", "folder", str(pairs), str(out), "--size", "32", "--workers", "1"]
    for _ in range(2):  # also where the corpus is there already
        assert main(command) == 0
        printed = capsys.readouterr()
        assert printed.out == f"{out}\n"
        *_, first, other, unusable, broken = printed.err.splitlines()
        assert first == f"8 in, 4 kept, 4 dropped; each is listed in {out / 'dropped.jsonl'}:"
        assert broken.startswith("  1 broken (bad.png: ")
        assert "no-text.png" in unusable
        assert "\\x1b[2J.md" in other
        assert "\x1b" not in printed.err
    listed = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert {row["key"] for row in listed} == {"bad.png", "no-text.png", "notes.md", "\x1b[2J.md"}


def test_where_nothing_is_left_the_error_says_why(pairs: Path, tmp_path: Path) -> None:
    for path in [*pairs.rglob("*.txt")]:
        path.write_bytes(b"\xff")
    with pytest.raises(
        DataError, match=r"no picture is left of 6: .*unreadable caption \(deep/blue.png: deep/blue.txt"
    ):
        opened(pairs, tmp_path / "out")


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
