"""Fits of a few steps: pictures, and the numbers that make them so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.shapes import draw
from unclip.train.fit import fitting, recipe, report
from unclip.train.fit import plan as plans

STEPS = 12


@contextmanager
def few_steps() -> Iterator[None]:
    """While it lasts a fit takes twelve steps a stage, and draws next to nothing beside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "steps_of", lambda pictures: STEPS)
        patch.setattr(plans, "EVALUATIONS", 3)
        patch.setattr(recipe, "BATCH", {"prior": 4, "decoder": 4})
        patch.setattr(fitting, "KEPT_DRAWINGS", 8)
        patch.setattr(fitting, "LEAST_DRAWINGS", 2)
        patch.setattr(report, "CAPTIONS", 2)
        patch.setattr(report, "NEW", 2)
        yield


def draw_captioned(folder: Path) -> Path:
    """Twelve captioned shapes, with a table that says what they are."""
    draw(folder, ("red", "green", "blue"), {"thin": 3}, lambda colour, shape: {"text": f"a {colour} {shape}"})
    return folder
