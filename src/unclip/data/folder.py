"""A corpus of one's own: a folder of pictures with captions in the ways that others write them."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

from unclip.data import tables
from unclip.data.archives import MEMBER_LIMIT, samples
from unclip.data.build import Input, Progress, build
from unclip.data.outcome import Listing, reasons
from unclip.data.records import STORED_SIZE, Drawing, Fit, LeftOut
from unclip.data.tables import ABOUT, CAPTION, PICTURE, Row, column, first_of, named, read_rows
from unclip.data.texts import LOST, Unreadable, decode, extent, is_text, parse_json, words
from unclip.data.wording import slug
from unclip.errors import DataError, InputError
from unclip.images import SUFFIXES

SOURCE = "folder"
DRAWN = ".svg"
PICTURES = (*SUFFIXES, DRAWN)
SHARDS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TEXTS = (".txt", ".caption", ".captions", ".cap", ".text")  # of captions, a line each
JSON = ".json"
SAYING = (*TEXTS, JSON)  # what a picture shows
NAMELESS = (".img", ".image")  # of pictures in shards, whatever their format
TABLES = ("metadata", "meta_")  # beginnings of the names of files that are nothing but tables
TRIED_ROWS = 10  # of what may be a table: one of them names a picture if it is one
TEXT_LIMIT, SVG_LIMIT = 2**20, 2**25  # bytes of a file
MOST_ROWS = 1000  # of tables, of one picture
MOST_SAID = 2**28  # characters, of all rows: they are held in memory
MOST_ALONE = 10_000  # samples without a picture, behind which an archive without pictures is no stray one
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
NO_UTF8 = "name that is no UTF-8"
VERSION = "3"

Said = tuple[str, Row]  # where it stands, for messages, and what is said of a picture


@dataclass(frozen=True)
class Defaults:
    """The values for pictures of which nothing else is said.

    `language` is that of plain captions; `caption_column` is the one of tables that holds them, "" for the
    first of the usual ones.
    """

    style: str = ""
    licence: str = "unknown"
    author: str = ""
    language: str = "en"
    fit: Fit = Fit.PAD
    caption_column: str = ""


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

    All that is understood is read, in all folders within:
        tables (CSV, JSON lines, JSON, Parquet) that name pictures and say what they show, optionally `tags`,
        `concept`, `style`, `licence`, `author`; Parquet may hold the pictures themselves; webdataset shards,
        plain or compressed, with KEY.png (jpg, webp, ...) and KEY.txt or KEY.json; pictures with a text of
        the same name beside them, one caption a line.

    What cannot be read is no error: it is counted in the card and listed in `out/dropped.jsonl`.

    Raises:
        InputError: `source` is no folder, or `out` lies within it.
        DataError: it holds no captioned picture.
    """
    if not source.is_dir():
        raise InputError(f"no folder {source}: name a folder of captioned pictures")
    if out.resolve() == source.resolve() or source.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies within {source}: choose a folder outside of the pictures")
    with Listing() as left_out:
        yield from build(
            out,
            [Input(SOURCE, lambda: read_folder(source, defaults, left_out), left_out=left_out)],
            size=size,
            workers=workers,
            large=large,
            fingerprint=_fingerprint(source, defaults),
            title=f"Corpus of {_plain(source.resolve().name)}",
        )


def read_folder(
    source: Path, defaults: Defaults = Defaults(), left_out: list[LeftOut] | Listing | None = None
) -> Iterator[Drawing]:
    """Yields the captioned pictures of a folder: those beside texts and of tables by name, then those of
    shards and Parquet.

    Args:
        source: the folder.
        defaults: for what is not said.
        left_out: gets what is left out, and why; without it a row, table or shard that is broken is an error.

    Raises:
        DataError: the folder holds nothing that is understood.
    """
    yield from _Reader(source, defaults, left_out).read()


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
                others.append((_plain(name), kind, ""))
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


