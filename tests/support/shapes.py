"""Outlined shapes, as SVG, and folders of them with captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

SHAPES = {
    "circle": '<circle cx="32" cy="32" r="20" {}/>',
    "square": '<rect x="12" y="12" width="40" height="40" {}/>',
    "stripe": '<path d="M4 40 L60 24" {}/>',
    "frame": '<rect x="6" y="16" width="52" height="30" rx="6" {}/>',
}


def outline(shape: str, colour: str, width: int) -> str:
    body = SHAPES[shape].format(f'fill="none" stroke="{colour}" stroke-width="{width}"')
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{body}</svg>'


def draw(
    folder: Path,
    colours: Iterable[str],
    styles: Mapping[str, int],
    describe: Callable[[str, str], dict[str, Any]],
) -> None:
    """Every shape in every colour and style; `describe` says of a colour and a shape what metadata tell."""
    folder.mkdir()
    lines = []
    for colour in colours:
        for shape in SHAPES:
            for style, width in styles.items():
                name = f"{colour}-{shape}-{style}.svg"
                (folder / name).write_text(outline(shape, colour, width))
                lines.append(json.dumps({"file_name": name, "style": style, **describe(colour, shape)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
