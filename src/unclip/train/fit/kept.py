"""Drawings of the bundle that is fitted, mixed into what it learns from, so that it forgets little.

This is the prior preservation of DreamBooth (2208.12242, section 3.3) with the prompts as the bundle draws
them: where it adds a style to a plain prompt, that is said in the caption.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unclip.bundle import Bundle
from unclip.data.prompts import in_style
from unclip.drawing import Options
from unclip.evaluate.encoder import Step
from unclip.evaluate.stages import draw
from unclip.model import Model
from unclip.runtime import atomic_path
from unclip.styling import chosen
from unclip.train.fit.things import prompts

SEED = 28


@dataclass(frozen=True)
class Drawings:
    """Pictures that a bundle drew: `pixels` uint8 (N, S, S, 3), and the prompts (N,) that it read."""

    pixels: np.ndarray
    prompts: list[str]

    def __len__(self) -> int:
        return len(self.prompts)

    def save(self, path: Path) -> None:
        """Writes them into one file, whole or not at all."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, pixels=self.pixels, prompts=np.array(json.dumps(self.prompts)))

    @classmethod
    def load(cls, path: Path) -> Drawings:
        """Those that `save` wrote."""
        with np.load(path) as found:
            return cls(found["pixels"], json.loads(str(found["prompts"])))


def draw_kept(base: Bundle, count: int, device: str | None = None) -> Generator[Step, None, Drawings]:
    """Pictures of everyday things as the bundle draws them, at its decoder's size; at most `count`.

    Yields (label, done, total).
    """
    clear = base.styles.clear
    plain = prompts(count, base.languages)
    said = [in_style(text, chosen(clear, SEED, k)) if clear else text for k, text in enumerate(plain)]
    model = Model(base, device=device)
    options = Options(size=min(model.sizes))
    pixels = yield from draw(model, said, SEED, f"drawing what {base.name} knows", options)
    return Drawings(pixels, said)
