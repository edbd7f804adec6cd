"""Draws the fixed prompts of `prompts.txt` and lays them out on one sheet: what a bundle can do, at a glance.

    python benchmarks/contact_sheet.py docs/images/contact-sheet.png [--model RUN/bundle] [--seed 1]

The first picture of each prompt is taken, none is chosen by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import unclip
from unclip.sheets import contact_sheet

PROMPTS = Path(__file__).parent / "prompts.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="the sheet, PNG")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="text file, one prompt a line")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="side that is drawn")
    parser.add_argument("--shown", type=int, default=128, help="side on the sheet")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--prior-guidance", type=float)
    parser.add_argument("--rerank", type=int)
    arguments = parser.parse_args()
    prompts = [line for line in arguments.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    model = unclip.load(arguments.model)
    pictures = model.generate(
        prompts,
        size=arguments.size,
        seed=arguments.seed,
        steps=arguments.steps,
        guidance=arguments.guidance,
        prior_guidance=arguments.prior_guidance,
        rerank=arguments.rerank,
    )
    side = (arguments.shown, arguments.shown)
    shown = [picture.image.resize(side) for picture in pictures]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(shown, arguments.columns, prompts).save(arguments.out)


if __name__ == "__main__":
    main()
