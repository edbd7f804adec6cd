"""A corpus of one's own: a folder of pictures with captions in the ways that others write them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TypeVar

from unclip.data import tables
from unclip.data.archives import MEMBER_LIMIT, samples
from unclip.data.described import DRAWN, JSON, SOURCE, SVG_LIMIT, USUAL, Defaults, Describer, Said, ending_of
from unclip.data.outcome import LeftOuts, reasons
from unclip.data.records import Drawing, LeftOut
from unclip.data.tables import ABOUT, PICTURE, Row, first_of, read_rows
from unclip.data.texts import Unreadable, extent, is_text, shown_name
from unclip.errors import DataError
from unclip.images import SUFFIXES

PICTURES = (*SUFFIXES, DRAWN)
SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TEXTS = (".txt", ".caption", ".captions", ".cap", ".text")  # of captions, a line each
SAYING = (*TEXTS, JSON)  # what a picture shows
NAMELESS = (".img", ".image")  # of pictures in shards, whatever their format
TABLES = ("metadata", "meta_")  # beginnings of the names of files that are nothing but tables
# what `datasets` writes beside a data set's rows
OF_DATASETS = ("dataset_info.json", "state.json", "dataset_dict.json")
TRIED_ROWS = 10  # of what may be a table: one of them names a picture if it is one
TEXT_LIMIT = 2**20  # bytes of a file
MOST_ROWS = 1000  # of tables, of one picture
MOST_SAID = 2**28  # characters, of all rows: they are held in memory
MOST_ALONE = 10_000  # samples without a picture, behind which an archive without pictures is no stray one
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
NO_UTF8 = "name that is no UTF-8"

T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """A picture from its address: its bytes, or the reason why there are none and more of it."""

    content: bytes | None
    reason: str = ""
    detail: str = ""


class Fetch(Protocol):
    """Fetches pictures by their addresses, and yields them in their order with what came beside each."""

    def __call__(self, name: str, wanted: Iterable[tuple[str, T]]) -> Iterator[tuple[T, Fetched]]: ...


def read_folder(
    source: Path,
    defaults: Defaults = USUAL,
    left_out: LeftOuts | None = None,
    *,
    fetch: Fetch | None = None,
    captioned: bool = True,
) -> Iterator[Drawing]:
    """Yields the captioned pictures of a folder: those beside texts and of tables by name, then those of
    shards, Parquet and Arrow, then those of addresses.

    Args:
        source: the folder, or one table or shard; a table is read with the pictures in its folder.
        defaults: for what is not said.
        left_out: gets what is left out, and why; without it a row, table or shard that is broken is an error.
        fetch: fetches pictures that tables name by their addresses; without it such a table cannot be used.
        captioned: leaves pictures out of which nothing is said.

    Raises:
        DataError: the folder holds nothing that is understood.
    """
    yield from _Reader(source, defaults, left_out, fetch, captioned).read()


def listed_files(source: Path) -> tuple[list[str], list[tuple[str, str, str]]]:
    """As `scan`, also of a source that is one file: the file, and for a table the pictures beside it."""
    if source.is_dir():
        return scan(source)
    if source.name.lower().endswith((*SHARDS, tables.PARQUET, tables.ARROW)):
        return [source.name], []
    files, _ = scan(source.parent)
    return [name for name in files if name == source.name or ending_of(name) in PICTURES], []


def scan(source: Path) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Looks through a folder and those within; links to folders are not followed.

    Returns:
        The plain files, relative, in order of their names; and (name, reason, detail) of what else there is.
    """
    files: list[str] = []
    others: list[tuple[str, str, str]] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(source / folder))
        except OSError as error:
            others.append((folder or ".", "unreadable folder", error.strerror or ""))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            kind = _kind(entry) if is_text(name) else NO_UTF8
            if kind == "folder":
                folders.append(name)
            elif kind == "file":
                files.append(name)
            else:
                others.append((shown_name(name), kind, ""))
    files.sort(key=lambda name: name.split("/"))
    return files, sorted(others)


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "linked folder, not followed" if entry.is_symlink() else "folder"
        if entry.is_file():
            return "file"
        return "broken link" if entry.is_symlink() else "pipe, socket or device"
    except OSError:  # a link to itself, or to where nobody may look
        return "broken link"


