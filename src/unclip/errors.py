"""The one tree of errors. A message says what was got, what is allowed and what to do."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import ClassVar

LONGEST_SHOWN = 60  # characters of a value in a message
# What a terminal obeys or cannot write: control characters, those that turn the direction of writing round,
# other ends of lines, halves of surrogate pairs.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UnclipError(Exception):
    """Anything that goes wrong in `unclip` and that its user can understand.

    `exit_code` is what the command line ends with: 1 failed, 2 wrong usage, 3 refused by policy,
    130 interrupted.
    """

    exit_code: ClassVar[int] = 1


class InputError(UnclipError, ValueError):
    """An option, a setting, a prompt or a picture that was handed in is not allowed."""

    exit_code: ClassVar[int] = 2


class BundleError(UnclipError):
    """A bundle is missing, incomplete or altered."""


class CheckpointError(UnclipError):
    """A checkpoint is missing, or its tensors do not fit the model."""


class DownloadError(UnclipError):
    """A published model cannot be fetched; the message says what to do by hand."""


class DataError(UnclipError):
    """A corpus, an archive or a manifest cannot be used."""


class SearchError(UnclipError):
    """An index of pictures is missing, damaged, busy or made with another model."""


class TrainingError(UnclipError):
    """A training run cannot start, go on or be resumed."""


class Interrupted(UnclipError):
    """Ctrl-C or a signal ended the work in good order; the message says how to go on."""

    exit_code: ClassVar[int] = 130


class PolicyError(UnclipError):
    """The content policy refuses a request, or all pictures that came of it.

    Attributes:
        category: what for, in words.
        part: of the request, "prompt" or the name of a picture; None where the pictures drawn are refused.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, category: str | None = None, part: str | None = "prompt") -> None:
        super().__init__(message)
        self.category, self.part = category, part


class UnclipWarning(UserWarning):
    """Something that its user should know and that does not stop the work."""


def warn(message: str) -> None:
    """Gives an `UnclipWarning` that points at the line outside the package from which it was called."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "unclip":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UnclipWarning, stacklevel=level)


def is_out_of_memory(error: BaseException) -> bool:
    """True of an error that says that memory is lacking, Python's or torch's."""
    # torch raises OutOfMemoryError on an accelerator, and a plain RuntimeError on the CPU
    torchs = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or torchs


def listed(values: Iterable[object]) -> str:
    """Values for a message, "a, b, c"."""
    return ", ".join(map(str, values))


def escaped(text: str) -> str:
    """A text that may be printed whoever wrote it: what a terminal would obey stands as "\\x1b"."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shown(value: object) -> str:
    """A value as Python writes it, cut short: of what is long, deep or repeats itself only the beginning."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > LONGEST_SHOWN:
            return f"{text[: LONGEST_SHOWN - 3]}..."
    return text


def _pieces(value: object) -> Iterator[str]:
    match value:
        case dict():
            yield "{"
            for i, (key, item) in enumerate(value.items()):
                yield ", " if i else ""
                yield from _pieces(key)
                yield ": "
                yield from _pieces(item)
            yield "}"
        case list() | tuple():
            yield "[" if isinstance(value, list) else "("
            for i, item in enumerate(value):
                yield ", " if i else ""
                yield from _pieces(item)
            single = isinstance(value, tuple) and len(value) == 1
            yield "]" if isinstance(value, list) else ",)" if single else ")"
        case str() | bytes() if type(value) in (str, bytes):
            yield repr(value[: LONGEST_SHOWN + 1])
        case int() if abs(value) >= 2**64:
            yield hex(value)
        case _:
            yield repr(value)
