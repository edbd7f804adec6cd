"""Lines read from a text file or stdin, and documents written to stdout, for several verbs."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Any

from unclip.errors import InputError

STDIN = "-"


def read_lines(source: str, what: str) -> list[str]:
    """The lines of a UTF-8 file, or of stdin for `-`, without those that are empty.

    Raises:
        InputError: it cannot be read, or is not text; the message says `what` was to be read.
    """
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
        lines = data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {what} from {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {what} from {source}: it is not UTF-8 text") from error
    return [line.strip() for line in lines if line.strip()]


def print_json(document: Any) -> None:
    """Writes JSON to stdout, in UTF-8 whatever the locale; bytes of a path that are not UTF-8 are escaped."""
    print_bytes(f"{dumps(document, indent=1, ensure_ascii=False)}\n".encode("utf-8", "backslashreplace"))


def print_bytes(data: bytes) -> None:
    """Writes bytes to stdout; nothing where that is closed."""
    if stream := getattr(sys.stdout, "buffer", None):
        sys.stdout.flush()
        stream.write(data)
        stream.flush()
