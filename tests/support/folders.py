"""Folders of captioned pictures, made and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.packages import ellipse
from unclip.data.described import Defaults
from unclip.data.folder import read_folder
from unclip.data.records import Drawing, LeftOut


def read(source: Path, **defaults: Any) -> tuple[dict[str, Drawing], list[LeftOut]]:
    """The pictures of a folder by their keys, and what is left out."""
    left_out: list[LeftOut] = []
    return {drawing.key: drawing for drawing in read_folder(source, Defaults(**defaults), left_out)}, left_out


def pictures(folder: Path, *names: str) -> Path:
    """A folder of different pictures."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ellipse((40 * number, 255 - 40 * number, 90)))
    return folder
