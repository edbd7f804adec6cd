"""Pictures with a class each, to measure classifiers on: class folders, webdataset shards, Parquet.

The lists of classes of ImageNet and its relatives are not part of this package. A file of names, as it comes
with those data sets (`LOC_synset_mapping.txt`, `imagenet_class_index.json`), says what their classes are
called; a layout by name says how many there must be and what their folders are called, so that a mistake is
noticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unclip.data.archives import MEMBER_LIMIT, samples
from unclip.data.texts import parse_json
from unclip.data.wording import plain_words
from unclip.errors import DataError, InputError
from unclip.images import SUFFIXES

SYNSET = re.compile(r"n\d{8}")  # WordNet's number of a noun, what ImageNet's folders are called
PICTURE_COLUMNS = ("image", "img", "picture", "png", "jpg", "jpeg", "webp")
LABEL_COLUMNS = ("label", "fine_label", "class", "cls", "target")
LABEL_FILES = (".cls", ".txt", ".json")
CLASS_NAMES = "classnames.txt"  # beside shards: one name a line, in the order of the numbers
PARQUET_ROWS = 64  # read at once

Content = Path | bytes


@dataclass(frozen=True)
class Layout:
    """The form of a data set on disk: how many classes it has and what they are called there."""

    classes: int
    key: re.Pattern[str]
    example: str


LAYOUTS: dict[str, Layout] = {
    "imagenet": Layout(1000, SYNSET, "n01440764"),
    "imagenet-v2": Layout(1000, re.compile(r"\d{1,3}"), "0 to 999, in the order of the synsets"),
    "imagenet-sketch": Layout(1000, SYNSET, "n01440764"),
    "imagenet-r": Layout(200, SYNSET, "n01443537"),
    "imagenet-a": Layout(200, SYNSET, "n01498041"),
    "objectnet": Layout(313, re.compile(r"[a-z].*"), "air_freshener"),
}


@dataclass(frozen=True)
class Labelled:
    """Pictures with their classes.

    Attributes:
        keys: what the classes are called on disk, numbers in their order and all else by the alphabet.
        count: of pictures; None where that is only known after reading them.
        known: names that came with the pictures, by key.
        read: gives all pictures, as a file or its bytes, with the place of their class in `keys`.
    """

    keys: tuple[str, ...]
    count: int | None
    known: Mapping[str, str]
    read: Callable[[], Iterator[tuple[Content, int]]]


def open_labelled(source: Path) -> Labelled:
    """Pictures of a folder `class/picture.png`, of shards (*.tar) or tables (*.parquet), files or a folder.

    Shards are webdataset's: KEY.jpg (png, webp) and KEY.cls, KEY.txt or a `label` in KEY.json. A table has a
    column `image` (bytes, or a structure with bytes) and a column `label`.

    Raises:
        InputError: there is no such file or folder.
        DataError: it holds no labelled pictures.
    """
    if not source.exists():
        raise InputError(f"no such file or folder: {source}")
    inside = [source] if source.is_file() else sorted(source.iterdir())
    tables = [path for path in inside if path.suffix == ".parquet"]
    shards = [path for path in inside if path.suffix == ".tar"]
    if tables:
        return _tables(tables)
    if shards:
        return _shards(shards)
    if source.is_dir():
        return _folders(source)
    raise DataError(f"{source} is neither a folder, nor a webdataset shard (.tar), nor a table (.parquet)")


def read_names(path: Path) -> dict[str, str]:
    """Names of classes by their key: the first where several are given.

    Understood: lines of a key (a synset, a number, or anything that a tab ends) and its names; lines of names
    alone, whose keys are 0, 1, ...; JSON of key to name, or of key to a list of synset and name, which then
    stands for both.

    Raises:
        InputError: the file cannot be read or holds none of this.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read names of classes from {path}: {error}") from error
    if path.suffix == ".json":
        return _names_of_json(path, text)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{path} holds no names of classes")
    parts = [re.fullmatch(r"([^\t]+)\t\s*(.+)|(n\d{8}|\d+)[ :]\s*(.+)", line.strip()) for line in lines]
    if not all(parts):
        return {str(index): _first(line) for index, line in enumerate(lines)}
    return {(part[1] or part[3]).strip(): _first(part[2] or part[4]) for part in parts if part}


def class_names(pictures: Labelled, names: Mapping[str, str] | None) -> dict[int, str]:
    """The name of each class, by its place in `keys`; classes that `names` does not have are left out.

    Without `names`, those that came with the pictures, or else the words of the keys. Numbers are looked up
    as such, or as the place of a synset among all of them in order.

    Raises:
        InputError: the keys are synsets or numbers and there are no names, or names for none of them.
    """
    known = dict(names) if names is not None else dict(pictures.known)
    numbered = all(key.isdigit() for key in pictures.keys)
    if not known:
        if numbered or all(SYNSET.fullmatch(key) for key in pictures.keys):
            raise InputError(
                f"the classes are called {pictures.keys[0]}, ...: give their names by a file, such as "
                "LOC_synset_mapping.txt or imagenet_class_index.json of ImageNet"
            )
        return {place: plain_words(key) or key for place, key in enumerate(pictures.keys)}
    synsets = sorted(key for key in known if SYNSET.fullmatch(key))
    if numbered and synsets and not any(key in known for key in pictures.keys):
        known = {str(number): known[synset] for number, synset in enumerate(synsets)}
    found = {place: known[key] for place, key in enumerate(pictures.keys) if key in known}
    if not found:
        raise InputError(
            f"no names for the classes {', '.join(pictures.keys[:3])}, ...: the file has "
            f"{', '.join(list(known)[:3])}, ..."
        )
    return found