class _Reader:
    """The readers of one folder: they share its files, the rows of its tables, and what is left out."""

    def __init__(self, source: Path, defaults: Defaults, left_out: list[LeftOut] | Listing | None) -> None:
        self._source = source
        self._defaults = defaults
        self._strict = left_out is None
        self._left_out = [] if left_out is None else left_out
        self._columns = (column(defaults.caption_column),) if defaults.caption_column else CAPTION
        self._files, others = scan(source)
        self._there = frozenset(self._files)
        self._pictures = [name for name in self._files if _ending(name) in PICTURES]
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
        listed = [name for name in self._files if name not in used and _ending(name) in tables.SUFFIXES]
        stored = [name for name in listed if self._read_table(name)]
        if not (self._pictures or self._rows or shards or stored):
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
                yield from self._drawing(name, self._rows.pop(name), [], partial(self._content, name))
            elif name in texts:
                files = ((text, partial(self._content, text, TEXT_LIMIT)) for text in texts[name])
                yield from self._drawing(name, *self._said(files), partial(self._content, name))
            elif name not in used:
                self._leave_out(name, _passed_over(name))
        for name in shards:
            yield from self._read_shard(name)
        for name in stored:
            yield from self._read_stored(name)

    def _leave_out(self, key: str, reason: str, detail: str = "", fault: bool = False) -> None:
        if fault and self._strict:
            raise DataError(f"{self._source / key}: {detail}")
        self._left_out.append(LeftOut(SOURCE, _plain(key), reason, _plain(detail)))

    def _content(self, name: str, limit: int = MEMBER_LIMIT) -> bytes:
        with (self._source / name).open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > limit:
                raise Unreadable(f"it has {size:,} bytes, more than {limit:,}")
            return file.read(limit)

    def _texts(self) -> dict[str, list[str]]:
        """The files that say what a picture shows: `a.txt` and `a.png.txt` beside `a.png`."""
        beside = defaultdict[str, list[str]](list)
        for name in self._files:
            if _ending(name) in SAYING:
                beside[name[: -len(_ending(name))]].append(name)
        found = {name: [*beside[name], *beside[name[: -len(_ending(name))]]] for name in self._pictures}
        return {
            name: sorted(texts, key=lambda text: SAYING.index(_ending(text))) for name, texts in found.items()
        }

    def _said(
        self, files: Iterable[tuple[str, Callable[[], bytes]]]
    ) -> tuple[list[Said], list[tuple[str, str]]]:
        """A row of the files that say what one picture shows, and (file, what is wrong) of the others."""
        row: Row = {}
        lines: list[str] = []
        read: list[str] = []
        wrong: list[tuple[str, str]] = []
        for name, content in files:
            try:
                if _ending(name) != JSON:
                    lines += [words(line) for line in decode(content()).splitlines()]
                elif isinstance(document := parse_json(content()), dict):
                    row = named(document)
                else:
                    raise Unreadable("it is no JSON object")
                read.append(name)
            except (Unreadable, OSError) as error:
                wrong.append((name, str(error)))
        if any(lines):
            row[self._columns[0]] = lines
        return [(name, row) for name in read[:1]], wrong

    def _drawing(
        self, name: str, said: list[Said], wrong: list[tuple[str, str]], content: Callable[[], bytes]
    ) -> Iterator[Drawing]:
        """The picture, if it has a caption and can be read; what is wrong is said."""
        captions, more = self._captions_of(said, wrong)
        if not captions:
            if wrong:
                self._leave_out(name, "unreadable caption", ": ".join(wrong[0]))
            else:
                self._leave_out(name, "unusable caption", "there is none")
            return
        for place, what in wrong:
            self._leave_out(place, "unreadable caption", what)
        try:
            data = content()
            vector = name.lower().endswith(DRAWN) or data.lstrip().startswith((b"<svg", b"<?xml"))
            if vector and len(data) > SVG_LIMIT:
                raise Unreadable(f"it has {len(data):,} bytes, more than {SVG_LIMIT:,}")
        except (Unreadable, OSError) as error:
            self._leave_out(name, "unreadable file", str(error))
            return
        defaults = self._defaults
        first = captions.get(defaults.language) or next(iter(captions.values()))
        yield Drawing(
            key=name,
            source=SOURCE,
            style=_about(said, "style") or defaults.style,
            concept=_about(said, "concept") or slug(first[0]),
            captions=captions,
            names=tuple(more),
            licence=_about(said, "licence", "license") or defaults.licence,
            author=_about(said, "author") or defaults.author,
            svg=_document(data) if vector else None,
            bitmap=None if vector else data,
            fit=defaults.fit,
        )

    def _captions_of(
        self, said: list[Said], wrong: list[tuple[str, str]]
    ) -> tuple[dict[str, list[str]], list[str]]:
        """(captions by language, further captions in the default language); what is wrong is added."""
        captions: dict[str, list[str]] = {}
        more: list[str] = []
        for place, row in said:
            try:
                given = first_of(row, self._columns)
                tags = _texts(_parted(row.get("tags")))
                if isinstance(given, dict):
                    for language, value in given.items():
                        if words(language) and (texts := _texts(value)):
                            captions.setdefault(words(language), []).extend(texts)
                    continue
                texts = _texts(given)
                if not texts and tags and not self._defaults.caption_column:
                    texts, tags = [", ".join(tags)], []
            except Unreadable as error:
                wrong.append((place, str(error)))
                continue
            if texts and self._defaults.language not in captions:
                captions[self._defaults.language] = [texts.pop(0), *tags]
            more += texts
        named_so = captions.get(self._defaults.language, [""])[0]
        return captions, [text for text in dict.fromkeys(more) if text != named_so]

    # --- tables ---

    def _read_table(self, name: str) -> bool:
        """Adds the rows of a table to those of its pictures; True where it holds the pictures itself."""
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
            rows = read_rows(self._source / name, self._columns, fault)
            first = list(islice(rows, TRIED_ROWS))
            if any(_stored(row) is not None for _, row in first):
                return True
            if any(ADDRESS.match(str(first_of(row, PICTURE))) for _, row in first):
                raise DataError("it names pictures by their addresses: fetch them first, as img2dataset does")
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
            if _ending(name) in TEXTS:
                self._leave_out(name, "text without a picture")
            else:
                self._leave_out(name, "table that cannot be used", str(error), fault=sure)
        return False

    def _add_row(self, place: str, row: Row, picture: str, wrong: str) -> None:
        """Adds a row to those of its picture, without the column that names it."""
        if not picture:
            self._leave_out(place, "row without a picture", wrong, fault=True)
            return
        if len(self._rows[picture]) == MOST_ROWS:
            self._leave_out(place, "row beyond those that are read", f"{picture} has {MOST_ROWS:,} before it")
            return
        said = {name: row[name] for name in (*self._columns, *ABOUT) if name in row}
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
            for number, (place, row) in enumerate(read_rows(self._source / name, self._columns, fault)):
                key = f"{os.path.splitext(name)[0]}/{number:08d}"
                if (content := _stored(row)) is None:
                    self._leave_out(key, "row without a picture")
                else:
                    yield from self._drawing(key, [(f"{name}, {place}", row)], [], partial(bytes, content))
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
                found = [ending for ending in sample if _ending(f"a{ending}") in (*PICTURES, *NAMELESS)]
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
                texts = [ending for ending in sample if _ending(f"a{ending}") in SAYING]
                chosen = min(found, key=lambda ending: (not _alike(ending, texts), ending.count(".")))
                texts = sorted(
                    _alike(chosen, texts) or texts, key=lambda text: SAYING.index(_ending(f"a{text}"))
                )
                for other in found:
                    if other != chosen:
                        self._leave_out(f"{stem}/{key}{other}", "second picture of a sample")
                files = ((f"{stem}/{key}{ending}", partial(bytes, sample[ending])) for ending in texts)
                said, wrong = self._said(files)
                yield from self._drawing(f"{stem}/{key}{chosen}", said, wrong, partial(bytes, sample[chosen]))
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
    ending = _ending(file)
    if ending in SAYING:
        return TEXT_LIMIT
    return SVG_LIMIT if ending == DRAWN else MEMBER_LIMIT if ending in (*PICTURES, *NAMELESS) else 0


