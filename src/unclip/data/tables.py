"""Tables of captions as others write them: CSV, JSON lines, JSON (kohya's and COCO's too) and Parquet.

A row is a dictionary by names of columns in lower case with `_` between words. `PICTURE` and `CAPTION` are
those that name a picture's file and that say what it shows.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from unclip.data.texts import Unreadable, encoding, extent, parse_json
from unclip.errors import DataError, listed
from unclip.processes import Contained, Died, NotStarted

PICTURE = (
    *("file_name", "filename", "filepath", "file_path", "file", "path", "image_path", "image_file"),
    *("image_name", "img_path", "image", "img", "picture", "image_bytes", "jpg", "jpeg", "png", "webp"),
    *("image_url", "url"),
)  # fmt: skip
CAPTION = (
    *("text", "caption", "captions", "title", "prompt", "description", "sentence", "sentences", "comment"),
    *("alt_text", "alt"),
)  # fmt: skip
ABOUT = ("tags", "concept", "style", "licence", "license", "author")
SEPARATORS = (",", "\t", ";", "|")
LINES, JSON, SEPARATED, PARQUET = (".jsonl", ".ndjson"), ".json", (".csv", ".tsv", ".txt"), ".parquet"
ARROW = ".arrow"  # what `datasets` keeps rows in
SUFFIXES = (*LINES, JSON, *SEPARATED, PARQUET, ARROW)
LONGEST_LINE = 2**24  # characters
LARGEST_JSON = 100_000_000  # bytes of a document that is read as a whole; COCO's captions have 92 million
LONGEST_ROW = 2**18  # characters of what a row says
LARGEST_PICTURE = 2**28  # bytes of one in a table
BATCH_BYTES, BATCH_ROWS = 2**24, 64  # of Parquet, read at once
# Parquet is a packed format, and its reader is no Python: few bytes become any number of rows. It is read in
# a process with so much memory, whose every answer takes so much processor time.
PARQUET_MEMORY, PARQUET_SECONDS = 2**31, 20

Row = dict[str, Any]
Fault = Callable[[str, str], None]  # is told a place, "row 3", and what is wrong there


def read_rows(table: Path, captions: Sequence[str], fault: Fault) -> Iterator[tuple[str, Row]]:
    """Yields (place, row), of a row what may be of use; the place is "row 3" or "line 3" for messages.

    Args:
        table: its kind is told by its suffix, one of `SUFFIXES`.
        captions: the columns that may hold captions.
        fault: is told of rows that cannot be read.

    Raises:
        DataError: the table cannot be read, or not on, or has no columns of pictures or captions.
    """
    known = {*PICTURE, *captions, *ABOUT}
    try:
        for place, row in _rows(table, captions, fault):
            kept = {name: value for name, value in row.items() if name in known}
            if wrong := _too_large(kept):
                fault(place, wrong)
            else:
                yield place, kept
    except DataError:
        raise
    except Exception as error:  # a reader of a broken table raises nearly anything
        raise DataError(f"it cannot be read: {error}") from error


def _rows(table: Path, captions: Sequence[str], fault: Fault) -> Iterator[tuple[str, Row]]:
    if table.suffix.lower() in (PARQUET, ARROW):
        yield from _parquet_rows(table, captions, fault)
    elif table.suffix.lower() == JSON:
        yield from _json_rows(table)
    else:
        with table.open("rb") as file:
            kind = encoding(file.read(2))
        with table.open(encoding=kind, errors="replace", newline="") as text:
            if table.suffix.lower() in LINES:
                yield from _line_rows(text, fault)
            else:
                yield from _separated_rows(text, captions, fault)


def _too_large(row: Row) -> str:
    """A message of a row that says, or holds, far more than any; empty for others."""
    picture = first_of(row, PICTURE)
    content = picture.get("bytes") if isinstance(picture, dict) else picture
    held = len(content) if isinstance(content, bytes) else 0
    if (said := extent(row) - held) > LONGEST_ROW:
        return f"it says {said:,} characters, more than {LONGEST_ROW:,}"
    return f"it has {held:,} bytes, more than {LARGEST_PICTURE:,}" if held > LARGEST_PICTURE else ""


def column(name: object) -> str:
    """The name of a column as rows have it: "File Name" is `file_name`."""
    return "_".join(str(name).strip().lower().replace("-", " ").split())


def first_of(row: Mapping[str, Any], columns: Iterable[str]) -> Any:
    """The first value that is there and not empty."""
    return next((row[name] for name in columns if row.get(name)), None)


def _lacking(found: Sequence[str], captions: Sequence[str]) -> str:
    """A message of the columns that a table lacks; empty if it has what it needs."""
    needed = {
        "pictures, such as file_name, filepath or image": PICTURE,
        f"captions, such as {captions[0]}": captions,
    }
    lacks = [what for what, names in needed.items() if not {*names} & {*found}]
    return (
        f"its columns are {listed(found)}; there is none of {' and none of '.join(lacks)} "
        "(--caption-column names the one of captions)"
        if lacks
        else ""
    )


def _lines(text: IO[str]) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise DataError(f"it has a line of more than {LONGEST_LINE:,} characters")
        yield line


def _separated_rows(text: IO[str], captions: Sequence[str], fault: Fault) -> Iterator[tuple[str, Row]]:
    lines = _lines(text)
    first = next(lines, "")
    heads = {separator: _head(first, separator) for separator in SEPARATORS}
    # the separator that gives columns of known names, and of such the most columns
    separator = max(SEPARATORS, key=lambda one: (not _lacking(heads[one], captions), len(heads[one])))
    head = heads[separator]
    if wrong := _lacking(head, captions):
        raise DataError(wrong)
    reader = csv.reader(lines, delimiter=separator)
    for number in count(1):
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault(f"row {number}", str(error))
            continue
        if values:
            yield f"row {number}", dict(zip(head, values, strict=False))


def _head(line: str, separator: str) -> list[str]:
    try:
        return [column(name) for name in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _line_rows(text: IO[str], fault: Fault) -> Iterator[tuple[str, Row]]:
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except Unreadable as error:
            fault(f"line {number}", str(error))
            continue
        if isinstance(row, dict):
            yield f"line {number}", named(row)
        else:
            fault(f"line {number}", "it is no JSON object")


def _json_rows(table: Path) -> Iterator[tuple[str, Row]]:
    if table.stat().st_size > LARGEST_JSON:
        raise DataError(f"it has more than {LARGEST_JSON:,} bytes: write its rows as JSON lines")
    for number, row in enumerate(_rows_of(parse_json(table.read_bytes())), 1):
        yield f"row {number}", named(row)


def _rows_of(document: Any) -> Iterator[Row]:
    """Rows of a list, of {picture: caption}, of kohya's {picture: {"caption": ...}}, of COCO's captions."""
    if isinstance(document, list):
        yield from (row for row in document if isinstance(row, dict))
    elif not isinstance(document, dict):
        return
    elif isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list):
        files = {str(row.get("id")): row.get("file_name") for row in _rows_of(document["images"])}
        for row in _rows_of(document["annotations"]):
            yield row | {"file_name": files.get(str(row.get("image_id")))}
    else:
        for key, value in document.items():
            if isinstance(value, dict | str | list):
                yield {"file_name": key, **(value if isinstance(value, dict) else {"text": value})}


def _parquet_rows(table: Path, captions: Sequence[str], fault: Fault) -> Iterator[tuple[str, Row]]:
    read = Contained(f"{__name__}:parquet_part", PARQUET_MEMORY)
    numbers = count(1)
    try:
        part = read(str(table), tuple(captions), seconds=PARQUET_SECONDS)
        while isinstance(part, list) and part:
            for row, number in zip(part, numbers, strict=False):
                if isinstance(row, str):
                    fault(f"row {number}", row)
                else:
                    yield f"row {number}", row
            part = read(seconds=PARQUET_SECONDS)
        if isinstance(part, str):
            raise DataError(part)
    except Died as death:
        raise DataError("to read it ends the process, or takes too long") from death
    except NotStarted as error:
        raise DataError(f"a reading process cannot start: {error}") from error
    finally:
        read.close()


_parquet: Iterator[Row | str] = iter(())  # the rows that are left of the table that this process reads


def parquet_part(table: str = "", captions: Sequence[str] = ()) -> list[Row | str] | str:
    """The first rows of a table, or without a name the next ones; none at its end.

    Returns what is wrong in place of a row, and in place of all rows where the table cannot be read on. To be
    called in a process that may die of it (`processes.Contained`).
    """
    global _parquet
    try:
        if table:
            pa.set_memory_pool(pa.system_memory_pool())  # others take addresses in advance
            read = _read_arrow if table.lower().endswith(ARROW) else _read_parquet
            _parquet = (_too_large(row) or row for row in read(table, captions))
        part: list[Row | str] = []
        weight = 0
        for row in _parquet:
            part.append(row)
            weight += extent(row)
            if weight >= BATCH_BYTES:
                break
        return part
    except MemoryError:
        return "it does not fit into the memory of a table"
    except DataError as error:
        return str(error)
    except Exception as error:  # a reader of a broken table raises nearly anything
        return f"it cannot be read: {error}"


def _read_parquet(table: str, captions: Sequence[str]) -> Iterator[Row]:
    file = pq.ParquetFile(table, pre_buffer=False, buffer_size=2**20)
    columns = {name: column(name) for name in file.schema_arrow.names}
    if wrong := _lacking(list(columns.values()), captions):
        raise DataError(wrong)
    known = {*PICTURE, *captions, *ABOUT}
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    weight = sum(group.total_byte_size for group in groups) // max(1, file.metadata.num_rows)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, weight)))
    names = [name for name in columns if columns[name] in known]
    leaves = [file.schema.column(index) for index in range(len(file.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.path in names]
    # a text that many rows have is once in memory
    file = pq.ParquetFile(table, pre_buffer=False, buffer_size=2**20, read_dictionary=texts)
    for batch in file.iter_batches(rows, columns=names, use_threads=False):
        for index in range(batch.num_rows):
            yield named({name: _value(batch.column(name)[index]) for name in batch.schema.names})


def _read_arrow(table: str, captions: Sequence[str]) -> Iterator[Row]:
    """The rows of a stream of Arrow, what `datasets` writes, or of a file of it."""
    with pa.OSFile(table) as file:
        try:
            reader = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            file.seek(0)
            whole = pa.ipc.open_file(file)
            reader = (whole.get_batch(index) for index in range(whole.num_record_batches))
            found = whole.schema.names
        else:
            found = reader.schema.names
        columns = {name: column(name) for name in found}
        if wrong := _lacking(list(columns.values()), captions):
            raise DataError(wrong)
        known = {*PICTURE, *captions, *ABOUT}
        names = [name for name in columns if columns[name] in known]
        for batch in reader:
            for index in range(batch.num_rows):
                yield named({name: _value(batch.column(name)[index]) for name in names})


def _value(cell: Any) -> Any:
    """A cell's value; in place of a text that is far too long one that is refused, too."""
    if isinstance(cell, pa.DictionaryScalar):
        cell = cell.value
    if isinstance(cell, pa.StringScalar) and cell.is_valid and cell.as_buffer().size > 4 * LONGEST_ROW:
        return "?" * (LONGEST_ROW + 1)
    return cell.as_py()


def named(row: Mapping[Any, Any]) -> Row:
    """A row by names of columns as `column` has them."""
    return {column(name): value for name, value in row.items()}
