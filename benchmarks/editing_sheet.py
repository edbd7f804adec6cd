"""Draws the two sheets of docs/editing.md.

    python benchmarks/editing_sheet.py latents docs/images/editing.png [--model RUN] [--quick]
    python benchmarks/editing_sheet.py pictures docs/images/editing-2.png [--basis PICTURES] [--model RUN]

`latents`, by rows: a red apple's variations at rising strength; a blend from it to a blue heart; a cat face
from flat to 3D style; the apple from red to green; the apple, what a mask leaves of it, and four ways to fill
that. `pictures`, by rows: the apple, and "a green apple" that starts from it at rising strength; a cat face
from its first principal components, and itself; a hole and what fills it, a wide picture and what is drawn in
above and below it, and half of the apple extended to the right. The first picture of each is taken, none is
chosen by hand; --quick draws at few steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from unclip.images import fit_square, on_white
from unclip.model import Model
from unclip.sheets import contact_sheet

SIZE, SHOWN = 256, 128
ROW = 6
VARIED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STRENGTHS = (0.3, 0.5, 0.7, 0.9)
COMPONENTS = (1, 8, 32, 128)


def drawn(model: Model, prompt: str, seed: int, steps: int | None) -> Image.Image:
    return model.generate(prompt, size=SIZE, seed=seed, steps=steps)[0].image


def latents(model: Model, steps: int | None) -> list[Image.Image]:
    """Edits of a picture by its two latents, six pictures a row."""
    apple = drawn(model, "a red apple", 1, steps)
    heart = drawn(model, "a blue heart", 1, steps)
    cat = drawn(model, "a cat face, flat style", 3, steps)
    varied = [model.vary(apple, strength=strength, size=SIZE, seed=1, steps=steps)[0] for strength in VARIED]
    blended = model.blend(apple, heart, frames=ROW, size=SIZE, seed=1, steps=steps)
    styled = model.restyle(
        cat, "a cat face, flat style", "a cat face, 3D style", frames=ROW, size=SIZE, seed=1, steps=steps
    )
    green = model.restyle(apple, "a red apple", "a green apple", frames=ROW, size=SIZE, seed=1, steps=steps)
    masked = apple.convert("RGBA")
    masked.paste((0, 0, 0, 0), (0, 0, SIZE, SIZE * 2 // 5))
    filled = model.edit(masked, None, "a red apple with a green leaf", n=4, size=SIZE, seed=1, steps=steps)
    pictures = [*varied, *blended, *styled, *green]
    return [
        *(picture.image for picture in pictures),
        *(apple, on_white(masked), *(picture.image for picture in filled)),
    ]


def from_pictures(model: Model, steps: int | None, basis: str | None) -> list[Image.Image]:
    """Drawings that start from pictures, fill them in and extend them, five pictures a row."""
    apple, cat = drawn(model, "a red apple", 1, steps), drawn(model, "a cat face", 3, steps)
    started = [
        model.generate("a green apple", init=apple, strength=strength, size=SIZE, seed=2, steps=steps)[0]
        for strength in STRENGTHS
    ]
    reduced = model.reconstruct(cat, COMPONENTS, basis=basis, size=SIZE, seed=4, steps=steps)
    holed = cat.convert("RGBA")
    holed.paste((0, 0, 0, 0), (0, SIZE // 2, SIZE, SIZE))
    wide = cat.crop((0, SIZE // 6, SIZE, SIZE - SIZE // 6))
    filled = [
        model.edit(picture, None, "a cat face", size=SIZE, seed=5, steps=steps)[0]
        for picture in (holed, wide)
    ]
    half = apple.crop((0, 0, SIZE // 2, SIZE))
    extended = model.outpaint(half, "a red apple", right=SIZE // 2, size=SIZE, seed=7, steps=steps)
    return [
        *(apple, *(picture.image for picture in started)),
        *(*(picture.image for picture in reduced), cat),
        *(on_white(holed), filled[0].image, wide, filled[1].image, extended[0].image),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sheet", choices=["latents", "pictures"])
    parser.add_argument("out", type=Path, help="the sheet, PNG")
    parser.add_argument("--basis", help="pictures to take principal components from; by default the bundle's")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    model = Model.load(arguments.model)
    steps = 4 if arguments.quick else None
    if arguments.sheet == "latents":
        images, columns = latents(model, steps), ROW
    else:
        images, columns = from_pictures(model, steps, arguments.basis), 1 + len(STRENGTHS)
    contact_sheet([fit_square(image, SHOWN) for image in images], columns).save(arguments.out)


if __name__ == "__main__":
    main()
