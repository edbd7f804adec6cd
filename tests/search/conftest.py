"""A CLIP that knows colours, and pictures for it to know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.colour_clip import COLOURS, Colours


@pytest.fixture
def clip() -> Colours:
    return Colours()


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Writes a picture in one colour, with a pattern of its own, into `photos`."""

    def write(name: str, colour: str, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng([seed, *name.encode()])
        pattern = random.integers(0, 60, (6, 8, 3)).astype(np.uint8)
        grain = Image.fromarray(pattern).resize(size, Image.Resampling.NEAREST)
        Image.blend(Image.new("RGB", size, COLOURS[colour]), grain, 0.3).save(path)
        return path

    return write


@pytest.fixture
def photos(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    """A folder of seven pictures, and files that are none."""
    for name, colour in (
        *(("a.png", "red"), ("b.jpg", "green"), ("c.webp", "blue"), ("trip/d.png", "red")),
        *(("trip/e.png", "green"), ("trip/day 2/f.png", "blue"), ("g.bmp", "white")),
    ):
        draw(name, colour)
    folder = tmp_path / "photos"
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "h.png").write_bytes((folder / "a.png").read_bytes())
    return folder
