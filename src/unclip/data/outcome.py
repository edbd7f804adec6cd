"""The outcome of a build: how many pictures went in, how many were kept, and why the others were not."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, Self

import pyarrow.parquet as pq

from unclip.data.records import DROPPED_FILE, MANIFEST_FILE, LeftOut
from unclip.errors import escaped


class LeftOuts(Protocol):
    """A list that grows of what was left out."""

    def append(self, left: LeftOut, /) -> None: ...

    def clear(self) -> None: ...

    def __iter__(self) -> Iterator[LeftOut]: ...


class Listing:
    """A list of what was left out, in a temporary file: of a table there may be millions of rows."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the list

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, left: LeftOut) -> None:
        """Adds one at the end."""
        self._file.write(json.dumps(asdict(left)) + "\n")

    def clear(self) -> None:
        """Takes all out."""
        self._file.seek(0)
        self._file.truncate()

    def __iter__(self) -> Iterator[LeftOut]:
        self._file.seek(0)
        yield from map(_read, self._file)
        self._file.seek(0, os.SEEK_END)


def _read(line: str) -> LeftOut:
    return LeftOut(**json.loads(line))


def write(path: Path, dropped: Iterable[LeftOut]) -> None:
    """Lists what was dropped, a JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for left in dropped:
            file.write(json.dumps(asdict(left), ensure_ascii=False) + "\n")


def summary(corpus: Path) -> list[str]:
    """Lines that say how many pictures went in, were kept, and were dropped for which reason."""
    kept = pq.read_metadata(corpus / MANIFEST_FILE).num_rows
    path = corpus / DROPPED_FILE
    if not path.is_file():  # corpora of before have none
        return [f"{kept:,} kept"]
    with path.open(encoding="utf-8") as file:
        told = reasons(map(_read, file))
    dropped = sum(told.values())
    first = f"{kept + dropped:,} in, {kept:,} kept, {dropped:,} dropped"
    return [f"{first}; each is listed in {path}:" if told else first, *(f"  {line}" for line in told)]


def reasons(dropped: Iterable[LeftOut]) -> dict[str, int]:
    """A line for each reason, "2 broken (a.png: it is cut off; ...)", and the number in it."""
    counts = Counter[str]()
    first: dict[str, LeftOut] = {}
    for left in dropped:
        counts[left.reason] += 1
        first.setdefault(left.reason, left)
    return {f"{count:,} {reason} ({_shown(first[reason], count)})": count for reason, count in counts.items()}


def _shown(left: LeftOut, count: int) -> str:
    text = escaped(f"{left.key}: {left.detail}" if left.detail else left.key)
    return text if count == 1 else f"{text}; ..."
