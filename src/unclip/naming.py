"""Names for picture files: made from prompt and seed, safe everywhere, never over somebody else's file."""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unclip.drawing import Picture
from unclip.errors import InputError, UnclipError
from unclip.images import ImageFormat, read_metadata
from unclip.runtime import atomic_path, check_writable

DEFAULT_PATTERN = "{prompt}-seed{seed}-{index}"
RANKED_PATTERN = "{prompt}-seed{seed}-best{rank}-{index}"  # the best of many, in their order
FIELDS = ("prompt", "seed", "index", "n", "rank")
# A field's format: fill and alignment, sign, zeros, width, type. Others make names of gigabytes, or of NULs.
FORMAT = re.compile(r"([^{}/\\\0]?[<>^=])?[-+ ]?0?[0-9]{0,3}[dsx]?")
LONGEST_SLUG = 80  # bytes
LONGEST_NAME = 240  # bytes: file systems allow 255, and a temporary name is longer by a few
SUFFIXES = {ImageFormat.PNG: ".png", ImageFormat.JPEG: ".jpg", ImageFormat.WEBP: ".webp"}
NAMELESS = "picture"
# Windows keeps these for devices, whatever their suffix.
DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\b", re.IGNORECASE)
# "1.5" in a name is no suffix, "picture.gif" has one that we cannot write.
SUFFIX = re.compile(r"\.[A-Za-z]{2,5}$")


def slug(prompt: str) -> str:
    """A prompt as part of a file name: letters of all scripts and digits, lower case, hyphens between.

    An emoji is spelled out by its Unicode name. At most 80 bytes of UTF-8, never empty.
    """
    letters = []
    for letter in unicodedata.normalize("NFC", prompt).lower():
        kind = unicodedata.category(letter)
        if kind[0] in "LNM" and not 0xFE00 <= ord(letter) <= 0xFE0F:  # the last are variation selectors
            letters.append(letter)
        elif kind == "So":
            letters.append(f" {unicodedata.name(letter, '').lower()} ")
        else:
            letters.append(" ")
    words = re.sub(r"[\s-]+", "-", "".join(letters)).strip("-")
    short = words.encode()[:LONGEST_SLUG].decode(errors="ignore").strip("-")
    # cutting may have split a letter from its accents: compose what is left once more
    short = unicodedata.normalize("NFC", short)
    return f"{NAMELESS}-{short}" if DEVICES.match(short) else short or NAMELESS


