"""The promise that any source goes through the rules to a corpus with a report, the same each time."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.packages import tar_bytes
from support.planted import COPIES, captioned, digests, packed, photograph
from unclip.cli import main
from unclip.data import draw_workers
from unclip.data.corpus import Corpus
from unclip.data.outcome import summary
from unclip.data.prepare.captions import Judged
from unclip.data.prepare.rules import STANDING, Name, Needs, Rules, chosen
from unclip.data.prepare.run import build_folder, prepare
from unclip.data.records import Split
from unclip.errors import InputError

THINGS = (
    "red ball",
    "green box",
    "blue cone",
    "small cup",
    "round dish",
    "old lamp",
    "wide road",
    "tall tree",
)
GOOD = {f"p{number}": f"a picture of a {thing}" for number, thing in enumerate(THINGS)}


def run(
    sources: Path | Sequence[Path], out: Path, rules: Rules | None = None, **options: Any
) -> Counter[str]:
    """Prepares a corpus; the reasons of what was dropped, and under "" what was kept."""
    sources = [sources] if isinstance(sources, Path) else sources
    for _ in prepare(sources, out, **({"rules": rules or chosen(), "size": 32} | options)):
        pass
    lines = (out / "dropped.jsonl").read_text(encoding="utf-8").splitlines()
    counts = Counter(json.loads(line)["reason"] for line in lines)
    counts[""] = len(Corpus(out, "all"))
    return counts


def keys(out: Path) -> set[str]:
    return set(Corpus(out, "all").column("key"))


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Good pictures, and one for each rule that works without a CLIP."""
    folder = captioned(tmp_path / "planted", GOOD)
    for number, (name, copied) in enumerate(COPIES.items()):
        (folder / f"z-{name}.jpg").write_bytes(copied(photograph(number)))
        (folder / f"z-{name}.txt").write_text(f"a copy, {name}")
    captioned(
        folder,
        {
            "short": "ab",
            "boilerplate": "IMG_1234.JPG",
            "mojibake": "Ein schÃ¶ner KÃ¤se auf einem Tisch",
            "french": "un chat noir dort sur le canapé du salon",
        },
        100,
    )
    (folder / "long.jpg").write_bytes(packed(photograph(200, 200, 50)))
    (folder / "long.txt").write_text("a long wall")
    (folder / "small.jpg").write_bytes(packed(photograph(201, 16, 16)))
    (folder / "small.txt").write_text("a small thing")
    (folder / "broken.jpg").write_bytes(packed(photograph(202))[:400])
    (folder / "broken.txt").write_text("a broken thing")
    frames = [photograph(seed).quantize() for seed in (203, 204)]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    (folder / "moves.txt").write_text("a thing that moves")
    return folder


def test_every_rule_drops_what_is_planted_for_it_and_nothing_else(planted: Path, tmp_path: Path) -> None:
    counts = run(planted, tmp_path / "out")
    assert counts == {
        "": len(GOOD) + 2,
        "caption too short": 1,
        "boilerplate caption": 1,
        "extreme aspect": 1,
        "too small": 1,
        "broken": 1,
        "animated": 1,
        "perceptual duplicate": len(COPIES),
    }
    assert keys(tmp_path / "out") == {f"{name}.jpg" for name in (*GOOD, "mojibake", "french")}
    captions = {
        row["key"]: json.loads(row["captions"]) for row in Corpus(tmp_path / "out", "all").records.to_pylist()
    }
    assert captions["mojibake.jpg"] == {"de": ["Ein schöner Käse auf einem Tisch"]}
    assert captions["french.jpg"] == {"fr": ["un chat noir dort sur le canapé du salon"]}


def test_without_rules_it_is_the_folder_as_it_always_was(planted: Path, tmp_path: Path) -> None:
    run(planted, tmp_path / "prepared", STANDING, report=False)
    for _ in build_folder(planted, tmp_path / "folder", size=32):
        pass
    assert digests(tmp_path / "prepared") == digests(tmp_path / "folder")
    assert not (tmp_path / "folder" / "report").exists()
    assert "short.jpg" in keys(tmp_path / "folder")


