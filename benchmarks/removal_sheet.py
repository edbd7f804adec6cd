"""Draws the sheet of docs/editing.md on things removed.

    python benchmarks/removal_sheet.py PHOTOS docs/images/removal.png

PHOTOS is a folder with pictures of scikit-image's `data`: astronaut.png, brick.png, chelsea.png, coffee.png
and rocket.jpg, in the public domain or CC0. The sixth is an apple by the shipped bundle, whose stalk goes.
Above is what a mask leaves of them, below what `unclip edit --remove` makes of it with seed 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from unclip.images import fit_square, open_image
from unclip.manipulate.removal import removed
from unclip.model import Model
from unclip.sheets import contact_sheet

SHOWN = 160
HOLE = (255, 0, 255)
AROUND = 1.2  # of the longer side of a hole, on each side of its middle, that is shown
# The ellipse that is removed: left, upper, right, lower.
MASKS = {
    "coffee.png": (20, 150, 110, 250),
    "rocket.jpg": (350, 300, 450, 427),
    "brick.png": (200, 200, 300, 300),
    "astronaut.png": (20, 20, 120, 160),
    "chelsea.png": (330, 120, 420, 200),
}
APPLE = (80, 0, 190, 62)


def shown(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The part of a picture around a hole."""
    reach = AROUND * max(box[2] - box[0], box[3] - box[1])
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    start = [max(0, round(at - reach)) for at in middle]
    end = [min(side, round(at + reach)) for at, side in zip(middle, image.size, strict=True)]
    return fit_square(image.crop((*start, *end)), SHOWN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, help="the folder of photos")
    parser.add_argument("out", type=Path, help="the sheet, PNG")
    arguments = parser.parse_args()
    (apple,) = Model.load().generate("a red apple", size=256, seed=1)
    pictures = [(open_image(arguments.photos / name).convert("RGB"), box) for name, box in MASKS.items()]
    above, below = [], []
    for image, box in [*pictures, (apple.image, APPLE)]:
        shares = Image.new("L", image.size)
        ImageDraw.Draw(shares).ellipse(box, fill=255)
        holed = image.copy()
        holed.paste(HOLE, (0, 0), shares)
        above.append(shown(holed, box))
        below.append(shown(removed(image, shares, np.random.default_rng((0, 0))), box))
    contact_sheet([*above, *below], len(above)).save(arguments.out)


if __name__ == "__main__":
    main()