def _alike(ending: str, others: Iterable[str]) -> list[str]:
    """Those of other endings that are the same but for the last part: `.0.txt` for `.0.jpg`."""
    return [other for other in others if other.rpartition(".")[0] == ending.rpartition(".")[0]]


def _stored(row: Row) -> bytes | None:
    """The bytes of the picture that a row holds, if it holds one."""
    value = first_of(row, PICTURE)
    if isinstance(value, dict):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


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
    ending = _ending(name)
    return "text without a picture" if ending in TEXTS else f"{ending or 'nameless'} file, not read"


def _plain(text: str) -> str:
    """Text that can be written as UTF-8: in a name that is none, its bytes as `\\xff`."""
    # Python has the byte ff of a name as the surrogate dcff
    return text.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")


def _parted(tags: object) -> object:
    return tags.split(",") if isinstance(tags, str) else tags


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for one in values if (text := words(one))]


def _about(said: list[Said], *columns: str) -> str:
    """The first value of these columns that can be read."""
    for _, row in said:
        with suppress(Unreadable):
            if text := words(first_of(row, columns)):
                return text
    return ""


def _document(content: bytes) -> str:
    """An SVG document; what is in no encoding that is read still has its shapes, which are ASCII."""
    text = decode(content)
    return content.decode("latin-1") if LOST in text else text


def _fingerprint(source: Path, defaults: Defaults) -> str:
    digest = hashlib.blake2b(f"{VERSION}\0{defaults}".encode(), digest_size=16)
    files, others = scan(source)
    for name in files:
        with suppress(OSError):
            stat = (source / name).stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    digest.update(repr(others).encode())
    return digest.hexdigest()
