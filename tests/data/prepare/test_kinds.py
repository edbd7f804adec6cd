"""The promise that folders as others leave them go to a prepared corpus by one command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from support.packages import tar_bytes
from support.planted import captioned, packed, photograph
from unclip.cli import main
from unclip.data.corpus import Corpus

CAPTIONS = {
    "first": "a red cup on a table",
    "second": "a boat on a quiet lake",
    "third": "two dogs in the snow",
}
UPRIGHT = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def phone(place: Path) -> Path:
    """Photographs as a phone writes them: lying in the file, upright by their EXIF, in folders by month."""
    for number, ((name, caption), (orientation, turn)) in enumerate(
        zip(CAPTIONS.items(), UPRIGHT.items(), strict=True)
    ):
        folder = place / "DCIM" / f"2026-0{number + 1}"
        folder.mkdir(parents=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010F] = "A phone"
        lying = photograph(number, 160, 120).transpose(turn)
        lying.save(folder / f"IMG_{number}_{name}.JPG", exif=exif, quality=92)
        (folder / f"IMG_{number}_{name}.txt").write_text(caption)
        (folder / ".thumbdata3").write_bytes(b"a phone's own")
    return place


def kohya(place: Path) -> Path:
    """Pictures as kohya's trainer takes them: folders by repeats and name, tags beside, and its table."""
    captioned(place / "10_sks cup", CAPTIONS)
    for path in (place / "10_sks cup").glob("*.txt"):
        path.rename(path.with_suffix(".caption"))
    return place


def coco(place: Path) -> Path:
    """Pictures and captions as COCO has them: a table of pictures, and one of several captions of each."""
    captioned(place / "train2017", CAPTIONS)
    for path in (place / "train2017").glob("*.txt"):
        path.unlink()
    images = [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate(CAPTIONS)]
    said = [
        {"id": 10 * number + more, "image_id": number, "caption": f"{caption}{' again' * more}"}
        for number, caption in enumerate(CAPTIONS.values())
        for more in range(2)
    ]
    (place / "annotations").mkdir()
    table = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": said}
    (place / "annotations" / "captions_train2017.json").write_text(json.dumps(table))
    return place


def img2dataset(place: Path) -> Path:
    """The folder that img2dataset writes: shards, a table of each, and what it counted."""
    place.mkdir()
    files, rows = {}, []
    for number, caption in enumerate(CAPTIONS.values()):
        key = f"{number:09d}"
        about = {
            "caption": caption,
            "url": f"https://example.org/{number}.jpg",
            "key": key,
            "status": "success",
        }
        files |= {
            f"{key}.jpg": packed(photograph(number)),
            f"{key}.json": json.dumps(about).encode(),
            f"{key}.txt": caption.encode(),
        }
        rows.append(about | {"width": 96, "height": 80, "sha256": "0"})
    (place / "00000.tar").write_bytes(tar_bytes(files, "w"))
    pq.write_table(pa.Table.from_pylist(rows), place / "00000.parquet")
    (place / "00000_stats.json").write_text(
        json.dumps({"count": 3, "successes": 3, "status_dict": {"success": 3}})
    )
    return place


def datasets(place: Path) -> Path:
    """A data set of the library `datasets` as `save_to_disk` writes it, with two splits."""
    captions = list(CAPTIONS.values())
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        (place / split).mkdir(parents=True)
        rows = pa.Table.from_pylist(
            [
                {"image": {"bytes": packed(photograph(k)), "path": f"{k}.jpg"}, "text": captions[k]}
                for k in numbers
            ]
        )
        with (
            pa.OSFile(str(place / split / "data-00000-of-00001.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, rows.schema) as writer,
        ):
            writer.write_table(rows)
        (place / split / "dataset_info.json").write_text('{"features": {"image": {"_type": "Image"}}}')
        (place / split / "state.json").write_text(
            '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}'
        )
    (place / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return place


KINDS: dict[str, Callable[[Path], Path]] = {
    "a phone's photographs": phone,
    "a kohya folder": kohya,
    "a COCO-style table": coco,
    "what img2dataset writes": img2dataset,
    "a Hugging Face data set on disk": datasets,
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_command_makes_a_corpus_of(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = KINDS[kind](tmp_path / "in"), tmp_path / "out"
    assert main(["data", "prepare", str(source), str(out), "--size", "64", "--workers", "1"]) == 0
    corpus = Corpus(out, "all")
    captions = {corpus.name(index): index for index in range(len(corpus))}
    assert set(captions) == set(CAPTIONS.values())
    assert (out / "report" / "index.html").is_file()
    for number, caption in enumerate(CAPTIONS.values()):  # each caption has its own picture, upright
        width, height = (160, 120) if kind == "a phone's photographs" else (96, 80)
        wanted = np.asarray(photograph(number, width, height).resize((64, round(64 * height / width))))
        drawn = np.asarray(corpus.image(captions[caption]))
        top = (64 - len(wanted)) // 2
        assert np.abs(drawn[top : top + len(wanted)].astype(int) - wanted).mean() < 6


def test_every_caption_that_a_table_has_of_a_picture_is_kept(tmp_path: Path) -> None:
    main(
        [
            "data",
            "prepare",
            str(coco(tmp_path / "in")),
            str(tmp_path / "out"),
            "--size",
            "32",
            "--workers",
            "1",
        ]
    )
    corpus = Corpus(tmp_path / "out", "all")
    rows = {corpus.name(index): list(corpus.column("names")[index]) for index in range(len(corpus))}
    assert rows == {caption: [f"{caption} again"] for caption in CAPTIONS.values()}
