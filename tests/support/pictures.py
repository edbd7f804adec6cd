"""Pictures and masks to begin with, and the difference of pictures that were drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image

from unclip.drawing import Picture

ROUNDING = 1
"""Levels of 256 by which a picture may differ between batches: their size chooses kernels, which round."""


def speckled(width: int, height: int | None = None, seed: int = 0) -> Image.Image:
    """Noise, a square where no height is given."""
    shape = (height or width, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def holed(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """A mask, opaque but for a box."""
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), box)
    return mask


def pixels(picture: Picture) -> np.ndarray:
    """(S, S, 3), as integers that can be subtracted."""
    return np.asarray(picture.image, dtype=int)


def difference(one: Picture, other: Picture) -> int:
    """The most levels that two pictures are apart anywhere."""
    return int(np.abs(pixels(one) - pixels(other)).max())


def same(one: Picture, other: Picture) -> bool:
    """The same but for rounding."""
    return difference(one, other) <= ROUNDING
