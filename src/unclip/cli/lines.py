"""Lines read from a text file or stdin, and documents written to stdout, for several verbs."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Any

from unclip.errors import InputError

STDIN = "-"


def read_lines(source: str, what: str) -> list[str]:
    """The lines of a text file, or of stdin for `-`, without those that are empty.

    It is UTF-8, or UTF-16 where it begins with a byte order mark, as Windows writes it.

    Raises:
        InputError: it cannot be read, or is not text; the message says `what` was to be read.
    """
    from unclip.data.texts import encoding

    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
        lines = data.decode(encoding(data)).splitlines()
    except OSError as error:
        raise InputError(f"cannot read {what} from {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {what} from {source}: it is neither UTF-8 nor UTF-16 text") from error
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
