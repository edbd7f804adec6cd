"""Text that others wrote, decoded by its byte order mark or as UTF-8: what is neither is never guessed."""

from __future__ import annotations

import codecs
import json
import math
import unicodedata
from itertools import chain
from typing import Any

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LOST = "�"  # what stands for a letter that could not be decoded
LONGEST_TEXT = 2**16  # characters of a caption
MOST_VALUES = 2**22  # of a JSON document: each takes some hundred bytes, whatever it is written with
INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")  # Unicode categories: control, format and space


class Unreadable(ValueError):
    """Text that is not in an encoding that is read, or JSON that is none."""


def encoding(start: bytes) -> str:
    """The encoding of a file that begins with `start`: UTF-16 where it has its mark, else UTF-8."""
    return "utf-16" if start.startswith(UTF16_MARKS) else "utf-8-sig"


def decode(content: bytes) -> str:
    """Text, `LOST` in the place of what cannot be decoded: `words` refuses that."""
    return content.decode(encoding(content), "replace")


def is_text(text: str) -> bool:
    """False where a string has halves of surrogate pairs, as Python has the bytes that it cannot decode."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def shown_name(name: str) -> str:
    """A name that can be written as UTF-8: of one that is none, its bytes as `\\xff`."""
    # Python has the byte ff of a name as the surrogate dcff
    return name.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")


def words(value: object) -> str:
    """A caption or another short text on one line, without control characters; empty where none is seen.

    A number is its digits. NaN and infinity, which tables have where nothing is said, and truth values are
    no text.

    Raises:
        Unreadable: parts of it were lost when it was decoded, by us or before, or it is far too long.
    """
    if isinstance(value, bytes):
        value = decode(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    text = str(value)
    if len(text) > LONGEST_TEXT:
        raise Unreadable(f"it has {len(text):,} characters, more than {LONGEST_TEXT:,}")
    if text.isprintable() and LOST not in text:
        return " ".join(text.split())
    if LOST in text or "\0" in text or not is_text(text):
        raise Unreadable("it is neither UTF-8 nor UTF-16 with a byte order mark: save it as UTF-8")
    plain = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    if all(unicodedata.category(letter) in INVISIBLE for letter in plain):
        return ""
    return " ".join(plain.split())


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document. Raises Unreadable where it is none, or is nested too deeply or large."""
    try:
        text = decode(text) if isinstance(text, bytes) else text
        if sum(map(text.count, "[{,")) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from error


def extent(value: object) -> int:
    """The characters or bytes of all that is in a value, and one for each part of it."""
    total, parts = 0, [value]
    while parts:
        part = parts.pop()
        total += 1 + (len(part) if isinstance(part, (str, bytes)) else 0)
        if isinstance(part, (list, tuple, dict)):
            parts += chain(part, part.values()) if isinstance(part, dict) else part
    return total
