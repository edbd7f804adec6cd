"""From what is said of one picture (rows of tables, texts beside it) to the record that is drawn."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from unclip.data.prepare.captions import is_boilerplate
from unclip.data.records import Drawing, Fit
from unclip.data.tables import CAPTION, Row, column, first_of, named
from unclip.data.texts import LOST, Unreadable, decode, parse_json, words
from unclip.data.wording import slug

SOURCE = "folder"  # of pictures of one's own, in the manifest
DRAWN = ".svg"
JSON = ".json"
SVG_LIMIT = 2**25  # bytes of a file
LEAST_LETTERS = 2  # of a file's name that says something
CODE = re.compile(r"(?=\S*\d)\S*")  # one word with digits in it: a number, a hash
UNSAID = "picture"  # the concept of what has no caption and needs none

Said = tuple[str, Row]  # where it stands, for messages, and what is said of a picture


@dataclass(frozen=True)
class Defaults:
    """The values for pictures of which nothing else is said.

    `language` is that of plain captions; `caption_column` is the one of tables that holds them, "" for the
    first of the usual ones. With `names_say` a picture without a caption is called by its file's name, see
    `said_by_name`, and `caption` is that of all that have none then.
    """

    style: str = ""
    licence: str = "unknown"
    author: str = ""
    language: str = "en"
    fit: Fit = Fit.PAD
    caption_column: str = ""
    names_say: bool = False
    caption: str = ""


USUAL = Defaults()


class LeaveOut(Protocol):
    """Notes what is left out: its name, the reason, more of it."""

    def __call__(self, key: str, reason: str, detail: str = "") -> None: ...


class Describer:
    """Makes the records of pictures of what is said of them.

    Args:
        defaults: for what is not said.
        leave_out: is told of pictures that cannot be used.
        captioned: a picture without a caption is left out.
    """

    def __init__(self, defaults: Defaults, leave_out: LeaveOut, captioned: bool = True) -> None:
        self._defaults = defaults
        self._leave_out = leave_out
        self._captioned = captioned
        self.columns = (column(defaults.caption_column),) if defaults.caption_column else CAPTION

    def said(
        self, files: Iterable[tuple[str, Callable[[], bytes]]]
    ) -> tuple[list[Said], list[tuple[str, str]]]:
        """A row of the files that say what one picture shows, and (file, what is wrong) of the others."""
        row: Row = {}
        lines: list[str] = []
        read: list[str] = []
        wrong: list[tuple[str, str]] = []
        for name, content in files:
            try:
                if ending_of(name) != JSON:
                    lines += [words(line) for line in decode(content()).splitlines()]
                elif isinstance(document := parse_json(content()), dict):
                    row = named(document)
                else:
                    raise Unreadable("it is no JSON object")
                read.append(name)
            except (Unreadable, OSError) as error:
                wrong.append((name, str(error)))
        if any(lines):
            row[self.columns[0]] = lines
        return [(name, row) for name in read[:1]], wrong

    def drawing(
        self, name: str, said: list[Said], wrong: list[tuple[str, str]], content: Callable[[], bytes]
    ) -> Iterator[Drawing]:
        """The picture, if it has a caption and can be read; what is wrong is said."""
        captions, more = self._captions_of(said, wrong)
        if not captions and self._defaults.names_say and (text := said_by_name(name)):
            captions = {self._defaults.language: [text]}
        if not captions and self._defaults.caption:
            captions = {self._defaults.language: [self._defaults.caption]}
        if not captions and not self._captioned:
            captions = {self._defaults.language: [UNSAID]}
        if not captions:
            if wrong:
                self._leave_out(name, "unreadable caption", ": ".join(wrong[0]))
            else:
                self._leave_out(name, "unusable caption", "there is none")
            return
        for place, what in wrong:
            self._leave_out(place, "unreadable caption", what)
        try:
            data = content()
            vector = name.lower().endswith(DRAWN) or data.lstrip().startswith((b"<svg", b"<?xml"))
            if vector and len(data) > SVG_LIMIT:
                raise Unreadable(f"it has {len(data):,} bytes, more than {SVG_LIMIT:,}")
        except (Unreadable, OSError) as error:
            self._leave_out(name, "unreadable file", str(error))
            return
        defaults = self._defaults
        first = captions.get(defaults.language) or next(iter(captions.values()))
        yield Drawing(
            key=name,
            source=SOURCE,
            style=_about(said, "style") or defaults.style,
            concept=_about(said, "concept") or slug(first[0]),
            captions=captions,
            names=tuple(more),
            licence=_about(said, "licence", "license") or defaults.licence,
            author=_about(said, "author") or defaults.author,
            svg=_document(data) if vector else None,
            bitmap=None if vector else data,
            fit=defaults.fit,
        )

    def _captions_of(
        self, said: list[Said], wrong: list[tuple[str, str]]
    ) -> tuple[dict[str, list[str]], list[str]]:
        """(captions by language, further captions in the default language); what is wrong is added."""
        captions: dict[str, list[str]] = {}
        more: list[str] = []
        for place, row in said:
            try:
                given = first_of(row, self.columns)
                tags = _texts(_parted(row.get("tags")))
                if isinstance(given, dict):
                    for language, value in given.items():
                        if words(language) and (texts := _texts(value)):
                            captions.setdefault(words(language), []).extend(texts)
                    continue
                texts = _texts(given)
                if not texts and tags and not self._defaults.caption_column:
                    texts, tags = [", ".join(tags)], []
            except Unreadable as error:
                wrong.append((place, str(error)))
                continue
            if texts and self._defaults.language not in captions:
                captions[self._defaults.language] = [texts.pop(0), *tags]
            more += texts
        named_so = captions.get(self._defaults.language, [""])[0]
        return captions, [text for text in dict.fromkeys(more) if text != named_so]


def said_by_name(name: str) -> str:
    """The words of a file's name, or where it says nothing of the folder's that it lies in; "" of neither.

    `our-dog 2.png` says "our dog", `IMG_2041.jpg` nothing, and `10_sks cup/003.png`, as folders
    of pictures to learn a thing from are called, "sks cup".
    """
    folder, file = os.path.split(name)
    for part in (os.path.splitext(file)[0], os.path.basename(folder)):
        text = " ".join(re.sub(r"[\W_]+", " ", part).split())
        text = re.sub(r"^(?:\d+ )+|(?: \d+)+$", "", text)
        if sum(letter.isalpha() for letter in text) >= LEAST_LETTERS and not (
            is_boilerplate(text) or is_boilerplate(part) or CODE.fullmatch(text)
        ):
            return text
    return ""


def _parted(tags: object) -> object:
    return tags.split(",") if isinstance(tags, str) else tags


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for one in values if (text := words(one))]


def _about(said: list[Said], *columns: str) -> str:
    """The first value of these columns that can be read."""
    for _, row in said:
        with suppress(Unreadable):
            if text := words(first_of(row, columns)):
                return text
    return ""


def _document(content: bytes) -> str:
    """An SVG document; what is in no encoding that is read still has its shapes, which are ASCII."""
    text = decode(content)
    return content.decode("latin-1") if LOST in text else text


def ending_of(name: str) -> str:
    """The ending of a file's name in lower case, ".png"."""
    return os.path.splitext(name)[1].lower()
