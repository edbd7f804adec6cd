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

import pyarrow.parquet as pq

from unclip.data.texts import Unreadable, encoding, parse_json
from unclip.errors import DataError, listed

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
SUFFIXES = (*LINES, JSON, *SEPARATED, PARQUET)
LONGEST_LINE = 2**24  # characters
LARGEST_JSON = 2**27  # bytes of a document that is read as a whole
BATCH_BYTES, BATCH_ROWS = 2**24, 64  # of Parquet, read at once

Row = dict[str, Any]
Fault = Callable[[str, str], None]  # is told a place, "row 3", and what is wrong there


def read_rows(table: Path, captions: Sequence[str], fault: Fault) -> Iterator[tuple[str, Row]]:
    """Yields (place, row); the place is "row 3" or "line 3" for messages.

    Args:
        table: its kind is told by its suffix, one of `SUFFIXES`.
        captions: the columns that may hold captions.
        fault: is told of rows that cannot be read.

    Raises:
        DataError: the table cannot be read, or not on, or has no columns of pictures or captions.
    """
    try:
        if table.suffix.lower() == PARQUET:
            yield from _parquet_rows(table, captions)
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
    except DataError:
        raise
    except Exception as error:  # a reader of a broken table raises nearly anything
        raise DataError(f"it cannot be read: {error}") from error


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


def _rows_of(document: Any) -> list[Row]:
    """Rows of a list, of {picture: caption}, of kohya's {picture: {"caption": ...}}, of COCO's captions."""
    if isinstance(document, list):
        return [row for row in document if isinstance(row, dict)]
    if not isinstance(document, dict):
        return []
    if isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list):
        files = {str(row.get("id")): row.get("file_name") for row in _rows_of(document["images"])}
        rows = _rows_of(document["annotations"])
        return [row | {"file_name": files.get(str(row.get("image_id")))} for row in rows]
    return [
        {"file_name": key, **(value if isinstance(value, dict) else {"text": value})}
        for key, value in document.items()
        if isinstance(value, dict | str | list)
    ]


def _parquet_rows(table: Path, captions: Sequence[str]) -> Iterator[tuple[str, Row]]:
    file = pq.ParquetFile(table, pre_buffer=False, buffer_size=2**20)
    columns = {name: column(name) for name in file.schema_arrow.names}
    if wrong := _lacking(list(columns.values()), captions):
        raise DataError(wrong)
    known = {*PICTURE, *captions, *ABOUT}
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    weight = sum(group.total_byte_size for group in groups) // max(1, file.metadata.num_rows)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, weight)))
    numbers = count(1)
    for batch in file.iter_batches(rows, columns=[name for name in columns if columns[name] in known]):
        for row in batch.to_pylist():
            yield f"row {next(numbers)}", named(row)


def named(row: Mapping[Any, Any]) -> Row:
    """A row by names of columns as `column` has them."""
    return {column(name): value for name, value in row.items()}
