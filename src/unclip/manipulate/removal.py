"""Things removed from pictures: the hole is filled from what surrounds it, by no network.

A network draws what it knows: told nothing it invents a thing, and told what CLIP sees around the hole it
meets its colours less well than patches do. Patches of what surrounds the hole cannot show what is not there.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from unclip.errors import InputError
from unclip.images import WHITE
from unclip.manipulate.patch_fill import patch_filled

AROUND = 1.0  # of the hole's sides: how far from it patches are taken
LEAST_AROUND = 64  # pixels


def removed(image: Image.Image, shares: Image.Image, random: np.random.Generator) -> Image.Image:
    """A picture, RGB or RGBA, with its hole filled from what surrounds it, transparency too.

    Args:
        image: the picture.
        shares: mode L of the same size, 0 where it stays, 255 where it is filled, between them blended.
        random: decides between patches.

    Raises:
        InputError: all of the picture is to be filled.
    """
    levels = np.asarray(shares)  # (H, W)
    if levels.all():
        raise InputError("the mask covers all of the picture: leave what the hole is to be filled from")
    box = shares.getbbox()
    if box is None:
        return image.copy()
    beyond = [max(LEAST_AROUND, round(AROUND * (box[axis + 2] - box[axis]))) for axis in (0, 1)]
    x0, y0 = (max(0, box[axis] - beyond[axis]) for axis in (0, 1))
    x1, y1 = (min(image.size[axis], box[axis + 2] + beyond[axis]) for axis in (0, 1))
    pixels = np.array(image.crop((x0, y0, x1, y1)))  # (h, w, 3 or 4)
    inside = levels[y0:y1, x0:x1]
    seen = pixels.copy()
    if image.mode == "RGBA":
        seen[seen[..., 3] == 0, :3] = WHITE  # whatever stands there is not seen
    filled = patch_filled(seen, inside > 0, random)
    share = inside[..., None] / 255
    mixed = (share * filled + (1 - share) * pixels).round().astype(np.uint8)
    whole = image.copy()
    whole.paste(Image.fromarray(np.where(inside[..., None] > 0, mixed, pixels)), (x0, y0))
    return whole
