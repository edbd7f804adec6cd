"""Promises of indexing: only what is new is embedded, nothing committed is lost, one writer at a time."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from support.colour_clip import Colours
from unclip.errors import InputError, SearchError
from unclip.processes import contained_pool
from unclip.search import store as store_file
from unclip.search.index import Index
from unclip.search.reading import MEMORY, Job, read
from unclip.search.store import DATABASE, FOLDER, Store
from unclip.search.writer import CHUNK, Summary, Writer


def run(folder: Path, clip: Colours, **options: object) -> Summary:
    writer = Writer(folder, clip, **{"workers": 1, **options})
    for _ in writer.run():
        pass
    return writer.summary


def files(index: Path) -> set[str]:
    store = Store.open(index)
    try:
        return {file.path for file, reason in store.files() if reason is None}
    finally:
        store.close()


def test_a_folder_is_indexed_and_what_is_no_picture_is_listed(photos: Path, clip: Colours) -> None:
    summary = run(photos, clip)
    assert (summary.pictures, summary.files, summary.embedded, clip.embedded) == (7, 7, 7, 7)
    assert summary.index == photos / FOLDER
    reasons = dict(summary.skipped)
    assert sorted(reasons) == ["broken.png", "notes.txt"]
    assert reasons["notes.txt"].startswith("is not a picture")
    assert reasons["broken.png"].startswith("is broken")
    assert files(summary.index) == {
        *("a.png", "b.jpg", "c.webp", "g.bmp", "trip/d.png", "trip/e.png", "trip/day 2/f.png")
    }


def test_the_second_run_embeds_nothing_and_reads_nothing(photos: Path, clip: Colours) -> None:
    run(photos, clip)
    texts = len(clip.texts)
    summary = run(photos, clip)
    assert (summary.read, summary.embedded, summary.unchanged, summary.skipped) == (0, 0, 9, [])
    assert {path for path, _ in summary.skipped_before} == {"broken.png", "notes.txt"}
    assert clip.embedded == 7
    assert len(clip.texts) == texts


def test_new_changed_renamed_copied_touched_and_removed_files(
    photos: Path, clip: Colours, draw: Callable[..., Path]
) -> None:
    run(photos, clip)
    (photos / "a.png").rename(photos / "trip" / "renamed.png")
    (photos / "copy.jpg").write_bytes((photos / "b.jpg").read_bytes())
    (photos / "c.webp").unlink()
    draw("new.png", "red", seed=1)
    draw("g.bmp", "blue", seed=2)
    os.utime(photos / "trip" / "d.png", ns=(1, 1))
    clip.embedded = 0
    summary = run(photos, clip)
    assert clip.embedded == summary.embedded == 2  # new.png and what g.bmp now holds
    assert (summary.read, summary.removed) == (5, 2)
    assert (summary.pictures, summary.files) == (7, 8)
    with Index(photos, clip=clip) as index:
        paths = {path.name for hit in index.query("red", fold=False) for path in (hit.path, *hit.copies)}
    assert paths == {
        *("renamed.png", "copy.jpg", "b.jpg", "new.png", "g.bmp", "d.png", "e.png", "f.png"),
    }


@pytest.mark.parametrize("options", [{"workers": 2}, {"batch": 1}, {"batch": 3}])
def test_workers_and_batches_change_nothing(
    photos: Path, clip: Colours, draw: Callable[..., Path], options: dict[str, int]
) -> None:
    for number in range(2 * CHUNK):  # enough for two workers
        draw(f"many/{number:02}.png", "blue")
    expected = run(photos, clip, out=photos.parent / "one")
    found = run(photos, clip, out=photos.parent / "other", **options)
    assert (found.pictures, found.files, sorted(found.skipped)) == (
        expected.pictures,
        expected.files,
        sorted(expected.skipped),
    )
    rows = []
    for place in ("one", "other"):
        with Index(photos.parent / place, clip=clip) as index:
            assert index.folder == photos.resolve()
            hits = index.query("red", top=100, fold=False)
            rows.append([(hit.path, round(hit.cosine, 5)) for hit in hits])
    assert sorted(rows[0]) == sorted(rows[1])


def test_a_killed_writer_loses_nothing_that_was_committed(
    photos: Path, clip: Colours, draw: Callable[..., Path]
) -> None:
    for number in range(40):
        draw(f"many/{number:02}.png", "red", seed=number)
    command = [sys.executable, "-m", "support.colour_clip", str(photos), "0.2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        committed = 0
        for line in process.stdout:
            stage, done, _ = line.split()
            committed = int(done) if stage == "pictures" else 0
            if committed >= 12:
                break
        with Index(photos, clip=clip) as index:  # a reader beside the writer
            assert len(index) >= 8
            assert index.query("red", top=3)
        with pytest.raises(SearchError, match="another process writes the index"):
            run(photos, clip)
        process.send_signal(signal.SIGKILL)
    with Index(photos, clip=clip) as index:
        there = len(index)
        assert there >= 8
        assert index.query("red", top=3)
    clip.embedded = 0
    summary = run(photos, clip)
    assert summary.pictures == 47
    assert clip.embedded == 47 - there


def test_an_index_made_with_the_older_crop_is_noticed_and_made_again(photos: Path, clip: Colours) -> None:
    """It has the older identity of the same model, and does not say how its pictures were prepared."""
    place = run(photos, clip).index
    with sqlite3.connect(place / DATABASE) as database:
        database.execute("UPDATE setting SET value = 'older' WHERE name = 'clip'")
        database.execute("DELETE FROM setting WHERE name = 'prepared'")
    with pytest.raises(SearchError, match=r"a pixel beside their middle: make it again by `unclip index "):
        Index(photos, clip=clip)
    with pytest.raises(SearchError, match=r"made with the model colours .older.*--out"):
        run(photos, padding(Colours()))
    clip.embedded = 0
    summary = run(photos, clip)
    assert (clip.embedded, summary.pictures, summary.files, summary.all_skipped) == (7, 7, 7, 2)
    with Index(photos, clip=clip) as index:
        assert index.query("red")
    assert run(photos, clip).embedded == 0


def padding(clip: Colours) -> Colours:
    """One whose preparation of pictures has not changed."""
    clip.preprocessing = replace(clip.preprocessing, fit="pad")
    return clip


def test_another_model_asks_for_another_index(photos: Path, clip: Colours) -> None:
    run(photos, clip)
    other = Colours("colours-2")
    with pytest.raises(
        SearchError, match="made with the model colours .colours-1., this is colours .colours-2"
    ):
        run(photos, other)
    with pytest.raises(SearchError, match="made with the model colours .colours-1"):
        Index(photos, clip=other)
    assert run(photos, other, out=photos / ".second").pictures == 7
    assert run(photos, clip).embedded == 0


def test_an_index_is_of_one_folder_and_may_be_moved_with_it(photos: Path, clip: Colours) -> None:
    elsewhere = photos.parent / "index"
    run(photos, clip, out=elsewhere)
    run(photos, clip)
    (photos.parent / "more").mkdir()
    with pytest.raises(SearchError, match="is the index of .*photos"):
        run(photos.parent / "more", clip, out=elsewhere)
    moved = photos.rename(photos.parent / "moved")
    assert run(moved, clip).read == 0
    with Index(moved, clip=clip) as index:
        assert index.query("red")[0].path.is_file()


def test_an_index_within_the_folder_is_not_indexed(photos: Path, clip: Colours) -> None:
    (photos / "index").mkdir()
    summary = run(photos, clip, out=photos / "index")
    assert {path for path, _ in summary.skipped} == {"broken.png", "notes.txt"}


def test_a_folder_that_cannot_be_written_asks_for_another_place(photos: Path, clip: Colours) -> None:
    (photos / FOLDER).touch()  # where the index would go
    with pytest.raises(InputError, match="is not a folder; choose another place by --out"):
        run(photos, clip)
    assert run(photos, clip, out=photos.parent / "index").pictures == 7


def test_a_full_disk_is_said_and_the_same_command_goes_on(
    photos: Path, clip: Colours, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., Path]
) -> None:
    for number in range(60):
        draw(f"many/{number:02}.png", "red", seed=number)
    connect = store_file._connect

    def full(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 30")
        return connection

    monkeypatch.setattr(store_file, "_connect", full)
    with pytest.raises(
        SearchError, match=r"cannot write the index .*full.*: make room, and the same command"
    ):
        run(photos, clip, batch=8)
    monkeypatch.undo()
    assert run(photos, clip).pictures == 67


def test_what_is_no_index_is_said(photos: Path, clip: Colours) -> None:
    with pytest.raises(SearchError, match="no index in .*photos: make one by `unclip index"):
        Index(photos)
    (photos / FOLDER).mkdir()
    (photos / FOLDER / "index.sqlite").write_bytes(b"something else " * 100)
    with pytest.raises(SearchError, match="cannot read the index"):
        Index(photos)
    with pytest.raises(SearchError, match="cannot write the index"):
        run(photos, clip)
    with pytest.raises(InputError, match="no such folder"):
        Writer(photos / "gone", clip)
    with pytest.raises(InputError, match="choose 1 or more"):
        Writer(photos, clip, batch=0)


def test_an_index_of_another_format_is_refused(photos: Path, clip: Colours) -> None:
    run(photos, clip)
    with sqlite3.connect(photos / FOLDER / "index.sqlite") as connection:
        connection.execute("UPDATE setting SET value = '0' WHERE name = 'format'")
    connection.close()
    with pytest.raises(SearchError, match="format 0, this version reads 1"):
        Index(photos)


def test_a_picture_is_read_once_for_all_that_is_kept(photos: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:02:03 04:05:06"
    path = photos / "large.jpg"
    Image.new("RGB", (1600, 1200), "red").save(path, exif=exif)
    reading = read(Job(path, (), 32, "pad"))
    assert reading.pixels is not None
    assert (reading.pixels.width, reading.pixels.height) == (1200, 1600)
    assert reading.pixels.date == "2020-02-03T04:05:06"
    assert reading.pixels.square.shape == (32, 32, 3)
    assert Image.open(io.BytesIO(reading.pixels.thumbnail)).size == (192, 256)
    again = read(Job(path, (reading.hash,), 32, "pad"))
    assert (again.hash, again.pixels) == (reading.hash, None)
    assert (read(Job(photos / "gone.png", (), 32, "pad")).reason or "").startswith("cannot be read")


def test_huge_and_moving_pictures(photos: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    reading = read(Job(photos / "moving.gif", (), 8, "crop"))
    assert reading.pixels is not None
    assert reading.pixels.square[0, 0].tolist() == [255, 0, 0]
    Image.new("1", (8000, 7000)).save(photos / "huge.png")
    assert "more than 50 megapixels" in (read(Job(photos / "huge.png", (), 8, "pad")).reason or "")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_ends_the_process_that_reads_it_is_listed_and_the_rest_is_indexed(
    photos: Path, clip: Colours, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(
        "unclip.search.writer.readers",
        lambda count: contained_pool("support.fatal_reading:read", MEMORY, count),
    )
    for number in range(CHUNK):
        (photos / f"fatal-{number}.png").write_bytes((photos / "a.png").read_bytes() + b"\0" * number)
    summary = run(photos, clip, workers=workers)
    assert summary.pictures == 7
    reasons = dict(summary.skipped)
    assert reasons["fatal-3.png"] == "is broken: to read it ends the process"
    assert len(reasons) == 2 + CHUNK


def test_reading_fifty_megapixels_takes_little_more_than_its_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (10_000, 5000), "red").save(tmp_path / "large.png", compress_level=1)
    code = (
        "import sys, resource; from pathlib import Path; from unclip.search.reading import Job, read\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert read(Job(Path(sys.argv[1]), (), 224, 'crop')).pixels is not None\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    used = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert int(used) < 260  # MiB; the pixels are 191


def test_pipes_and_links_to_nowhere_are_listed_by_name(photos: Path, clip: Colours) -> None:
    os.mkfifo(photos / "pipe.png")
    (photos / "nowhere.jpg").symlink_to("gone.jpg")
    (photos / "itself.png").symlink_to("itself.png")
    summary = run(photos, clip)
    reasons = dict(summary.skipped)
    assert "it is a pipe or a device" in reasons["pipe.png"]
    assert "No such file" in reasons["nowhere.jpg"]
    assert "links" in reasons["itself.png"]
    assert summary.pictures == 7