def test_the_same_bytes_come_from_one_process_and_from_several(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unclip.data.build.CHUNK", 4)
    run(planted, tmp_path / "one", workers=1)
    run(planted, tmp_path / "three", workers=3)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")
    report = {name: (tmp_path / name / "report" / "index.html").read_bytes() for name in ("one", "three")}
    assert report["one"] == report["three"]


def test_a_rule_that_is_off_drops_nothing(planted: Path, tmp_path: Path) -> None:
    counts = run(planted, tmp_path / "out", chosen(off=["perceptual", "boilerplate", "animated", "aspect"]))
    assert counts["perceptual duplicate"] == counts["boilerplate caption"] == counts["animated"] == 0
    assert {"moves.gif", "long.jpg", "boilerplate.jpg", "z-mirror.jpg"} <= keys(tmp_path / "out")


def test_a_drawing_in_another_colour_is_no_copy(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", {"red": "a red thing"})
    pixels = np.asarray(photograph(0).convert("L"))
    for name, channel in (("red", 0), ("blue", 2)):
        picture = np.zeros((*pixels.shape, 3), np.uint8)
        picture[..., channel] = pixels
        (folder / f"{name}.jpg").write_bytes(packed(Image.fromarray(picture)))
        (folder / f"{name}.txt").write_text(f"a {name} thing")
    assert run(folder, tmp_path / "out")[""] == 2


def test_captions_that_everybody_has_are_taken_away(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", {f"p{number}": "Our holiday photographs" for number in range(6)})
    captioned(folder, {"q": "a quiet lake"}, 50)
    (folder / "p0.txt").write_text("our  HOLIDAY photographs\na boat on a lake")
    counts = run(folder, tmp_path / "out", chosen(["repeated=5"]))
    assert (counts[""], counts["repeated caption"]) == (2, 5)
    corpus = Corpus(tmp_path / "out", "all")
    assert {corpus.captions(index)["en"][0] for index in range(2)} == {"a boat on a lake", "a quiet lake"}
    assert run(folder, tmp_path / "all", chosen(["repeated=6"]))[""] == 7


def test_of_pictures_that_models_are_measured_on_none_is_trained_on(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", GOOD)
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "one.jpg").write_bytes(COPIES["mirror"](photograph(2)))  # no caption is needed
    (tests / "two.jpg").write_bytes(packed(photograph(77)))
    rules = chosen(at_hand=[Needs.EVALUATION])
    counts = run(folder, tmp_path / "out", rules, against=[tests])
    assert counts["in an evaluation set"] == 1
    assert keys(tmp_path / "out") == {f"{name}.jpg" for name in GOOD} - {"p2.jpg"}
    dropped = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert dropped["detail"].startswith("like one.jpg: ")


class Colours:
    """A CLIP that sees a picture's mean colour, and reads the names of colours."""

    identity = "colours"
    names: ClassVar = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}

    def embed_images(self, images: Sequence[Image.Image], /) -> np.ndarray:
        means = np.stack([np.asarray(image, np.float32).mean(axis=(0, 1)) - 40 for image in images])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def embed_texts(self, texts: Sequence[str], /) -> np.ndarray:
        found = [
            next((value for name, value in self.names.items() if name in text), (1, 1, 1)) for text in texts
        ]
        vectors = np.asarray(found, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def coloured(folder: Path, rows: dict[str, tuple[tuple[int, int, int], str]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, (colour, caption) in rows.items():
        speckles = np.random.default_rng(sum(name.encode())).integers(-40, 40, (48, 48, 3))
        pixels = np.clip(np.array(colour) + speckles, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption)
    return folder


def test_a_clip_finds_what_means_the_same_and_captions_that_do_not_fit(tmp_path: Path) -> None:
    folder = coloured(
        tmp_path / "in",
        {
            "a": ((220, 50, 50), "a red wall"),
            "b": ((222, 50, 50), "another red wall"),
            "c": ((50, 220, 50), "a green field"),
            "d": ((50, 50, 220), "a red sky"),
        },
    )
    rules = chosen(["score=0.5", "semantic=0.999"], ["perceptual"], at_hand=[Needs.CLIP])
    counts = run(folder, tmp_path / "out", rules, embedder=Colours())
    assert keys(tmp_path / "out") == {"a.png", "c.png"}
    assert (counts["semantic duplicate"], counts["caption and picture differ"]) == (1, 1)


def test_rules_of_policy_are_handed_in(tmp_path: Path) -> None:
    class NoLamps:
        identity = "no lamps"

        def __call__(self, image: Image.Image, captions: Sequence[str], /) -> str:
            assert image.mode == "RGB"
            return "a lamp" if any("lamp" in caption for caption in captions) else ""

    folder = captioned(tmp_path / "in", GOOD)
    rules = chosen(at_hand=[Needs.POLICY])
    assert run(folder, tmp_path / "out", rules, policy=NoLamps())["policy"] == 1
    assert "p5.jpg" not in keys(tmp_path / "out")


def test_what_a_policy_thins_out_counts_more_in_training(tmp_path: Path) -> None:
    class FewReds:
        identity = "few reds"

        def __call__(self, image: Image.Image, captions: Sequence[str], /) -> str:
            return "a red one" if any("red" in caption and "odd" in caption for caption in captions) else ""

    colours = {"red": (220, 50, 50), "green": (50, 220, 50)}
    rows = {
        f"{name}{'x' * k}": (colour, f"{'odd' if k % 4 else 'plain'} {name} wall, number {k}")
        for name, colour in colours.items()
        for k in range(24)
    }
    folder = coloured(tmp_path / "in", rows)
    off = ["perceptual", "semantic", "score", "near-duplicate"]
    rules = chosen(off=off, at_hand=[Needs.CLIP, Needs.POLICY])
    assert run(folder, tmp_path / "out", rules, embedder=Colours(), policy=FewReds())["policy"] == 18
    corpus = Corpus(tmp_path / "out", "all")
    red = np.array(["red" in corpus.name(index) for index in range(len(corpus))])
    assert (red.sum(), len(red)) == (6, 30)
    assert corpus.weights()[red].sum() == pytest.approx(0.5, abs=0.1)  # as before; 0.2 without weights
    assert not (tmp_path / "out" / "known").exists()
    run(folder, tmp_path / "plain", chosen(off=[*off, "reweight"], at_hand=[Needs.CLIP, Needs.POLICY]),
        embedder=Colours(), policy=FewReds())  # fmt: skip
    assert Corpus(tmp_path / "plain", "all").weights()[0] == pytest.approx(1 / 30)
    with pytest.raises(InputError, match="leave that on"):
        run(folder, tmp_path / "x", chosen(off=["policy"], at_hand=[Needs.CLIP, Needs.POLICY]),
            embedder=Colours(), policy=FewReds())  # fmt: skip


def test_a_rule_without_what_it_needs_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for need, message in (
        (Needs.CLIP, "semantic"),
        (Needs.POLICY, "policy"),
        (Needs.EVALUATION, "evaluation"),
    ):
        with pytest.raises(InputError, match=f"rule {message} is on"):
            run(captioned(tmp_path / need, GOOD), tmp_path / "out", chosen(at_hand=[need]))
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unclip.data.prepare import captions

    monkeypatch.setitem(__import__("sys").modules, "ftfy", None)
    captions._library.cache_clear()
    with pytest.raises(
        InputError, match=r"ftfy is not installed: pip install 'unclip\[prepare\]', or switch"
    ):
        run(captioned(tmp_path / "in", GOOD), tmp_path / "out")
    captions._library.cache_clear()


def test_a_killed_preparation_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", {f"p{number}": f"thing number {number}" for number in range(300)})
    out = tmp_path / "out"
    command = [sys.executable, "-m", "unclip", "data", "prepare", str(folder)]
    options = ["--size", "32", "--workers", "2"]
    process = subprocess.Popen([*command, str(out), *options], stderr=subprocess.DEVNULL)
    while not list((out / ".building").glob("*.arrow")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (out / "manifest.parquet").exists()
    drawn = {path.name: path.stat().st_mtime_ns for path in (out / ".building").glob("*.arrow")}
    assert 0 < len(drawn) < 3
    for path in (out, tmp_path / "straight"):
        subprocess.run([*command, str(path), *options], check=True, capture_output=True)
    assert digests(out) == digests(tmp_path / "straight")
    reports = [(path / "report" / "index.html").read_bytes() for path in (out, tmp_path / "straight")]
    assert reports[0] == reports[1]


def tars(out: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(out).items() if name.endswith(".tar")}


def test_a_source_that_has_grown_adds_shards_and_draws_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = captioned(tmp_path / "in", GOOD)
    (folder / "long.jpg").write_bytes(packed(photograph(200, 200, 50)))
    (folder / "long.txt").write_text("a long wall")
    out = tmp_path / "out"
    run(folder, out)
    before, names = tars(out), keys(out)
    captioned(folder, {"new": "a new thing", "other": "another new thing", "bad": "IMG_1.JPG"}, 400)
    (folder / "again.jpg").write_bytes(COPIES["mirror"](photograph(3)))
    (folder / "again.txt").write_text("the small cup again")
    drawn: list[str] = []
    original = draw_workers.draw

    def draw(judged: Judged, *arguments: Any) -> dict[str, object]:
        drawn.append(judged.drawing.key)
        return original(judged, *arguments)

    monkeypatch.setattr(draw_workers, "draw", draw)
    counts = run(folder, out)
    assert set(drawn) == {"new.jpg", "other.jpg", "bad.jpg", "again.jpg"}
    assert before.items() < tars(out).items()
    assert keys(out) == names | {"new.jpg", "other.jpg"}
    assert counts == {
        "": len(GOOD) + 2,
        "perceptual duplicate": 1,
        "boilerplate caption": 1,
        "extreme aspect": 1,
    }
    assert summary(out)[0].startswith(f"{len(GOOD) + 5} in, {len(GOOD) + 2} kept, 3 dropped")
    for split in Split:
        corpus = Corpus(out, split)
        corpus.check_files()
        assert all(corpus.image(index).size == (32, 32) for index in range(len(corpus)))
    drawn.clear()
    captioned(folder, {"third": "a third thing"}, 500)  # it may grow again
    run(folder, out)
    assert drawn == ["third.jpg"]
    assert "third.jpg" in keys(out)


def test_a_clip_sees_only_what_is_new_of_a_source_that_has_grown(tmp_path: Path) -> None:
    class Counted(Colours):
        seen = 0

        def embed_images(self, images: Sequence[Image.Image], /) -> np.ndarray:
            self.seen += len(images)
            return super().embed_images(images)

    first = {"a": ((220, 50, 50), "a red wall"), "c": ((50, 220, 50), "a green field")}
    folder = coloured(tmp_path / "in", first)
    rules = chosen(["score=0.5", "semantic=0.999"], ["perceptual"], at_hand=[Needs.CLIP])
    clip = Counted()
    run(folder, tmp_path / "out", rules, embedder=clip)
    assert clip.seen == 2
    coloured(folder, {"d": ((222, 50, 50), "another red wall"), "e": ((50, 50, 220), "a blue sky")})
    assert run(folder, tmp_path / "out", rules, embedder=clip)["semantic duplicate"] == 1
    assert clip.seen == 4
    assert keys(tmp_path / "out") == {"a.png", "c.png", "e.png"}


@pytest.mark.parametrize("change", ["gone", "another caption", "another picture", "other rules", "damaged"])
def test_what_has_not_only_grown_is_made_anew(change: str, tmp_path: Path) -> None:
    folder, out = captioned(tmp_path / "in", GOOD), tmp_path / "out"
    run(folder, out)
    rules = chosen()
    captioned(folder, {"new": "a new thing"}, 400)
    if change == "gone":
        (folder / "p0.jpg").unlink()
    elif change == "another caption":
        (folder / "p0.txt").write_text("a picture of something else")
    elif change == "another picture":
        (folder / "p0.jpg").write_bytes(packed(photograph(77)))
    elif change == "other rules":
        rules = chosen(["short=4"])
    else:
        next((out / "known").iterdir()).write_bytes(b"ARROW1")
    run(folder, out, rules)
    run(folder, tmp_path / "straight", rules)
    assert digests(out) == digests(tmp_path / "straight")
    assert len(list((out / "known").iterdir())) == 1


# --- sources ---


def table(folder: Path) -> Path:
    captioned(folder / "img", GOOD)
    for path in (folder / "img").glob("*.txt"):
        path.unlink()
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "text"])
        writer.writerows((f"img/{name}.jpg", caption) for name, caption in GOOD.items())
    return folder


def stored(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"image": {"bytes": packed(photograph(number)), "path": None}, "text": caption}
        for number, caption in enumerate(GOOD.values())
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def dataset(folder: Path) -> Path:
    """A folder as `datasets.Dataset.save_to_disk` writes it."""
    folder.mkdir(parents=True)
    rows = pq.read_table(stored(folder.parent / "table.parquet"))
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, rows.schema) as writer,
    ):
        writer.write_table(rows, max_chunksize=3)
    (folder / "dataset_info.json").write_text('{"features": {"image": {"_type": "Image"}}}')
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    return folder


def shard(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, (name, caption) in enumerate(GOOD.items()):
        files |= {f"{name}.jpg": packed(photograph(number)), f"{name}.txt": caption.encode()}
    path.write_bytes(tar_bytes(files, "w"))
    return path


SOURCES = {
    "a folder": lambda place: captioned(place / "in", GOOD),
    "a folder with a table": lambda place: table(place / "in"),
    "a table": lambda place: table(place / "in") / "metadata.csv",
    "a parquet file of pictures": lambda place: stored(place / "in" / "rows.parquet"),
    "a shard": lambda place: shard(place / "in" / "00000.tar"),
    "a folder of shards": lambda place: shard(place / "in" / "00000.tar").parent,
    "a data set on disk": lambda place: dataset(place / "in"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_pictures_and_captions_are_the_same_from_any_source(kind: str, tmp_path: Path) -> None:
    run(SOURCES[kind](tmp_path), tmp_path / "out")
    corpus = Corpus(tmp_path / "out", "all")
    assert sorted(corpus.name(index) for index in range(len(corpus))) == sorted(GOOD.values())


def test_several_sources_are_one_corpus_without_what_is_in_two(tmp_path: Path) -> None:
    first = captioned(tmp_path / "first", GOOD)
    second = shard(tmp_path / "second" / "00000.tar")
    third = captioned(tmp_path / "again" / "first", {"new": "a new thing"}, 300)
    counts = run([first, second, third], tmp_path / "out")
    assert counts == {"": len(GOOD) + 1, "duplicate": len(GOOD)}
    assert keys(tmp_path / "out") == {f"first/{name}.jpg" for name in GOOD} | {"first-2/new.jpg"}


# --- the report ---


def test_the_report_shows_the_funnel_and_pictures_on_both_sides(planted: Path, tmp_path: Path) -> None:
    run(planted, tmp_path / "out", chosen(["short=2"]))
    report = tmp_path / "out" / "report"
    page = (report / "index.html").read_text(encoding="utf-8")
    for name in ("boilerplate", "perceptual", "aspect", "size"):
        assert f"id='{name}'" in page
        assert (report / f"{name}-dropped.jpg").is_file()
    assert "Kept, just beside the threshold" in page
    lines = (report / "REPORT.md").read_text(encoding="utf-8").splitlines()
    whole = len(list(planted.glob("*.txt")))
    kept = len(Corpus(tmp_path / "out", "all"))
    assert lines[2].startswith(f"{whole} in, {kept} kept")
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and line.count("|") == 5]
    counted = {row[0].removeprefix("| "): int(row[2]) for row in rows[1:]}
    assert sum(counted.values()) == whole - kept
    assert counted["perceptual"] == len(COPIES)


def test_nothing_that_a_caption_says_is_obeyed_by_the_report(tmp_path: Path) -> None:
    folder = captioned(
        tmp_path / "in", GOOD | {"p0": "a <script>alert(1)</script> ball | ![x](y)", "x": "<b"}
    )
    run(folder, tmp_path / "out")
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    lines = (tmp_path / "out" / "report" / "REPORT.md").read_text(encoding="utf-8")
    assert "![x](y)" not in lines


# --- the command line ---


def test_the_command_line(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["data", "prepare", str(planted), str(out), "--size", "32", "--workers", "1"]
    assert main([*command, "--without", "perceptual", "--keep-languages", "en,de"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "1 other language" in said.err
    assert f"the report is in {out / 'report' / 'index.html'}" in said.err
    assert summary(out)[0].startswith("20 in, 13 kept, 7 dropped")
    assert main(["data", "prepare", "--rules", "--rule", "short=9", "x"]) == 0
    assert "fewer than 9 letters" in capsys.readouterr().out
    assert main(["data", "prepare", str(planted)]) == 2
    assert "SOURCE... OUT" in capsys.readouterr().err


def test_a_prepared_corpus_is_left_as_it_is_and_made_anew_for_other_rules(
    planted: Path, tmp_path: Path
) -> None:
    run(planted, tmp_path / "out")
    before = digests(tmp_path / "out")
    events = list(prepare([planted], tmp_path / "out", rules=chosen(), size=32))
    assert [event.stage for event in events] == ["up to date"]
    assert run(planted, tmp_path / "out", chosen(off=["perceptual"]))["perceptual duplicate"] == 0
    assert digests(tmp_path / "out") != before
    shutil.rmtree(tmp_path / "out" / "report")


def test_a_near_duplicate_rule_can_be_switched_off_alone(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", {"a": "a wide road"})
    nearly = Image.open(folder / "a.jpg").point(lambda value: max(0, value - 1))
    nearly.save(folder / "b.png")
    (folder / "b.txt").write_text("the same road")
    off = [name for name in STANDING.on if name is not Name.DECODING]
    assert run(folder, tmp_path / "out", chosen(off=[*off, "perceptual"]))[""] == 2
    assert run(folder, tmp_path / "again", STANDING)["near-duplicate"] == 1
