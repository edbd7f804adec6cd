"""Blind pairs of two bundles' pictures of one prompt, for people to prefer (section 5.1 of 2112.10741)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from random import Random

from PIL import Image

from unclip.drawing import Options
from unclip.errors import InputError
from unclip.evaluate import forms
from unclip.evaluate.encoder import Step
from unclip.evaluate.names import COMPOSED, frozen, shown_size
from unclip.evaluate.stages import draw
from unclip.images import fit_square
from unclip.pipeline import Pipeline
from unclip.sheets import contact_sheet


def english() -> list[str]:
    """The English prompts of `names`, compositions among them."""
    return [name.prompt for name in frozen()[0] if name.group in ("en", COMPOSED)]


def prefer(
    first: Pipeline, second: Pipeline, folder: Path, prompts: Sequence[str] | None = None, seed: int = 1
) -> Generator[Step, None, list[Path]]:
    """Write blind pairs of pictures with their prompts, a form and a key.

    Args:
        first, second: draw; which is left is chance, and the key says it.
        folder: for sheets, form and key.
        prompts: None is the English ones of `names`.
        seed: of both bundles' pictures.

    Raises:
        InputError: no prompts.
    """
    asked = list(prompts) if prompts is not None else english()
    if not asked:
        raise InputError("no prompt given: say what both are to draw")
    drawn = []
    side = min(shown_size(first), shown_size(second))
    for label, model in (("a", first), ("b", second)):
        size = side if side in model.sizes else shown_size(model)
        pixels = yield from draw(model, asked, seed, f"drawing {label}", Options(size=size))
        drawn.append(pixels)
    sides = [bool(row % 2) for row in range(len(asked))]  # as often left as right
    Random(f"prefer {seed}").shuffle(sides)
    images, items = [], []
    for row, prompt in enumerate(asked):
        swapped = sides[row]
        pair = [fit_square(Image.fromarray(pixels[row]), side) for pixels in drawn]
        images.append(contact_sheet(pair[::-1] if swapped else pair, 2, gap=4))
        items.append({"prompt": prompt, "left": "b" if swapped else "a"})
    about = {
        "a": f"{first.bundle.name} {first.bundle.identity}",
        "b": f"{second.bundle.name} {second.bundle.identity}",
        "seed": str(seed),
    }
    return forms.write(folder, forms.PREFER, images, items, about)
