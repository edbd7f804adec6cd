"""Draws the second sheet of docs/editing.md: what starts from pictures, fills them in and extends them.

    python benchmarks/editing_sheet.py docs/images/editing-2.png --basis PICTURES [--model RUN] [--quick]

Rows: a red apple, and "a green apple" that starts from it at rising strength; a cat face from its first
principal components, and itself; a hole and what fills it, a wide picture and what is drawn in above and
below it, and half of the apple extended to the right. The first picture of each is taken, none is chosen by
hand; --quick draws at few steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from unclip.families.unclip import UnCLIP
from unclip.images import fit_square, on_white
from unclip.sheets import contact_sheet

SIZE, SHOWN = 256, 160
STRENGTHS = (0.3, 0.5, 0.7, 0.9)
COMPONENTS = (1, 8, 32, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the sheet, PNG")
    parser.add_argument("--basis", help="pictures to take principal components from; by default the bundle's")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    model = UnCLIP.load(arguments.model)
    steps = 4 if arguments.quick else None
    apple, cat = (
        model.generate(prompt, size=SIZE, seed=seed, steps=steps)[0].image
        for prompt, seed in (("a red apple", 1), ("a cat face", 3))
    )
    started = [
        model.generate("a green apple", init=apple, strength=strength, size=SIZE, seed=2, steps=steps)[0]
        for strength in STRENGTHS
    ]
    reduced = model.reconstruct(cat, COMPONENTS, basis=arguments.basis, size=SIZE, seed=4, steps=steps)
    holed = cat.convert("RGBA")
    holed.paste((0, 0, 0, 0), (0, SIZE // 2, SIZE, SIZE))
    wide = cat.crop((0, SIZE // 6, SIZE, SIZE - SIZE // 6))
    filled = [
        model.edit(picture, None, "a cat face", size=SIZE, seed=5, steps=steps)[0]
        for picture in (holed, wide)
    ]
    half = apple.crop((0, 0, SIZE // 2, SIZE))
    extended = model.outpaint(half, "a red apple", right=SIZE // 2, size=SIZE, seed=7, steps=steps)
    drawn: list[Image.Image] = [
        *(apple, *(picture.image for picture in started)),
        *(*(picture.image for picture in reduced), cat),
        *(on_white(holed), filled[0].image, wide, filled[1].image, extended[0].image),
    ]
    contact_sheet([fit_square(image, SHOWN) for image in drawn], columns=5).save(arguments.out)


if __name__ == "__main__":
    main()
