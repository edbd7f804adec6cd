"""A corpus of shapes in styles that are learned from, and in two that only tests have."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.shapes import outline
from unclip.data import splits
from unclip.data.build import Input, build
from unclip.data.records import Drawing

COLOURS = ("red", "green", "blue", "orange")
SHAPES = ("circle", "square", "stripe")
SEEN = {"thin": 3, "middle": 6, "strong": 10, "fat": 14}
UNSEEN = {"hair": 2, "heavy": 18}


def drawings(source: str, styles: dict[str, int]) -> list[Drawing]:
    """Every shape in every colour and style; the stripe in the first style that is learned from alone."""
    found = []
    for style, width in styles.items():
        for colour in COLOURS:
            for shape in SHAPES:
                if shape == "stripe" and style not in ("thin", *UNSEEN):
                    continue
                svg = outline(shape, colour, width)
                concept = f"{colour}-{shape}"
                captions = {"en": [f"{colour} {shape}"]}
                found.append(
                    Drawing(f"{concept}-{style}", source, style, concept, captions, "CC0-1.0", "", svg=svg)
                )
    return found


def build_styled(folder: Path) -> Path:
    """Twelve concepts: eight in four styles, some pairs held out, four in one; two styles for tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "UNSEEN_PAIRS", 0.25)
        patch.setattr(splits, "UNSEEN_CONCEPTS", 0.0)
        inputs = [
            Input("seen", lambda: drawings("seen", SEEN)),
            Input("unseen", lambda: drawings("unseen", UNSEEN), test_only=True),
        ]
        for _ in build(folder, inputs, size=64, fingerprint="", title="Shapes"):
            pass
    return folder
