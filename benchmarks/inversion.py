"""Measures how well pictures come back from their two latents, by steps and rounds of the inversion.

    python benchmarks/inversion.py CORPUS [--model RUN/bundle] [--pictures 16]

Held-out pictures of a corpus (`unseen-pairs`), at the decoder's size. Writes
`benchmarks/results/inversion.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import unclip
from unclip.data.corpus import Corpus
from unclip.given import Inversion
from unclip.model import Model

RESULT = Path(__file__).parent / "results" / "inversion.json"
WAYS = [(10, 2), (25, 0), (25, 2), (50, 0), (50, 2)]  # steps, fixed-point rounds


def psnr(found: Image.Image, truth: np.ndarray) -> float:
    """In dB, of 8-bit pictures."""
    error = np.asarray(found, dtype=float) - truth
    return float(10 * np.log10(255**2 / max(float((error**2).mean()), 1e-3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder that `unclip data` made")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--pictures", type=int, default=16)
    arguments = parser.parse_args()
    model = Model.load(arguments.model)
    size = model.sizes[0]
    corpus = Corpus(arguments.corpus, "unseen-pairs")
    chosen = np.linspace(0, len(corpus) - 1, arguments.pictures).astype(int)
    pixels = corpus.pixels(size)[chosen]  # (N, S, S, 3)
    rows = []
    for steps, rounds in WAYS:
        values, lengths = [], []
        for truth in pixels:
            latents = model.encode(Image.fromarray(truth), Inversion(steps=steps, iterations=rounds))
            values.append(psnr(model.decode(latents, size=size).image, truth))
            lengths.append(float(torch.std(latents.x_T)))
        low, median, high = np.percentile(values, [5, 50, 95])
        row = {"steps": steps, "rounds": rounds, "median": median, "low": low, "high": high}
        rows.append(row | {"x_T_std": float(np.median(lengths))})
        print({name: round(float(value), 2) for name, value in rows[-1].items()}, flush=True)
    about = {"model": model.bundle.name, "weights": model.bundle.identity, "pictures": len(pixels)}
    RESULT.write_text(json.dumps({**about, "version": unclip.__version__, "dB": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
