"""Pictures and masks to begin with, and the difference of pictures that were drawn."""

from __future__ import annotations

import struct

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


def wide_profile() -> bytes:
    """An ICC profile (version 2, of matrix and curve) with Adobe RGB's primaries and gamma 2.2."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    gamma = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"wide\0" + b"\0" * 79,
        b"cprt": b"text\0\0\0\0none",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9505, 1.0, 1.0891),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.60974, 0.31111, 0.01947),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.20528, 0.62567, 0.06087),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma),
    }
    start = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI", start + len(body), b"none", 0x02100000) + b"mntrRGB XYZ " + b"\0" * 12
    head += b"acsp" + b"\0" * 28 + fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + table + body
