"""Measures what a decoder makes of an embedding alone: what lies where, at the highest noise.

    python benchmarks/layout.py CORPUS [BUNDLE ...] [--pictures 128]

Mean squared error of the mean colours of 16 x 16 cells, in [-1, 1], from CLIP's embedding of the picture, on
training and on held-out pictures (`unseen-pairs`): of the mean picture, of ridge regression on the bundle's
own embeddings, and of the decoder at several ratios of noise to signal. Writes
`benchmarks/results/layout.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import unclip
from unclip.data.corpus import Corpus
from unclip.images import from_uint8
from unclip.model import Model
from unclip.models.decoder import Decoder, DecoderCondition

RESULT = Path(__file__).parent / "results" / "layout.json"
SIDE = 16
NOISE_TO_SIGNAL = (1e4, 10.0, 4.0, 2.0, 1.0)
FITTED = 8000  # pictures that the regression is fitted to
RIDGE = 0.01
BATCH = 64


def coarse(pictures: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, 3, 16, 16)."""
    return F.adaptive_avg_pool2d(pictures, SIDE)


def some(corpus: Corpus, count: int, size: int) -> Tensor:
    """(count, 3, S, S) pictures spread over the corpus."""
    return from_uint8(corpus.pixels(size)[np.linspace(0, len(corpus) - 1, count).astype(int)])


def embed(model: Model, pictures: Tensor) -> Tensor:
    """(N, E) embeddings of length one."""
    pixels = ((pictures + 1) * 127.5).round().to(torch.uint8).movedim(1, -1).numpy()
    parts = [model.clip.embed_pixels(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
    return torch.cat(parts)


def error(guess: Tensor, truth: Tensor) -> float:
    return round(float(F.mse_loss(guess, truth)), 4)


def ridge(embeddings: Tensor, truth: Tensor) -> Tensor:
    """(E + 1, P) weights of the regression of coarse pictures on embeddings and a constant."""
    design = F.pad(embeddings, (0, 1), value=1.0)
    penalty = RIDGE * design.square().sum() / design.shape[1] * torch.eye(design.shape[1])
    return torch.linalg.solve(design.T @ design + penalty, design.T @ truth.flatten(1))


@torch.no_grad()
def judge(
    model: Model, decoder: Decoder, pictures: Tensor, weights: Tensor, mean: Tensor
) -> dict[str, object]:
    """The errors on some pictures (N, 3, S, S)."""
    truth, embeddings = coarse(pictures), embed(model, pictures)
    whitened = decoder.whitening.whiten(embeddings)
    count = len(pictures)
    condition = DecoderCondition(
        whitened, torch.ones(count, dtype=torch.bool), noise_level=torch.zeros(count)
    )
    diffusion = model.bundle.component("decoder").diffusion
    assert diffusion is not None
    schedule = diffusion.build()
    generator = torch.Generator().manual_seed(0)
    by_noise = {}
    for ratio in NOISE_TO_SIGNAL:
        step = int((schedule.noise_to_signal.log() - np.log(ratio)).abs().argmin())
        alpha, sigma, label = (
            float(table[step]) for table in (schedule.alpha, schedule.sigma, schedule.label)
        )
        noised = alpha * pictures + sigma * torch.randn(pictures.shape, generator=generator)
        x0 = decoder(noised, torch.full((count,), label), condition)
        by_noise[f"{ratio:g}"] = error(coarse(x0), truth)
    flat = F.pad(embeddings, (0, 1), value=1.0) @ weights
    return {
        "mean picture": error(mean.expand_as(truth), truth),
        "linear regression": error(flat.view_as(truth), truth),
        "decoder by noise to signal": by_noise,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder that `unclip data` made")
    parser.add_argument("bundles", nargs="*", default=["pictograms"], help="names or folders of bundles")
    parser.add_argument("--pictures", type=int, default=128)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.bundles:
        model = Model.load(name)
        decoder = model.bundle.model("decoder", dtype=torch.float32).eval()
        assert isinstance(decoder, Decoder)
        size = decoder.config.image_size
        train = Corpus(arguments.corpus, "train")
        fitted = some(train, FITTED, size)
        truth = coarse(fitted)
        weights = ridge(embed(model, fitted), truth)
        row: dict[str, object] = {"model": model.bundle.name, "weights": model.bundle.identity}
        for split in ("train", "unseen-pairs"):
            pictures = some(Corpus(arguments.corpus, split), arguments.pictures, size)
            row[split] = judge(model, decoder, pictures, weights, truth.mean(dim=0))
        rows.append(row)
        print(json.dumps(row, indent=1), flush=True)
    about = {"pictures": arguments.pictures, "fitted": FITTED, "version": unclip.__version__}
    RESULT.write_text(json.dumps({**about, "bundles": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