class _Kind(Enum):
    """The ways in which tables have pictures."""

    FILES = auto()
    STORED = auto()
    ADDRESSES = auto()


class _Reader:
    """The readers of one folder: they share its files, the rows of its tables, and what is left out."""

    def __init__(
        self,
        source: Path,
        defaults: Defaults,
        left_out: LeftOuts | None,
        fetch: Fetch | None,
        captioned: bool,
    ) -> None:
        self._source = source if source.is_dir() else source.parent
        self._alone = "" if source.is_dir() else source.name  # the file that is read, and no other
        self._fetch = fetch
        self._strict = left_out is None
        self._left_out = [] if left_out is None else left_out
        self._describer = Describer(defaults, self._leave_out, captioned)
        self._files, others = listed_files(source)
        self._there = frozenset(self._files)
        self._pictures = [name for name in self._files if ending_of(name) in PICTURES]
        self._called = _unique((key, name) for name in self._pictures for key in _names(name))
        self._rows = defaultdict[str, list[Said]](list)  # of tables, by picture
        self._room = MOST_SAID
        for name, reason, detail in others:
            self._leave_out(name, reason, detail)

    def read(self) -> Iterator[Drawing]:
        shards = [name for name in self._files if name.lower().endswith(SHARDS)]
        texts = self._texts()
        beside = {text for own in texts.values() for text in own}
        used = {*self._pictures, *shards, *beside}
        listed = [
            name
            for name in self._files
            if name not in used
            and ending_of(name) in tables.SUFFIXES
            and os.path.basename(name) not in OF_DATASETS
        ]
        kinds = {name: self._read_table(name) for name in listed}
        stored = [name for name in listed if kinds[name] is _Kind.STORED]
        addresses = [name for name in listed if kinds[name] is _Kind.ADDRESSES]
        if not (self._pictures or self._rows or shards or stored or addresses):
            told = "; ".join(reasons(self._left_out)) or "it is empty"
            raise DataError(
                f"{self._source} holds no pictures ({', '.join(PICTURES)}), tables or shards: {told}"
            )
        used |= {*listed}
        alone = texts.keys() - self._rows.keys()
        for text in sorted(beside - {text for name in alone for text in texts[name]}):
            self._leave_out(text, "text of a picture that has a row in a table")
        for name in self._files:
            if name in self._rows:
                yield from self._describer.drawing(
                    name, self._rows.pop(name), [], partial(self._content, name)
                )
            elif self._alone:
                continue
            elif name in texts:
                files = ((text, partial(self._content, text, TEXT_LIMIT)) for text in texts[name])
                yield from self._describer.drawing(
                    name, *self._describer.said(files), partial(self._content, name)
                )
            elif name not in used:
                self._leave_out(name, _passed_over(name))
        for name in shards:
            yield from self._read_shard(name)
        for name in stored:
            yield from self._read_stored(name)
        for name in addresses:
            yield from self._read_addresses(name)

    def _leave_out(self, key: str, reason: str, detail: str = "", fault: bool = False) -> None:
        if fault and self._strict:
            raise DataError(f"{self._source / key}: {detail}")
        self._left_out.append(LeftOut(SOURCE, shown_name(key), reason, shown_name(detail)))

    def _content(self, name: str, limit: int = MEMBER_LIMIT) -> bytes:
        with (self._source / name).open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > limit:
                raise Unreadable(f"it has {size:,} bytes, more than {limit:,}")
            return file.read(limit)

    def _texts(self) -> dict[str, list[str]]:
        """The files that say what a picture shows: `a.txt` and `a.png.txt` beside `a.png`."""
        beside = defaultdict[str, list[str]](list)
        for name in self._files:
            if ending_of(name) in SAYING:
                beside[name[: -len(ending_of(name))]].append(name)
        found = {name: [*beside[name], *beside[name[: -len(ending_of(name))]]] for name in self._pictures}
        return {
            name: sorted(texts, key=lambda text: SAYING.index(ending_of(text)))
            for name, texts in found.items()
        }

    # --- tables ---

    def _read_table(self, name: str) -> _Kind:
        """Adds the rows of a table to those of its pictures, where it names files."""
        sure = os.path.basename(name).lower().startswith(TABLES)

        faults: list[tuple[str, str]] = []  # of rows that were read before it is known to be a table

        def fault(place: str, what: str) -> None:
            if sure:
                self._leave_out(f"{name}, {place}", "unreadable row", what, fault=True)
            elif len(faults) == TRIED_ROWS:
                raise DataError(": ".join(faults[0]))
            else:
                faults.append((place, what))

        try:
            rows = read_rows(self._source / name, self._describer.columns, fault)
            first = list(islice(rows, TRIED_ROWS))
            if any(_stored(row) is not None for _, row in first):
                return _Kind.STORED
            if any(_address(row) for _, row in first):
                if any(f"{os.path.splitext(name)[0]}{shard}" in self._there for shard in SHARDS):
                    raise DataError("it lists the addresses of a shard's pictures: the shard is read")
                if self._fetch is None:
                    raise DataError(
                        "it names pictures by their addresses: `unclip data prepare --fetch` fetches them"
                    )
                return _Kind.ADDRESSES
            if not sure and not any(self._find(name, row)[0] for _, row in first):
                wrong = (
                    ": ".join(faults[0])
                    if faults
                    else "none of its first rows names a picture of this folder"
                )
                raise DataError(wrong)
            sure = True
            for place, what in faults:
                fault(place, what)
            for place, row in chain(first, rows):
                self._add_row(f"{name}, {place}", row, *self._find(name, row))
        except DataError as error:
            if ending_of(name) in TEXTS:
                self._leave_out(name, "text without a picture")
            else:
                self._leave_out(name, "table that cannot be used", str(error), fault=sure)
        return _Kind.FILES

    def _add_row(self, place: str, row: Row, picture: str, wrong: str) -> None:
        """Adds a row to those of its picture, without the column that names it."""
        if not picture:
            self._leave_out(place, "row without a picture", wrong, fault=True)
            return
        if len(self._rows[picture]) == MOST_ROWS:
            self._leave_out(place, "row beyond those that are read", f"{picture} has {MOST_ROWS:,} before it")
            return
        said = {name: row[name] for name in (*self._describer.columns, *ABOUT) if name in row}
        self._room -= extent(said)
        if self._room < 0:
            raise DataError(f"the tables of a folder say more than {MOST_SAID:,} characters: write shards")
        self._rows[picture].append((place, said))

    def _find(self, table: str, row: Row) -> tuple[str, str]:
        """The picture that a row of a table names; "" and what is wrong where it names none."""
        value = first_of(row, PICTURE)
        if isinstance(value, dict):  # of the `datasets` library, without bytes
            value = value.get("path")
        if not isinstance(value, str | int):
            return "", "no file_name; each row needs one, and a text"
        given = str(value).strip().replace("\\", "/")
        if given.startswith("/"):
            given = os.path.relpath(given, self._source.resolve())
            places = [os.path.normpath(given)]
        else:
            places = [
                os.path.normpath(os.path.join(folder, given)) for folder in (os.path.dirname(table), "")
            ]
        if all(place.split("/")[0] == ".." for place in places):
            return "", f"{value!r} lies outside of the folder"
        found = [place for place in places if place in self._there]
        called = self._called.get(given) if "/" not in given else None
        picture = found[0] if found else called or ""
        return picture, "" if picture else f"there is no picture {value}"

    def _read_stored(self, name: str) -> Iterator[Drawing]:
        """The pictures of a table that holds them."""

        def fault(place: str, what: str) -> None:
            self._leave_out(f"{name}, {place}", "unreadable row", what, fault=True)

        try:
            for number, (place, row) in enumerate(
                read_rows(self._source / name, self._describer.columns, fault)
            ):
                key = f"{os.path.splitext(name)[0]}/{number:08d}"
                if (content := _stored(row)) is None:
                    self._leave_out(key, "row without a picture")
                else:
                    yield from self._describer.drawing(
                        key, [(f"{name}, {place}", row)], [], partial(bytes, content)
                    )
        except DataError as error:
            self._leave_out(name, "table that cannot be used", str(error), fault=True)

    def _read_addresses(self, name: str) -> Iterator[Drawing]:
        """The pictures of a table that names their addresses."""
        assert self._fetch is not None  # `_read_table` asks

        def fault(place: str, what: str) -> None:
            self._leave_out(f"{name}, {place}", "unreadable row", what, fault=True)

        def wanted() -> Iterator[tuple[str, tuple[str, Said]]]:
            rows = read_rows(self._source / name, self._describer.columns, fault)
            for number, (place, row) in enumerate(rows):
                key = f"{os.path.splitext(name)[0]}/{number:08d}"
                if address := _address(row):
                    yield address, (key, (f"{name}, {place}", row))
                else:
                    self._leave_out(key, "row without a picture", "it has no address")

        try:
            for (key, said), fetched in self._fetch(name, wanted()):
                if fetched.content is None:
                    self._leave_out(key, fetched.reason, fetched.detail)
                else:
                    content = partial(bytes, fetched.content)
                    yield from self._describer.drawing(key, [said], [], content)
        except DataError as error:
            self._leave_out(name, "table that cannot be used", str(error), fault=True)

    # --- shards ---

    def _read_shard(self, name: str) -> Iterator[Drawing]:
        stem = re.sub(r"\.t[^/]*$", "", name)  # without .tar.gz
        alone: list[str] = []  # samples without a picture
        pictures = 0

        def leave_out(file: str, why: str) -> None:
            self._leave_out(f"{stem}/{file}", "unreadable file", why)

        try:
            for key, sample in samples(self._source / name, _most, leave_out):
                if not is_text(key):
                    self._leave_out(f"{stem}/{key}", NO_UTF8)
                    continue
                found = [ending for ending in sample if ending_of(f"a{ending}") in (*PICTURES, *NAMELESS)]
                if not found:
                    alone.append(f"{stem}/{key}")
                else:
                    pictures += 1
                if pictures or len(alone) > MOST_ALONE:
                    for other in alone:
                        self._leave_out(other, "sample without a picture")
                    alone = []
                if not found:
                    continue
                texts = [ending for ending in sample if ending_of(f"a{ending}") in SAYING]
                chosen = min(found, key=lambda ending: (not _alike(ending, texts), ending.count(".")))
                texts = sorted(
                    _alike(chosen, texts) or texts, key=lambda text: SAYING.index(ending_of(f"a{text}"))
                )
                for other in found:
                    if other != chosen:
                        self._leave_out(f"{stem}/{key}{other}", "second picture of a sample")
                files = ((f"{stem}/{key}{ending}", partial(bytes, sample[ending])) for ending in texts)
                said, wrong = self._describer.said(files)
                yield from self._describer.drawing(
                    f"{stem}/{key}{chosen}", said, wrong, partial(bytes, sample[chosen])
                )
        except DataError as error:
            self._leave_out(name, "shard that cannot be read to its end", str(error), fault=True)
        else:
            if not pictures:
                self._leave_out(name, "archive without pictures")
                alone = []
        for key in alone:
            self._leave_out(key, "sample without a picture")


