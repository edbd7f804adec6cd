"""The promises of a build: whole or not there, the same bytes each time, gone on with, all counted."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.packages import svg
from unclip.data import build as builder
from unclip.data import draw_workers, outcome, pictograms
from unclip.data.build import Input, Progress, build
from unclip.data.corpus import Corpus
from unclip.data.manifest import MANIFEST
from unclip.data.pictograms import build_pictograms, fetch
from unclip.data.prepare.captions import Judged
from unclip.data.rasterise import Drawn, Limits
from unclip.data.records import Drawing, LeftOut, Split
from unclip.data.splits import is_unseen_concept
from unclip.errors import DataError, InputError
from unclip.processes import Contained, Died


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in (".tar", ".parquet", ".md")
    }


def drawing(key: str, svg: str, **changes: Any) -> Drawing:
    values = {
        "source": "s",
        "style": "flat",
        "concept": key,
        "captions": {"en": [key]},
        "licence": "MIT",
        "author": "",
    }
    return Drawing(key=key, svg=svg, **(values | changes))


def run(out: Path, drawings: list[Drawing], **options: Any) -> list[Progress]:
    options = {"size": 64, "fingerprint": "x", "title": "T"} | options
    return list(build(out, [Input("s", lambda: drawings)], **options))


# --- the pictograms corpus of small packages ---


def test_every_source_is_in_the_manifest_with_its_split(built: Path) -> None:
    table = pq.read_table(built / "manifest.parquet")
    assert table.schema.remove_metadata().equals(MANIFEST)
    splits = Counter(zip(table["source"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert splits["openmoji", Split.UNSEEN_STYLES] == 2
    assert splits["openmoji-black", Split.UNSEEN_STYLES] == 1
    assert not any(split == Split.TRAIN for source, split in splits if source.startswith("openmoji"))
    assert {source for source, _ in splits} == {source.name for source in pictograms.SOURCES}


def test_what_was_dropped_is_on_the_card_with_its_reason(built: Path) -> None:
    card = (built / "CARD.md").read_text()
    header, *rows = [
        line.strip("| ").split(" | ") for line in card.split("## Dropped")[1].splitlines() if "|" in line
    ]
    counts = {row[0]: dict(zip(header[1:], map(str.strip, row[1:]), strict=True)) for row in rows[1:]}
    assert counts["noto"]["duplicate"] == "1"  # the withdrawn rocket
    assert counts["noto"]["empty"] == "1"  # white on white
    assert counts["fxemoji"]["unusable caption"] == "1"
    assert counts["game-icons"]["unusable caption"] == "1"
    assert counts["tuxpaint"]["extreme aspect"] == "1"
    assert counts["tuxpaint"]["unusable caption"] == "1"
    assert counts["openclipart"]["broken"] == "1"
    kept = pq.read_table(built / "manifest.parquet")["source"].to_pylist()
    for source, row in counts.items():
        assert int(row.pop("found")) == kept.count(source) + sum(map(int, row.values()))


def test_the_current_icon_stays_of_two_that_are_the_same(built: Path) -> None:
    keys = pq.read_table(built / "manifest.parquet")["key"].to_pylist()
    assert "noto/rocket" in keys
    assert "noto/old-rocket" not in keys


def test_a_country_keeps_the_flag_that_a_territory_borrows(tmp_path: Path) -> None:
    bouvet, norway = "u1f1e7-1f1fb", "u1f1f3-1f1f4"
    run(tmp_path / "out", [drawing("a", svg(), concept=bouvet), drawing("b", svg(), concept=norway)])
    assert pq.read_table(tmp_path / "out" / "manifest.parquet")["key"].to_pylist() == ["b"]


def test_two_builds_give_the_same_bytes(archives: Path, built: Path, tmp_path: Path) -> None:
    for _ in build_pictograms(tmp_path / "again", archives=archives, size=64, large=2):
        pass
    assert digests(tmp_path / "again") == digests(built)


def test_shards_are_webdatasets_and_the_manifest_knows_where_each_picture_lies(built: Path) -> None:
    for row in pq.read_table(built / "manifest.parquet").to_pylist():
        with (built / row["shard"]).open("rb") as file:
            file.seek(row["offset"])
            picture = Image.open(io.BytesIO(file.read(row["size"])))
            assert picture.size == (64, 64)
    with tarfile.open(built / "train-00000.tar") as tar:
        names = [member.name for member in tar]
        assert {member.mtime for member in tar.getmembers()} == {0}
        text = tar.extractfile(names[1])
        assert text is not None
        sample = json.loads(text.read())
    assert [name.split(".")[1] for name in names] == ["png", "json"] * (len(names) // 2)
    assert names[0].split(".")[0] == names[1].split(".")[0]
    assert {"key", "captions", "licence", "style", "concept"} <= sample.keys()


def test_some_of_the_train_split_are_there_large(built: Path) -> None:
    rows = [row for row in pq.read_table(built / "manifest.parquet").to_pylist() if row["large"]]
    assert len(rows) == 2
    for row in rows:
        assert row["split"] == Split.TRAIN
        assert row["vector"]
        with (built / row["large_shard"]).open("rb") as file:
            file.seek(row["large_offset"])
            assert Image.open(io.BytesIO(file.read(row["large_size"]))).size == (1024, 1024)


def test_a_corpus_that_is_there_is_not_built_again(archives: Path, built: Path) -> None:
    before = digests(built)
    events = list(build_pictograms(built, archives=archives, size=64, large=2))
    assert [event.stage for event in events] == ["up to date"]
    assert digests(built) == before


def test_pictures_of_emoji_have_the_group_of_their_concept(built: Path) -> None:
    rows = pq.read_table(built / "manifest.parquet").to_pylist()
    found = {(row["concept"], row["group"], row["subgroup"]) for row in rows}
    assert ("u1f34e", "food-drink", "food-fruit") in found
    assert {row[1:] for row in found if row[0] == "u1f9d1-200d-1f680"} == {("people-body", "person-role")}
    assert {row[1:] for row in found if row[0] == "u1f680"} == {("", "")}  # emojibase says none of it


def test_a_manifest_of_before_there_were_groups_opens_and_gets_them(
    archives: Path, built: Path, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(built, tmp_path / "old"))
    whole = pq.read_table(built / "manifest.parquet")
    pq.write_table(whole.drop_columns(["group", "subgroup"]), old / "manifest.parquet")
    assert set(Corpus(old).column("group")) == {""}
    events = list(build_pictograms(old, archives=archives, size=64, large=2))
    assert [event.stage for event in events] == ["up to date"]
    assert pq.read_table(old / "manifest.parquet").equals(whole, check_metadata=True)


def test_a_missing_package_is_named_before_anything_is_drawn(archives: Path, tmp_path: Path) -> None:
    some = tmp_path / "some"
    shutil.copytree(archives, some)
    (some / "openmoji-17.0.0.tgz").unlink()
    with pytest.raises(DataError, match="openmoji-17"):
        list(build_pictograms(tmp_path / "out", archives=some))
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="no folder"):
        list(build_pictograms(tmp_path / "out", archives=tmp_path / "nowhere"))


# --- fetching ---


def test_a_missing_client_is_named_with_what_to_fetch_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DataError, match=r"npm is not installed.*npm pack emojibase-data@17\.0\.0.*--archives"
    ):
        list(fetch(tmp_path / "archives"))


def client(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_only_what_is_missing_is_fetched(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = tmp_path / "archives"
    shutil.copytree(archives, some)
    (some / "openmoji-17.0.0.tgz").unlink()
    (some / "openclipart-png_1%3a0.18+dfsg-19_all.deb").unlink()
    client(tmp_path, "npm", f'echo "$@" >> {tmp_path}/asked; touch openmoji-17.0.0.tgz')
    client(tmp_path, "apt-get", f'echo "$@" >> {tmp_path}/asked; touch openclipart-png_2_all.deb')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    events = list(fetch(some))
    assert (tmp_path / "asked").read_text().splitlines() == [
        "download openclipart-png",
        "pack openmoji@17.0.0",
    ]
    assert events[-1].done == events[-1].total


def test_a_client_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client(tmp_path, "npm", "echo E404 not found >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DataError, match=r"could not fetch emojibase-data@17\.0\.0 \(E404 not found\)"):
        list(fetch(tmp_path / "archives"))


# --- any corpus ---


def test_a_stopped_build_leaves_no_corpus_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "CHUNK", 2)
    drawings = [drawing(f"key-{n}", svg(shape=n), style=f"style {n}") for n in range(9)]
    drawn: list[str] = []
    original = draw_workers.draw

    def draw(one: Judged, size: int, painter: Contained, limits: Limits) -> dict[str, object]:
        drawn.append(one.drawing.key)
        return original(one, size, painter, limits)

    monkeypatch.setattr(draw_workers, "draw", draw)
    events = build(tmp_path / "out", [Input("s", lambda: drawings)], size=64, fingerprint="x", title="T")
    for event in events:
        if event.done >= 4:
            break
    events.close()
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    assert drawn

    before = len(drawn)
    run(tmp_path / "out", drawings)
    assert len(drawn) == len(drawings)
    assert before < len(drawings)
    run(tmp_path / "straight", drawings)
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == []


def test_a_half_written_file_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    with draw_workers.drawing_pool(1) as pool:
        paths = list(draw_workers.stage([drawing("a", svg())], tmp_path, "part", 32, pool, 9))
        assert [(path.name, count) for path, count in paths] == [("part-00000.arrow", 1)]
        other = list(draw_workers.stage([drawing("b", svg())], tmp_path, "part", 32, pool, 9))
    assert draw_workers.open_staged([other[0][0]])["key"].to_pylist() == ["b"]  # another picture: drawn anew


def test_workers_draw_the_same_as_one(tmp_path: Path) -> None:
    drawings = [drawing(f"key-{n}", svg(shape=n)) for n in range(6)]
    run(tmp_path / "one", drawings)
    run(tmp_path / "two", drawings, workers=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_an_older_corpus_stays_until_the_new_one_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, [drawing("a", svg())])
    before = digests(out)
    (out / "mine.tar").write_bytes(b"not of the corpus")

    def broken() -> list[Drawing]:
        raise DataError("the archive is damaged")

    with pytest.raises(DataError, match="damaged"):
        list(build(out, [Input("s", broken)], size=64, fingerprint="y", title="T"))
    assert {name: digest for name, digest in digests(out).items() if name != "mine.tar"} == before
    run(out, [drawing("b", svg("#00c"))], fingerprint="z")
    assert pq.read_table(out / "manifest.parquet")["key"].to_pylist() == ["b"]
    assert (out / "mine.tar").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        run(tmp_path, [drawing("a", svg())])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_corpus_without_pictures_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no picture is left of 2: 2 broken"):
        run(tmp_path / "out", [drawing("a", "<svg"), drawing("b", "")])


def test_what_is_trained_under_another_name_is_not_held_out(tmp_path: Path) -> None:
    held_out = next(f"c{n}" for n in range(1000) if is_unseen_concept(f"c{n}"))
    run(tmp_path / "out", [drawing("key", svg()), drawing(held_out, svg(), style="other")])
    assert pq.read_table(tmp_path / "out" / "manifest.parquet")["key"].to_pylist() == ["key"]
    assert "held out but seen" in (tmp_path / "out" / "CARD.md").read_text()


def test_a_killed_process_is_said_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "CHUNK", 1)
    drawings = [drawing(f"key-{n}", svg(shape=n), style=f"style {n}") for n in range(9)]
    processes: list[subprocess.Popen[bytes]] = []
    start = Contained._start

    def started(painter: Contained) -> Connection:
        connection = start(painter)
        assert painter._process is not None
        processes.append(painter._process)
        return connection

    monkeypatch.setattr(Contained, "_start", started)
    with pytest.raises(DataError, match="run the same command again"):
        for event in build(
            tmp_path / "out", [Input("s", lambda: drawings)], size=64, workers=2, fingerprint="x", title="T"
        ):
            for process in processes:
                process.kill()
            assert event.done < len(drawings)
    run(tmp_path / "out", drawings)


# --- pictures that harm ---

NESTED = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{"<g>" * 400}<path/>{"</g>" * 400}</svg>'


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_ends_its_process_is_broken_and_the_others_are_drawn(
    tmp_path: Path, workers: int
) -> None:
    drawings = [drawing(f"key-{n}", svg(shape=n)) for n in range(4)]
    harmful = [drawing(f"bad-{n}", NESTED) for n in range(2)]
    run(tmp_path / "out", [*harmful, *drawings], workers=workers)
    assert sorted(pq.read_table(tmp_path / "out" / "manifest.parquet")["key"].to_pylist()) == [
        one.key for one in drawings
    ]
    listed = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [(row["key"], row["reason"]) for row in listed] == [("bad-0", "broken"), ("bad-1", "broken")]
    assert "SIGSEGV" in listed[0]["detail"]


def test_a_picture_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_workers, "SVG_SECONDS", 1)
    slow = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><filter id="f">'
        '<feTurbulence baseFrequency="0.1" numOctaves="1000000"/></filter>'
        '<rect filter="url(#f)" width="5" height="5"/></svg>'
    )
    run(tmp_path / "out", [drawing("slow", slow), drawing("b", svg())])
    assert "too slow" in (tmp_path / "out" / "dropped.jsonl").read_text()


def test_a_picture_at_which_the_process_is_killed_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Contained.__call__

    def killed(painter: Contained, content: str | bytes, *arguments: Any, **options: Any) -> Any:
        if content == svg(shape=1):
            raise Died(signal.SIGKILL)
        return call(painter, content, *arguments, **options)

    monkeypatch.setattr(Contained, "__call__", killed)
    drawings = [drawing(f"key-{n}", svg(shape=n)) for n in range(3)]
    with pytest.raises(DataError, match="run the same command again"):
        run(tmp_path / "out", drawings)
    run(tmp_path / "out", drawings)
    assert sorted(pq.read_table(tmp_path / "out" / "manifest.parquet")["key"].to_pylist()) == [
        "key-0",
        "key-2",
    ]


def test_what_is_not_drawn_yet_is_held_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw_workers, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(draw_workers, "HELD_BYTES", 3000)
    read = drawn = 0

    def drawings() -> Iterator[Drawing]:
        nonlocal read
        for n in range(20):
            read += 1
            yield drawing(f"key-{n}", svg(shape=n) + " " * 900)

    for event in build(
        tmp_path / "out", [Input("s", drawings)], size=64, workers=2, fingerprint="x", title="T"
    ):
        if event.stage == "draw s":
            assert read - drawn <= 6  # three are held, one is read, and two have been drawn in between
            drawn = event.done
    assert drawn == 20


def test_a_drawing_that_fails_at_1024_px_is_there_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Contained.__call__

    def small(painter: Contained, content: str | bytes, size: int, *arguments: Any, **options: Any) -> Any:
        if size == 1024 and content == svg(shape=1):
            return Drawn("broken")
        return call(painter, content, size, *arguments, **options)

    monkeypatch.setattr(Contained, "__call__", small)
    run(tmp_path / "out", [drawing(f"key-{n}", svg(shape=n)) for n in range(3)], large=3)
    rows = pq.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert {row["key"]: row["large"] for row in rows} == {"key-0": True, "key-1": False, "key-2": True}
    corpus = Corpus(tmp_path / "out")
    for index in corpus.large():
        assert corpus.large_image(int(index)).size == (1024, 1024)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_said_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: ...")

    drawings = [drawing(f"key-{n}", svg(shape=n)) for n in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            DataError, match=r"cannot write into .*out \(no space left on device\): make room"
        ):
            run(tmp_path / "out", drawings, workers=workers)
    run(tmp_path / "out", drawings, workers=workers)
    assert len(Corpus(tmp_path / "out")) == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_a_drawing_process_that_cannot_start_is_said_and_no_picture_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(builder, "CHUNK", 1)
    drawings = [drawing(f"key-{n}", svg(shape=n)) for n in range(6)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "nothing"))
        with pytest.raises(DataError, match="^a drawing process cannot start: No such file"):
            run(tmp_path / "out", drawings, workers=workers)
    run(tmp_path / "out", drawings, workers=workers)
    assert len(Corpus(tmp_path / "out")) == 6


def test_a_manifest_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    run(tmp_path / "out", [drawing("a", svg())])
    (tmp_path / "out" / "manifest.parquet").write_bytes(b"no table")
    run(tmp_path / "out", [drawing("a", svg())])
    assert len(Corpus(tmp_path / "out")) == 1


def test_what_a_source_leaves_out_is_on_the_card_and_in_the_list(tmp_path: Path) -> None:
    left = [LeftOut("s", "gone.png", "unreadable file", "Permission denied")]
    for _ in build(
        tmp_path / "out",
        [Input("s", lambda: [drawing("a", svg())], left_out=left)],
        size=64,
        fingerprint="x",
        title="T",
    ):
        pass
    assert "| source | found | unreadable file |" in (tmp_path / "out" / "CARD.md").read_text()
    assert "| s | 2 | 1 |" in (tmp_path / "out" / "CARD.md").read_text()
    assert outcome.summary(tmp_path / "out")[0].startswith("2 in, 1 kept, 1 dropped")
    (tmp_path / "out" / "dropped.jsonl").unlink()  # as of before there was one
    assert outcome.summary(tmp_path / "out") == ["1 kept"]


def test_two_builds_into_one_folder_do_not_meet(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = build(out, [Input("s", lambda: [drawing("a", svg())])], size=64, fingerprint="x", title="T")
    next(first)
    with pytest.raises(DataError, match=r"another process builds a corpus in .*out: wait"):
        run(out, [drawing("b", svg())])
    list(first)
    assert Corpus(out).column("key") == ["a"]
    assert not list(out.glob(".*"))


def test_what_a_killed_build_had_half_written_is_swept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".building").mkdir()
    for path in (
        out / ".lock",
        out / ".manifest.0123abcd.parquet",
        out / ".building" / ".00-s.0123abcd.arrow",
    ):
        path.write_text("half")
    run(out, [drawing("a", svg())])
    assert not list(out.glob(".*"))
