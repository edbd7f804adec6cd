"""Measures how well what `unclip edit` draws fits what it keeps, by the ways to fill in.

    python benchmarks/seam.py [--model NAME] [--pictures 8] [--quick]

Pictures are drawn by the bundle itself, one for each prompt, and edited with masks of three kinds: a box in
the middle, the lower half, a ring. The seam is the mean difference of neighbouring pixels across the mask's
edge, beside that of pairs inside and outside (`unclip.manipulate.seam`), in 8-bit levels. `pasted` is the
edge of another picture of the prompt that is put into the hole as it is. Writes
`benchmarks/results/seam-NAME.json`; with --quick two pictures at few steps, and no file.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import unclip
from unclip.given import KEPT, REDRAWN
from unclip.manipulate.seam import seam
from unclip.model import Model

RESULTS = Path(__file__).parent / "results"
PROMPTS = Path(__file__).parent / "prompts.txt"
ROUNDS = (1, 3, 10)
SIZE = 256
PARTS = ("across", "inside", "outside")


def masks() -> dict[str, Image.Image]:
    """Mode L, 255 where a picture is kept."""
    made = {name: Image.new("L", (SIZE, SIZE), KEPT) for name in ("box", "half", "ring")}
    quarter = SIZE // 4
    made["box"].paste(REDRAWN, (quarter, quarter, 3 * quarter, 3 * quarter))
    made["half"].paste(REDRAWN, (0, SIZE // 2, SIZE, SIZE))
    draw = ImageDraw.Draw(made["ring"])
    for inset, level in ((SIZE // 10, REDRAWN), (3 * SIZE // 10, KEPT)):
        draw.ellipse((inset, inset, SIZE - inset, SIZE - inset), fill=level)
    return made


def transparent(keep: Image.Image) -> Image.Image:
    """A mask as `edit` takes it."""
    mask = Image.new("RGBA", keep.size)
    mask.putalpha(keep)
    return mask


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each part over the pictures, leaving out what has no pairs."""
    found = {}
    for part in PARTS:
        values = [row[part] for row in rows if not math.isnan(row[part])]
        found[part] = round(float(np.median(values)), 2)
    return found


def measure(model: Model, prompts: list[str], steps: int | None) -> dict[str, dict[str, float]]:
    """Medians of the seam by way of filling in."""
    first = "trained" if model.fills_in else "1 round"
    ways = {"pasted": None, **{first if rounds == 1 else f"{rounds} rounds": rounds for rounds in ROUNDS}}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for seed, prompt in enumerate(prompts):
        (picture,) = model.generate(prompt, size=SIZE, seed=seed)
        (other,) = model.generate(prompt, size=SIZE, seed=seed + 1000)
        for keep in masks().values():
            for name, rounds in ways.items():
                if rounds is None:
                    image = Image.composite(picture.image, other.image, keep)
                else:
                    (edited,) = model.edit(
                        picture.image,
                        transparent(keep),
                        prompt,
                        size=SIZE,
                        seed=seed,
                        steps=steps,
                        rounds=rounds,
                    )
                    image = edited.image
                rows[name].append(vars(seam(image, keep)))
        print(prompt, {name: round(found[-1]["across"], 1) for name, found in rows.items()}, flush=True)
    return {name: medians(found) for name, found in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="two pictures at four steps, no file")
    arguments = parser.parse_args()
    model = Model.load(arguments.model)
    lines = [line for line in PROMPTS.read_text(encoding="utf-8").splitlines() if line.strip()]
    count = 2 if arguments.quick else arguments.pictures
    chosen = [lines[k * len(lines) // count] for k in range(count)]
    found = measure(model, chosen, 4 if arguments.quick else None)
    about = {"model": model.bundle.name, "weights": model.bundle.identity, "version": unclip.__version__}
    report = json.dumps({**about, "pictures": count, "levels": found}, indent=1)
    print(report)
    if not arguments.quick:
        (RESULTS / f"seam-{model.bundle.name}.json").write_text(report + "\n")


if __name__ == "__main__":
    main()
