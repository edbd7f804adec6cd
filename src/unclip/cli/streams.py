"""Standard output and error that end no work: where they are closed, full, or cannot encode a character."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO, cast


@dataclass
class Outcome:
    """The fate of the results: the first reason why some could not be written."""

    lost: OSError | None = None


@contextmanager
def steady() -> Iterator[Outcome]:
    """While it lasts, what cannot be written to stdout or stderr is left out, and the work goes on.

    A reader of stdout that has gone away is told of as ever (BrokenPipeError): nobody wants more.
    """
    before, outcome = (sys.stdout, sys.stderr), Outcome()
    sys.stdout = _steady(sys.stdout, _Results, outcome)
    sys.stderr = _steady(sys.stderr, _Messages, Outcome())
    try:
        yield outcome
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Messages(io.RawIOBase):
    """A file whose errors while writing are kept, not raised."""

    def __init__(self, file: io.FileIO, outcome: Outcome) -> None:
        self._file = file
        self._outcome = outcome

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: object) -> int | None:
        try:
            return self._file.write(data)  # type: ignore[arg-type]  # whatever has bytes
        except OSError as error:
            return self._failed(error, memoryview(data).nbytes)  # type: ignore[arg-type]

    def _failed(self, error: OSError, length: int) -> int:
        self._outcome.lost = self._outcome.lost or error
        return length


class _Results(_Messages):
    """The same, but for a reader that has gone away."""

    def _failed(self, error: OSError, length: int) -> int:
        if isinstance(error, BrokenPipeError):
            raise error
        return super()._failed(error, length)


def _steady(stream: TextIO | None, kind: type[_Messages], outcome: Outcome) -> TextIO:
    if stream is None:  # it was closed when Python began
        return io.StringIO()
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="backslashreplace")
    file = getattr(stream.buffer, "raw", stream.buffer)
    if not isinstance(file, io.FileIO):  # of a test
        return stream
    stream.flush()
    whole = kind(file, outcome)
    return io.TextIOWrapper(
        cast(io.BufferedWriter, whole) if file is stream.buffer else io.BufferedWriter(whole),  # python -u
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