def _most(file: str) -> int:
    """The bytes that a file in a shard may have; of what is not read, none."""
    ending = ending_of(file)
    if ending in SAYING:
        return TEXT_LIMIT
    return SVG_LIMIT if ending == DRAWN else MEMBER_LIMIT if ending in (*PICTURES, *NAMELESS) else 0


def _alike(ending: str, others: Iterable[str]) -> list[str]:
    """Those of other endings that are the same but for the last part: `.0.txt` for `.0.jpg`."""
    return [other for other in others if other.rpartition(".")[0] == ending.rpartition(".")[0]]


def _address(row: Row) -> str:
    """The address of the picture that a row names; empty if it names none."""
    value = first_of(row, PICTURE)
    return value.strip() if isinstance(value, str) and ADDRESS.match(value.strip()) else ""


def _stored(row: Row) -> bytes | None:
    """The bytes of the picture that a row holds, if it holds one."""
    value = first_of(row, PICTURE)
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _names(name: str) -> tuple[str, str]:
    """The names of a picture without its folder: its file, with and without its ending."""
    file = os.path.basename(name)
    return file, os.path.splitext(file)[0]


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Values by key, without those keys that have several."""
    found: dict[str, str] = {}
    for key, value in pairs:
        found[key] = value if found.get(key, value) == value else ""
    return found


def _passed_over(name: str) -> str:
    if os.path.basename(name) in OF_DATASETS:
        return "file of the datasets library, not read"
    ending = ending_of(name)
    return "text without a picture" if ending in TEXTS else f"{ending or 'nameless'} file, not read"
