"""The promise that a fit takes pictures as people have them: phones, kohya, COCO, tars, data sets."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.described import Defaults
from unclip.errors import DataError
from unclip.train.fit.fitting import Fit

SAID = {name: f"a sks cup {name}" for name in ("on a table", "on grass", "in the snow", "at the sea")}


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def kohya(folder: Path) -> None:
    (below := folder / "10_sks cup").mkdir(parents=True)
    for number, caption in enumerate(SAID.values()):
        (below / f"{number:03d}.jpg").write_bytes(picture(number))
        (below / f"{number:03d}.txt").write_text(caption)


def phone(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate(SAID):
        (folder / f"a sks cup {name}.jpg").write_bytes(picture(number))


def coco(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    images, notes = [], []
    for number, caption in enumerate(SAID.values()):
        (folder / "images" / f"{number:012d}.jpg").write_bytes(picture(number))
        images.append({"id": number, "file_name": f"images/{number:012d}.jpg"})
        notes.append({"image_id": number, "id": 10 + number, "caption": caption})
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))


def img2dataset(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number, caption in enumerate(SAID.values()):
            told = {"url": f"https://example.org/{number}.jpg", "caption": caption, "status": "success"}
            files: Mapping[str, bytes] = {
                "jpg": picture(number), "json": json.dumps(told).encode(), "txt": caption.encode(),
            }  # fmt: skip
            for ending, content in files.items():
                member = tarfile.TarInfo(f"{number:09d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (folder / "00000_stats.json").write_text('{"count": 4, "successes": 4}')


def dataset(folder: Path) -> None:
    folder.mkdir()
    rows = [
        {"image": {"bytes": picture(number), "path": None}, "text": caption}
        for number, caption in enumerate(SAID.values())
    ]
    table = pa.Table.from_pylist(rows)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    (folder / "dataset_info.json").write_text('{"features": {"image": {"_type": "Image"}}}')
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')


FORMS: Mapping[str, Callable[[Path], None]] = {
    "a stranger's phone photos": phone,
    "a kohya folder": kohya,
    "a COCO-style table": coco,
    "an img2dataset output": img2dataset,
    "a Hugging Face dataset on disk": dataset,
}


def finished(work: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as stop:
        return stop.value


def fit(source: Path, out: Path, base: Path, **said: Any) -> Fit:
    return Fit([source], out, base=str(base), workers=1, defaults=Defaults(names_say=True, **said))


@pytest.mark.parametrize("form", FORMS)
def test_pictures_and_captions_are_taken_as_they_come(form: str, tiny_bundle: Path, tmp_path: Path) -> None:
    FORMS[form](tmp_path / "in")
    folder = finished(fit(tmp_path / "in", tmp_path / "out", tiny_bundle).prepare())
    corpus = Corpus(tmp_path / "out" / "pictures", EVERYTHING)
    assert sorted(corpus.name(index) for index in range(len(corpus))) == sorted(SAID.values())
    assert (folder.pictures, folder.common) == (4, "sks cup")


def test_pictures_without_a_word_are_refused_with_what_to_do(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"IMG_{number:04d}.jpg").write_bytes(picture(number))
    with pytest.raises(DataError, match=r"4 unusable caption.* one for all: --caption 'my garden'"):
        finished(fit(tmp_path / "in", tmp_path / "out", tiny_bundle).prepare())
    folder = finished(fit(tmp_path / "in", tmp_path / "all", tiny_bundle, caption="my garden").prepare())
    assert folder.common == "my garden"
