"""The files of a folder, and what has become of those that an index knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from unclip.images import SUFFIXES
from unclip.search.store import File


def walk(folder: Path, leave_out: Path) -> Iterator[File | str]:
    """All files of a folder, in the order of the folders' names; of a folder that cannot be read its path.

    Hidden files and folders are left out, links to folders not followed. Paths are relative to `folder`.
    """
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(folder / inner) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield inner
            continue
        below = []
        for entry in found:
            path = f"{inner}/{entry.name}" if inner else entry.name
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    if folder / path != leave_out:
                        below.append(path)
                elif entry.is_file():
                    yield _file(path, entry.stat())
                elif path.lower().endswith(SUFFIXES):  # a pipe, a link to nowhere: reading says so
                    yield File(path, 0, 0, "")
            except OSError:  # gone meanwhile, or a link to itself
                if entry.is_symlink() and path.lower().endswith(SUFFIXES):
                    yield File(path, 0, 0, "")
        waiting += reversed(below)


def _file(path: str, stat: os.stat_result) -> File:
    try:
        date = datetime.fromtimestamp(stat.st_mtime).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a date of no calendar
        date = ""
    return File(path, stat.st_size, stat.st_mtime_ns, date)


def within(path: str, folder: str) -> bool:
    """True where a relative path lies in a relative folder; "" is the whole."""
    return not folder or path.startswith(f"{folder}/")