def check_layout(pictures: Labelled, layout: str) -> None:
    """Raises InputError for an unknown layout, or where classes are not as many or not called as it says."""
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: choose {', '.join(LAYOUTS)}")
    wanted = LAYOUTS[layout]
    wrong = [key for key in pictures.keys if not wanted.key.fullmatch(key)]
    if wrong or len(pictures.keys) != wanted.classes:
        found = f"{len(pictures.keys)} classes" + (f", one of which is called {wrong[0]!r}" if wrong else "")
        raise InputError(f"{layout} has {wanted.classes} classes called {wanted.example}; here are {found}")


def _folders(source: Path) -> Labelled:
    keys = _ordered(path.name for path in source.iterdir() if path.is_dir() and path.name[0] != ".")
    files = [
        (path, place)
        for place, key in enumerate(keys)
        for path in sorted((source / key).rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not files:
        raise DataError(
            f"{source} holds no pictures in folders of classes, no shards (*.tar) and no tables (*.parquet)"
        )
    return Labelled(keys, len(files), {}, lambda: iter(files))


def _shards(shards: list[Path]) -> Labelled:
    labels = [label for shard in shards for _, label in _samples(shard)]
    if not labels:
        raise DataError(
            f"{shards[0]} and its like hold no pictures with {', '.join(LABEL_FILES)} beside them"
        )
    keys = _ordered(labels)
    places = {key: place for place, key in enumerate(keys)}
    listed = shards[0].with_name(CLASS_NAMES)
    known = read_names(listed) if listed.is_file() else {}

    def read() -> Iterator[tuple[Content, int]]:
        for shard in shards:
            for content, label in _samples(shard):
                yield content, places[label]

    return Labelled(keys, len(labels), known, read)


def _samples(shard: Path) -> Iterator[tuple[bytes, str]]:
    """(picture, label) of each sample that has both."""
    wanted = (*SUFFIXES, *LABEL_FILES)
    for key, sample in samples(shard, lambda name: MEMBER_LIMIT if name.lower().endswith(wanted) else 0):
        pictures = [content for ending, content in sample.items() if ending in SUFFIXES]
        said = (
            _label(shard, f"{key}{ending}", content)
            for ending, content in sample.items()
            if ending.endswith(LABEL_FILES)
        )
        label = next((label for label in said if label is not None), None)
        if pictures and label is not None:
            yield pictures[-1], label


def _label(shard: Path, name: str, data: bytes) -> str | None:
    try:
        if not name.endswith(".json"):
            return data.decode("utf-8").strip()
        row = parse_json(data)
        return next((str(row[column]) for column in LABEL_COLUMNS if column in row), None)
    except (ValueError, TypeError) as error:
        raise DataError(f"{shard}: the label {name} cannot be read: {error}") from error


def _tables(tables: list[Path]) -> Labelled:
    with _readable(tables[0]):
        schema = pq.read_schema(tables[0])
    picture = next((name for name in PICTURE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if picture is None or label is None:
        raise DataError(
            f"{tables[0]} has the columns {', '.join(schema.names)}: it needs one of "
            f"{', '.join(PICTURE_COLUMNS)} and one of {', '.join(LABEL_COLUMNS)}"
        )
    labels: list[str] = []
    for table in tables:
        with _readable(table):
            labels += map(str, pq.read_table(table, columns=[label])[label].to_pylist())
    keys = _ordered(labels)
    places = {key: place for place, key in enumerate(keys)}

    def read() -> Iterator[tuple[Content, int]]:
        for table in tables:
            with _readable(table):
                for batch in pq.ParquetFile(table).iter_batches(PARQUET_ROWS, columns=[picture, label]):
                    for row in batch.to_pylist():
                        value = row[picture]
                        content = value.get("bytes") if isinstance(value, dict) else value
                        if not isinstance(content, bytes):
                            raise DataError(f"{table}: the column {picture} holds no bytes of pictures")
                        yield content, places[str(row[label])]

    return Labelled(keys, len(labels), _names_of_schema(schema, label), read)


@contextmanager
def _readable(table: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{table} cannot be read: {error}") from error


def _names_of_schema(schema: Any, label: str) -> dict[str, str]:
    """Names that the `datasets` library writes into a table's metadata."""
    try:
        info = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = info["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {str(number): str(name) for number, name in enumerate(names)}


def _names_of_json(path: Path, text: str) -> dict[str, str]:
    try:
        rows = parse_json(text)
        found: dict[str, str] = {}
        for key, value in rows.items() if isinstance(rows, dict) else enumerate(rows):
            if isinstance(value, list):
                found[str(value[0])] = plain_words(str(value[1]))
                value = plain_words(str(value[1]))
            found[str(key)] = _first(str(value))
        return found
    except (ValueError, IndexError, AttributeError) as error:
        raise InputError(f"cannot read names of classes from {path}: {error}") from error


def _first(names: str) -> str:
    return names.split(",")[0].strip()


def _ordered(keys: Any) -> tuple[str, ...]:
    """Different keys: numbers in their order if all are, else by the alphabet."""
    found = set(keys)
    return tuple(sorted(found, key=int) if found and all(key.isdigit() for key in found) else sorted(found))
