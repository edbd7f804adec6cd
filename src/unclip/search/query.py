"""Queries: texts and pictures with signs, and filters."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from unclip.errors import InputError
from unclip.images import SUFFIXES

SQUARE = 1.05  # most of longer by shorter side that still counts as square
ASPECT_TOLERANCE = 1.03
# A quoted text, or letters up to a sign that stands between spaces.
_TERM = re.compile(
    r"""\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>\S(?:.*?\S)??))\s*(?=$|\s[+-]\s)"""
)
_SIGN = re.compile(r"\s*([+-])\s+")


@dataclass(frozen=True)
class Term:
    """A part of a query: a text, a picture or a picture's file, wanted or not."""

    content: str | Path | Image.Image
    wanted: bool = True

    @property
    def is_text(self) -> bool:
        """True of a text, False of a picture."""
        return isinstance(self.content, str)


def parse(query: str) -> tuple[Term, ...]:
    """A query such as `"a beach" + photo.jpg - "people"`.

    Terms are joined by `+` and `-` with spaces around them. What is quoted is a text; what is not is a
    picture where it is the name of a file, and else a text.

    Raises:
        InputError: an empty term, a quote that is not closed, nothing wanted, or no such picture.
    """
    terms = []
    wanted, position = True, 0
    if first := re.match(r"\s*-\s+", query):
        wanted, position = False, first.end()
    while True:
        found = _TERM.match(query, position)
        if found is None or not (content := found["double"] or found["single"] or found["bare"]):
            raise InputError(
                f'cannot read the query {query!r}: write it as "a text" + picture.jpg - "a text"'
            )
        terms.append(Term(content if found["bare"] is None else _bare(content), wanted))
        sign = _SIGN.match(query, found.end())
        if sign is None:
            break
        wanted, position = sign[1] == "+", sign.end()
    return check(terms)


def check(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Terms of which at least one is wanted. Raises InputError otherwise, and for an empty text."""
    if not any(term.wanted for term in terms):
        raise InputError("the query only says what is not wanted: say what is")
    if any(isinstance(term.content, str) and not term.content.strip() for term in terms):
        raise InputError("the query is empty: say what to look for")
    return tuple(terms)


def _bare(text: str) -> str | Path:
    if text.startswith(('"', "'")):
        raise InputError(f"cannot read the query: the quote in {text!r} is not closed")
    if os.path.isfile(text):
        return Path(text)
    if text.lower().endswith(SUFFIXES):
        raise InputError(f"no such picture: {text} (quote it to look for the text)")
    return text


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The files that may be found; None allows all.

    Attributes:
        folder: those within it, relative to the folder of pictures.
        since, until: taken (or, where the picture does not say, changed) on these days or between them.
        least_size, most_size: pixels of the longer side.
        aspect: "square", "portrait", "landscape", or a ratio of width and height such as "16:9".

    Raises:
        InputError: an aspect that is none of these, or a range that is empty.
    """

    folder: str | None = None
    since: date | None = None
    until: date | None = None
    least_size: int | None = None
    most_size: int | None = None
    aspect: str | None = None

    def __post_init__(self) -> None:
        if self.since and self.until and self.since > self.until:
            raise InputError(f"since {self.since} until {self.until}: no day is in between")
        if self.least_size and self.most_size and self.least_size > self.most_size:
            raise InputError(f"from {self.least_size} to {self.most_size} pixels: no size is in between")
        _aspect(self.aspect)

    def condition(self) -> tuple[str, list[Any]]:
        """As a condition in SQL on `file` and `picture`, and its values."""
        parts: list[str] = []
        values: list[Any] = []

        def add(part: str, *its: Any) -> None:
            parts.append(part)
            values.extend(its)

        folder = (self.folder or "").strip("/")
        if folder not in ("", "."):
            inside = os.fsencode(os.path.normpath(folder)) + b"/"
            # "0" is the character behind "/"
            add("file.path >= ? AND file.path < ?", inside, inside[:-1] + b"0")
        if self.since is not None:
            add("coalesce(taken, date) >= ?", self.since.isoformat())
        if self.until is not None:
            add("coalesce(taken, date) < ?", (self.until + timedelta(days=1)).isoformat())
        if self.least_size is not None:
            add("max(width, height) >= ?", self.least_size)
        if self.most_size is not None:
            add("max(width, height) <= ?", self.most_size)
        if (limits := _aspect(self.aspect)) is not None:
            add("1.0 * width / height BETWEEN ? AND ?", *limits)
        return " AND ".join(parts) or "1", values


def day(text: str) -> date:
    """A day such as 2024-05-31; 2024-05 and 2024 are the first day of them. Raises InputError otherwise."""
    try:
        return date.fromisoformat(text + "-01" * (2 - text.count("-")))
    except ValueError:
        raise InputError(f"{text!r} is no date: write it as 2024-05-31") from None


def _aspect(aspect: str | None) -> tuple[float, float] | None:
    """Least and most width / height."""
    if aspect is None:
        return None
    named = {
        "square": (1 / SQUARE, SQUARE),
        "portrait": (0.0, 1 / SQUARE),
        "landscape": (SQUARE, float("inf")),
    }
    if aspect in named:
        return named[aspect]
    if ratio := re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", aspect):
        width, height = float(ratio[1]), float(ratio[2])
        if width and height:
            return width / height / ASPECT_TOLERANCE, width / height * ASPECT_TOLERANCE
    raise InputError(f"unknown aspect {aspect!r}: choose square, portrait, landscape or a ratio such as 16:9")


EVERYTHING = Filters()
