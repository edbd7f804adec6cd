"""The promise that nearly identical pictures are told from merely similar ones."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from unclip.search.near import SIGNATURE_SIDE, alike, groups, signatures


def drawing(shift: int = 0, size: int = 200, colour: str = "black") -> Image.Image:
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).ellipse((40 + shift, 40, 130 + shift, 130), outline=colour, width=6)
    return image.resize((size, size))


def signature(image: Image.Image) -> bytes:
    side = (SIGNATURE_SIDE, SIGNATURE_SIDE)
    return image.convert("RGB").resize(side, Image.Resampling.BOX).tobytes()


def same(first: Image.Image, second: Image.Image) -> bool:
    aspects = [np.array([image.width / image.height]) for image in (first, second)]
    return bool(alike(signatures([signature(first)]), signatures([signature(second)]), *aspects)[0])


def test_another_size_and_compression_is_the_same_picture() -> None:
    buffer = io.BytesIO()
    drawing(size=90).save(buffer, "JPEG", quality=50)
    assert same(drawing(), drawing(size=90))
    assert same(drawing(), Image.open(buffer))


def test_another_drawing_colour_or_shape_is_another_picture() -> None:
    assert not same(drawing(), drawing(shift=30))
    assert not same(drawing(), drawing(colour="red"))
    assert not same(drawing(), drawing().resize((200, 150)))


def test_groups_are_what_pairs_connect() -> None:
    assert groups(6, [(4, 1), (1, 5), (2, 3)]) == [[1, 4, 5], [2, 3]]
    assert groups(3, []) == []
