"""The watermark put into a picture: weak where nothing hides it, stronger where much goes on.

The mark is added to the light, the same to red, green and blue: JPEG keeps light best. Detail hides it
(contrast masking: C. I. Podilchuk and W. Zeng, "Image-adaptive watermarking using visual models", IEEE
Journal on Selected Areas in Communications 16, 1998). On white and black there is room on one side alone, so
that half of it is cut off; it is a little stronger there, or JPEG would round all of it away.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from unclip.watermark.code import encode
from unclip.watermark.light import STRENGTH, detail, luminance, strength
from unclip.watermark.pattern import TILE, pattern

AT_THE_ENDS = 1.8  # times as strong on white and black
STRONGEST = 4.0  # levels, standard deviation
SMALLEST = TILE * TILE  # pixels that are drawn: fewer do not hold a tile


def embed(image: Image.Image, payload: int, keep: Image.Image | None = None) -> Image.Image:
    """A picture with a watermark, or the same picture where too little of it may be changed.

    Args:
        image: RGB or RGBA; its transparency, and what Pillow knows of it, stay.
        payload: 0 to 2^64 - 1.
        keep: mode L, of the same size; a pixel is changed only where it is 0. None is everywhere.
    """
    drawn = np.ones((image.height, image.width), bool) if keep is None else np.asarray(keep) == 0
    if image.mode == "RGBA":
        drawn = drawn & (np.asarray(image.getchannel("A")) > 0)
    if np.count_nonzero(drawn) < SMALLEST:
        return image
    tile = pattern().tile(encode(payload))
    repeats = (-(-image.height // TILE), -(-image.width // TILE))
    mark = np.tile(tile, repeats)[: image.height, : image.width]
    light = luminance(image)
    _, busy = detail(light)
    room = np.minimum(light, 255 - light)
    ends = 1 + (AT_THE_ENDS - 1) * np.clip(1 - room / (2 * STRENGTH), 0, 1)
    mark = mark * np.minimum(strength(busy) + STRENGTH * (ends - 1), STRONGEST) * drawn
    pixels = np.array(image)
    colours = pixels[..., :3]
    colours[...] = (colours + mark[..., None]).round().clip(0, 255)
    marked = Image.fromarray(pixels)
    marked.info = dict(image.info)
    return marked
