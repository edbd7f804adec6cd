"""The files of a folder, and what has become of those that an index knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

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
                    stat = entry.stat()
                    date = datetime.fromtimestamp(stat.st_mtime).isoformat(timespec="seconds")
                    yield File(path, stat.st_size, stat.st_mtime_ns, date)
            except (
                OSError,
                ValueError,
                OverflowError,
            ):  # gone meanwhile, a broken link, a date of no calendar
                continue
        waiting += reversed(below)


def within(path: str, folder: str) -> bool:
    """True where a relative path lies in a relative folder; "" is the whole."""
    return not folder or path.startswith(f"{folder}/")
