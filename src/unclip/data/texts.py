"""Text that others wrote, decoded by its byte order mark or as UTF-8: what is neither is never guessed."""

from __future__ import annotations

import codecs
import json
import unicodedata
from typing import Any

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LOST = "�"  # what stands for a letter that could not be decoded
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


def words(value: object) -> str:
    """A caption or another short text on one line, without control characters; empty where none is seen.

    Raises:
        Unreadable: parts of it were lost when it was decoded, by us or before.
    """
    if isinstance(value, bytes):
        value = decode(value)
    if not isinstance(value, str | int | float):
        return ""
    text = str(value)
    if text.isprintable() and LOST not in text:
        return " ".join(text.split())
    if LOST in text or "\0" in text or not is_text(text):
        raise Unreadable("it is neither UTF-8 nor UTF-16 with a byte order mark: save it as UTF-8")
    plain = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    if all(unicodedata.category(letter) in INVISIBLE for letter in plain):
        return ""
    return " ".join(plain.split())


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON document. Raises Unreadable where it is none, or is nested too deeply."""
    try:
        return json.loads(decode(text) if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from error
