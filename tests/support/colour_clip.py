"""CLIPs that know colours; run as a script this is a writer that can be killed.

    python -m support.colour_clip FOLDER SECONDS

indexes a folder, four pictures in a commit, with a pause after each, and says on stdout what is committed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unclip.images import fit, open_image
from unclip.manifest import Preprocessing

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
PRIMARIES = {name: COLOURS[name] for name in ("red", "green", "blue")}
KOREAN = {"빨간": "red", "파란": "blue"}


class Colours:
    """Embeds pictures by their mean colour (and a little by their halves), texts by the colours they name."""

    name = "colours"
    photographic = None
    scale = 30.0

    def __init__(self, identity: str = "colours-1") -> None:
        self.identity = identity
        self.preprocessing = Preprocessing(size=8, fit="crop")
        self.embedded = 0  # pictures
        self.texts: list[str] = []

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        rows = []
        for text in texts:
            named = [COLOURS[name] for name in COLOURS if name in text]
            named += [COLOURS[name] for word, name in KOREAN.items() if word in text]
            mean = np.mean(named, axis=0) / 255 if named else np.full(3, 0.5)
            rows.append(self._row(mean, np.zeros(5), 0.0 if named else 1.0))
        return torch.from_numpy(np.array(rows, np.float32))

    def embed_images(self, images: Sequence[Image.Image | Path | str]) -> Tensor:
        opened = [image if isinstance(image, Image.Image) else open_image(image) for image in images]
        return self.embed_pixels(np.stack([np.asarray(fit(one, 8, "crop")) for one in opened]))

    def embed_pixels(self, pixels: np.ndarray) -> Tensor:
        self.embedded += len(pixels)
        values = pixels.astype(np.float32) / 255  # (N, 8, 8, 3)
        rows = [self._row(one.mean((0, 1)), one.mean(2)[2:7, 3] - one.mean(2)[2:7, 4], 0.0) for one in values]
        return torch.from_numpy(np.array(rows, np.float32))

    def _row(self, colour: np.ndarray, grain: np.ndarray, nothing: float) -> np.ndarray:
        row = np.concatenate([colour, 0.2 * grain, [nothing]])
        return row / np.linalg.norm(row)


class MeanColours:
    """It knows three colours: pictures by their mean, texts by the colour that they name."""

    name = "mean colours"
    photographic = None
    scale = 10.0
    preprocessing = Preprocessing(size=4, fit="stretch")

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        self.texts += texts
        rows = [[float(name in text) for name in PRIMARIES] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(rows) + 0.01, dim=-1)

    def embed_images(self, images: Sequence[Image.Image | Path | str]) -> Tensor:
        return self.embed_pixels(np.stack([self.prepare(image) for image in images]))

    def embed_pixels(self, pixels: np.ndarray) -> Tensor:
        means = torch.from_numpy(pixels).float().mean((1, 2))
        return torch.nn.functional.normalize(means + 0.01, dim=-1)

    def prepare(self, image: Image.Image | Path | str) -> np.ndarray:
        assert isinstance(image, Image.Image)
        return np.asarray(image.convert("RGB").resize((4, 4)))


def main() -> None:
    """Index slowly."""
    from unclip.search.writer import Writer

    folder, pause = Path(sys.argv[1]), float(sys.argv[2])
    for stage, done, total in Writer(folder, Colours(), workers=1, batch=4).run():
        print(stage, done, total, flush=True)
        if stage == "pictures" and done:
            time.sleep(pause)


if __name__ == "__main__":
    main()
