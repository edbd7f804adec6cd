"""A corpus of one's own: a folder of pictures with captions in the ways that others write them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unclip.data.archives import samples
from unclip.data.build import Input, Progress, build
from unclip.data.records import STORED_SIZE, Drawing, Fit
from unclip.data.wording import slug
from unclip.errors import DataError, InputError
from unclip.images import SUFFIXES

DRAWN = ".svg"
TABLES = ("metadata.jsonl", "metadata.csv")
CAPTION_FIELDS = ("text", "caption", "captions")
VERSION = "1"


@dataclass(frozen=True)
class Defaults:
    """The values for pictures of which nothing else is said. `language` is that of plain captions."""

    style: str = ""
    licence: str = "unknown"
    author: str = ""
    language: str = "en"
    fit: Fit = Fit.PAD


def build_folder(
    source: Path,
    out: Path,
    *,
    defaults: Defaults = Defaults(),
    size: int = STORED_SIZE,
    workers: int = 1,
    large: int = 0,
) -> Iterator[Progress]:
    """Builds a corpus in `out` from captioned pictures in `source`, yielding its progress.

    Understood, in this order:
        `metadata.jsonl` or `metadata.csv` with `file_name` and `text` (or `caption`, or in JSON lines
        `captions` by language), optionally `tags`, `concept`, `style`, `licence`, `author`; webdataset
        shards: `*.tar` with KEY.png (jpg, webp) and KEY.txt or KEY.json; pictures with a `.txt` of the
        same name beside them, one caption a line.

    Raises:
        InputError: `source` is no folder, or `out` lies within it.
        DataError: it holds no captioned picture, or a table or shard is broken.
    """
    if not source.is_dir():
        raise InputError(f"no folder {source}: name a folder of captioned pictures")
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies within {source}: choose a folder outside of the pictures")
    yield from build(
        out,
        [Input("folder", lambda: read_folder(source, defaults))],
        size=size,
        workers=workers,
        large=large,
        fingerprint=_fingerprint(source, defaults),
        title=f"Corpus of {source.resolve().name}",
    )


def read_folder(source: Path, defaults: Defaults = Defaults()) -> Iterator[Drawing]:
    """Yields the pictures of a folder, in the order of their names."""
    tables = [source / name for name in TABLES if (source / name).is_file()]
    shards = sorted(source.glob("*.tar"))
    if tables:
        return _read_table(source, tables[0], defaults)
    if shards:
        return _read_shards(shards, defaults)
    return _read_pairs(source, defaults)


def _read_table(source: Path, table: Path, defaults: Defaults) -> Iterator[Drawing]:
    for number, row in enumerate(_rows(table), 1):
        name = row.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{table}, row {number}: no file_name; each row needs one, and a text")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{table}, row {number}: {name!r} lies outside of the folder")
        if not (source / path).is_file():
            raise DataError(f"{table}, row {number}: there is no picture {name}")
        yield _drawing(str(path), (source / path).read_bytes(), row, defaults)


def _rows(table: Path) -> Iterator[dict[str, Any]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        if table.suffix == ".csv":
            yield from csv.DictReader(file)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{table}, line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{table}, line {number} is no JSON object")
            yield row


def _read_shards(shards: list[Path], defaults: Defaults) -> Iterator[Drawing]:
    for shard in shards:
        for key, sample in samples(shard, lambda name: True):
            picture = next((ending for ending in (*SUFFIXES, DRAWN) if ending in sample), None)
            if picture is None:
                continue
            try:
                row = json.loads(sample.get(".json", b"{}"))
                if ".txt" in sample:
                    row["text"] = sample[".txt"].decode("utf-8").splitlines()
            except ValueError as error:
                raise DataError(f"{shard}: the caption of {key} cannot be read: {error}") from error
            yield _drawing(f"{shard.stem}/{key}{picture}", sample[picture], row, defaults)


def _read_pairs(source: Path, defaults: Defaults) -> Iterator[Drawing]:
    found = False
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in (*SUFFIXES, DRAWN) and path.is_file():
            found = True
            text = path.with_suffix(".txt")
            lines = (
                text.read_text(encoding="utf-8-sig", errors="replace").splitlines() if text.is_file() else []
            )
            yield _drawing(path.relative_to(source).as_posix(), path.read_bytes(), {"text": lines}, defaults)
    if not found:
        raise DataError(
            f"{source} holds no pictures ({', '.join(SUFFIXES)}), no {' or '.join(TABLES)} "
            "and no webdataset shards (*.tar)"
        )


def _drawing(name: str, content: bytes, row: dict[str, Any], defaults: Defaults) -> Drawing:
    captions, more = _captions(row, defaults.language)
    first = captions.get(defaults.language) or next(iter(captions.values()), [""])
    style = str(row.get("style") or defaults.style)
    vector = name.lower().endswith(DRAWN)
    return Drawing(
        key=name,
        source="folder",
        style=style,
        concept=str(row.get("concept") or slug(first[0])),
        captions=captions,
        names=tuple(more),
        licence=str(row.get("licence") or row.get("license") or defaults.licence),
        author=str(row.get("author") or defaults.author),
        svg=content.decode("utf-8", errors="replace") if vector else None,
        bitmap=None if vector else content,
        fit=defaults.fit,
    )


def _captions(row: dict[str, Any], language: str) -> tuple[dict[str, list[str]], list[str]]:
    """(captions by language, further captions in the default language)."""
    given = next((row[name] for name in CAPTION_FIELDS if row.get(name)), None)
    if isinstance(given, dict):
        by_language = {str(key): _texts(value) for key, value in given.items()}
        return {key: texts for key, texts in by_language.items() if texts}, []
    texts = _texts(given)
    if not texts:
        return {}, []
    return {language: [texts[0], *_texts(row.get("tags"))]}, texts[1:]


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [text for one in values if (text := " ".join(str(one).split()))]


def _fingerprint(source: Path, defaults: Defaults) -> str:
    digest = hashlib.blake2b(f"{VERSION}\0{defaults}".encode(), digest_size=16)
    for path in sorted(source.rglob("*")):
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path.relative_to(source)}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()