class Names:
    """Where the pictures of one command are written to.

    Args:
        pattern: a file name, with a suffix or with the fields {prompt}, {seed}, {index} (of the picture among
            those of its seed), {rank} (1, 2, ... over the pictures of a prompt, the best first where they are
            ranked) and {n} (1, 2, ... over the whole command); anything else is a folder; None is the current
            folder. Names that the caller chose replace what is there; our own never replace another picture's
            file.
        format: of the files; None is what the pattern's suffix says, and else PNG.
        unnamed: stands for {prompt} of pictures that have none.
        ranked: how many of each prompt are the best of more, best first: our own names then say the order.

    Raises:
        InputError: a field that does not exist, or in a format that none has, a suffix that is no format or
            another than `format`.
    """

    def __init__(
        self,
        pattern: str | None = None,
        format: ImageFormat | None = None,
        unnamed: str = NAMELESS,
        ranked: int = 0,
    ) -> None:
        self._unnamed = unnamed
        self._ranks: Counter[str] = Counter()
        suffix = SUFFIX.search(pattern or "")
        is_folder = pattern is None or pattern.endswith(("/", os.sep)) or os.path.isdir(pattern)
        is_folder = is_folder or not (suffix or "{" in str(pattern))
        self._careful = is_folder
        if pattern is not None and os.path.isdir(pattern):
            pattern = pattern.replace("{", "{{").replace("}", "}}")  # of what is there: no fields
        own = RANKED_PATTERN.replace("{rank}", f"{{rank:0{len(str(ranked))}}}") if ranked else DEFAULT_PATTERN
        self._pattern = os.path.join(pattern or "", own) if is_folder else str(pattern)
        _check_fields(self._pattern)
        suffix = None if is_folder else suffix
        named = ImageFormat.named(suffix.group()) if suffix else None
        if named and format and named is not format:
            raise InputError(f"the name {pattern!r} is of a {named} file, the format is {format}: choose one")
        self.format = format or named or ImageFormat.PNG
        if named is None:
            self._pattern += SUFFIXES[self.format]

    def path(self, prompt: str, seed: int, index: int, n: int, rank: int = 1) -> Path:
        """The name of a picture, whether or not there is such a file."""
        named = slug(prompt or self._unnamed)
        return Path(self._pattern.format(prompt=named, seed=seed, index=index, n=n, rank=rank))

    def check(self, jobs: Iterable[tuple[str, int]], seed: int = 0) -> None:
        """Refuse what would fail after the drawing.

        Args:
            jobs: prompt and index of every picture to come, in their order.
            seed: of all of them, where it is known.

        Raises:
            InputError: two pictures would have one name, a name is too long or is a folder's, or a folder
                cannot be written to.
        """
        owners: dict[Path, tuple[str, int]] = {}
        for n, (prompt, index) in enumerate(jobs, start=1):
            path = self.path(prompt, seed, index, n, index + 1)
            if not self._careful and owners.get(path, (prompt, index)) != (prompt, index):
                raise InputError(
                    f"several pictures would be written to {path}: put {{n}}, or {{prompt}} and {{index}}, "
                    "into its name"
                )
            owners[path] = (prompt, index)
            if len(path.name.encode()) > LONGEST_NAME:
                raise InputError(
                    f"the name {path.name[:40]}... has more than {LONGEST_NAME} bytes: shorten it"
                )
            if not self._careful and path.is_dir():
                raise InputError(
                    f"{path} is a folder: choose another name, or end it with / to write into it"
                )
        for folder in {path.parent for path in owners}:
            check_writable(folder, "choose another folder with --out")

    def write(self, picture: Picture, n: int, **how: Any) -> Path:
        """Write a picture, whole or not at all, and return its path; `how` as of `Picture.encode`.

        Where a name of our own is taken by another picture, "-2", "-3", ... is appended. It is the same
        picture where the file's bytes, or its metadata, are the same.

        Raises:
            UnclipError: the file cannot be written, for example because the disk is full. What was written
                before stays, and nothing is left half-written.
        """
        data = picture.encode(self.format, **how)
        self._ranks[picture.prompt] += 1
        rank = self._ranks[picture.prompt]
        path = self.path(picture.prompt, picture.seed, picture.index, n, rank)
        claimed: Path | None = None
        try:
            if self._careful:
                path, claimed = _claimed(path, data, picture)
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            if claimed is not None:
                claimed.unlink(missing_ok=True)
            reason = (error.strerror or str(error)).lower()
            raise UnclipError(
                f"cannot write {path}: {reason}; make room, or choose another folder with --out"
            ) from error
        return path


def _claimed(path: Path, data: bytes, picture: Picture) -> tuple[Path, Path | None]:
    """A name that no other picture has, and the empty file that claims it, if it is a new one.

    Of several processes that look for a name at once only one can make the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    candidate, number = path, 1
    while True:
        try:
            candidate.open("xb").close()
            return candidate, candidate
        except FileExistsError:
            if _is_same(candidate, data, picture):
                return candidate, None
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")


def _is_same(path: Path, data: bytes, picture: Picture) -> bool:
    try:
        return read_metadata(path) == picture.metadata or path.read_bytes() == data
    except (InputError, OSError):
        return False


def _check_fields(pattern: str) -> None:
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    try:
        for _, field, format, conversion in string.Formatter().parse(pattern):
            if field is not None and field not in FIELDS:
                raise InputError(f"the name {pattern!r} has the unknown field {{{field}}}: known are {known}")
            if conversion or not FORMAT.fullmatch(format or ""):
                shown = f"{{{field}{f'!{conversion}' if conversion else ''}{f':{format}' if format else ''}}}"
                raise InputError(
                    f"the name {pattern!r}: {shown} is no way to write a field, write {{{field}}}, or with a "
                    f"width such as {{{field}:03}}"
                )
        pattern.format(prompt="", **dict.fromkeys(FIELDS[1:], 0))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the name {pattern!r} cannot be read ({error}): known are {known}") from None
