"""A corpus of shapes in three languages with pictures held out, for evaluating on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.shapes import draw
from unclip.data import splits
from unclip.data.prepare.run import build_folder

COLOURS = {
    "red": "rot",
    "green": "grün",
    "blue": "blau",
    "orange": "orange",
    "purple": "lila",
    "black": "schwarz",
}
STYLES = {"thin": 3, "thick": 9, "fat": 13}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 drawings of 24 concepts, some without a Korean name. Do not change it."""

    def describe(colour: str, shape: str) -> dict[str, Any]:
        captions = {"en": [f"{colour} {shape}"], "de": [f"{shape}, {COLOURS[colour]}"]}
        if colour != "black":
            captions["ko"] = [f"{colour} {shape} 모양"]
        return {"captions": captions, "concept": f"{colour}-{shape}"}

    folder = tmp_path_factory.mktemp("shapes") / "drawn"
    draw(folder, COLOURS, STYLES, describe)
    corpus = tmp_path_factory.mktemp("corpus") / "shapes"
    with pytest.MonkeyPatch.context() as patch:  # so few pictures would hold out next to none
        patch.setattr(splits, "UNSEEN_PAIRS", 0.4)
        patch.setattr(splits, "UNSEEN_CONCEPTS", 0.25)
        for _ in build_folder(folder, corpus):
            pass
    return corpus
