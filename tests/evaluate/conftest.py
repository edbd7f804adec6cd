"""A corpus of shapes in three languages with pictures held out, for evaluating on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unclip.data import splits
from unclip.data.folder import build_folder

COLOURS = {
    "red": "rot",
    "green": "grün",
    "blue": "blau",
    "orange": "orange",
    "purple": "lila",
    "black": "schwarz",
}
SHAPES = {
    "circle": '<circle cx="32" cy="32" r="20" {}/>',
    "square": '<rect x="12" y="12" width="40" height="40" {}/>',
    "stripe": '<path d="M8 40 L56 24" {}/>',
    "frame": '<rect x="6" y="16" width="52" height="30" rx="6" {}/>',
}
STYLES = {"thin": 3, "thick": 9, "fat": 13}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 drawings of 24 concepts, some without a Korean name. Do not change it."""
    folder = tmp_path_factory.mktemp("shapes")
    lines = []
    for colour, german in COLOURS.items():
        for shape, body in SHAPES.items():
            for style, width in STYLES.items():
                paint = f'fill="none" stroke="{colour}" stroke-width="{width}"'
                svg = (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{body.format(paint)}</svg>'
                )
                name = f"{colour}-{shape}-{style}.svg"
                (folder / name).write_text(svg)
                captions = {"en": [f"{colour} {shape}"], "de": [f"{shape}, {german}"]}
                if colour != "black":
                    captions["ko"] = [f"{colour} {shape} 모양"]
                row = {
                    "file_name": name,
                    "captions": captions,
                    "concept": f"{colour}-{shape}",
                    "style": style,
                }
                lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    corpus = tmp_path_factory.mktemp("corpus") / "shapes"
    with pytest.MonkeyPatch.context() as patch:  # so few pictures would hold out next to none
        patch.setattr(splits, "UNSEEN_PAIRS", 0.4)
        patch.setattr(splits, "UNSEEN_CONCEPTS", 0.25)
        for _ in build_folder(folder, corpus):
            pass
    return corpus
