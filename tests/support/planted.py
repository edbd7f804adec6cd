"""Pictures with as much in them as a photograph, and copies of them as people make them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(seed: int, width: int = 96, height: int = 80) -> Image.Image:
    """Patches of colour at several scales: none is like another."""
    random = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((3, 1.0), (6, 0.7), (12, 0.4), (24, 0.2)):
        part = random.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        layers = [
            np.asarray(Image.fromarray(part[..., c]).resize((width, height), Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        whole += weight * np.stack(layers, axis=-1)
    return Image.fromarray(np.clip(127 + 80 * whole, 0, 255).astype(np.uint8))


def packed(image: Image.Image, quality: int = 92) -> bytes:
    """A picture as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda image: packed(image.resize((70, 58)), 50),
    "mirror": lambda image: packed(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "turned": lambda image: packed(image.rotate(90, expand=True)),
    "brighter": lambda image: packed(image.point(lambda value: min(255, int(value * 1.15)))),
}


def captioned(folder: Path, captions: dict[str, str], first_seed: int = 0) -> Path:
    """A folder of different photographs NAME.jpg with a text beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, caption) in enumerate(captions.items()):
        (folder / f"{name}.jpg").write_bytes(packed(photograph(first_seed + number)))
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


def digests(folder: Path) -> dict[str, str]:
    """The files of a corpus, but for those in folders within, by their hashes."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix != ".lock"
    }
