"""Draws held-out captions with many settings of a bundle: what the judge says of each, and what it costs.

    python benchmarks/pareto.py CORPUS JUDGE [BUNDLE] [--captions 300]

One thing at a time is changed from the bundle's own settings: sampler, steps, guidance and its interval,
noise on the embedding of the decoder; guidance, candidates and steps of the prior. All draw captions of
`unseen-pairs` in English with the same noise. What counts as memorised stands in docs/evaluation.md.
Seconds are of prior and decoder, drawing in bulk, so compare them within one run. Writes
`benchmarks/results/pareto.json` and the chart `docs/images/pareto.svg`. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from chart import Place, Series, chart
from guidance import told

import unclip
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.drawing import Options, Prior
from unclip.evaluate.encoder import Encoder
from unclip.evaluate.pictures import Scored, closer, score
from unclip.evaluate.sample import Sample, take
from unclip.evaluate.stages import Stages
from unclip.evaluate.statistics import frechet_distances, mean, ratio, share
from unclip.model import Model
from unclip.runtime import atomic_path, pick_device, pick_precision
from unclip.stages.prior import Diffused

ROOT = Path(__file__).parent.parent
RESULT, FIGURE = ROOT / "benchmarks/results/pareto.json", ROOT / "docs/images/pareto.svg"
LANGUAGE = "en"
WARM = 16  # captions that are drawn before the clock runs


@dataclass(frozen=True)
class Setting:
    """Changes to the bundle's own settings, fields of `Sampling` for each of the two."""

    name: str
    decoder: dict[str, Any] = field(default_factory=dict)
    prior: dict[str, Any] = field(default_factory=dict)


def settings() -> Iterator[Setting]:
    """The bundle's own first, then those that differ from it."""
    yield Setting("own")
    for steps in (4, 6, 8, 12, 16, 32):
        yield Setting(f"DDIM, {steps} steps", {"sampler": "ddim", "steps": steps})
    for steps in (4, 6, 8, 12, 16, 24, 32):
        yield Setting(f"DPM-Solver++, {steps} steps", {"sampler": "dpm++", "steps": steps})
    for scale in (1.0, 1.5, 3.0, 4.0):
        yield Setting(f"guidance {scale:g}", {"guidance": scale})
    for steps in (4, 16):
        yield Setting(f"guidance 1, {steps} steps", {"guidance": 1.0, "steps": steps})
    for low, high in ((0.0, 2.0), (0.3, 5.0), (1.0, 1e9)):
        upper = "above" if high > 1e6 else f"to {high:g}"
        yield Setting(f"guidance 2, sigma/alpha {low:g} {upper}", {"interval": (low, high)})
    for level in (0.0, 0.2):
        yield Setting(f"noise {level:g} on the embedding", {"noise_level": level})
    for scale in (1.0, 2.0, 5.0):
        yield Setting(f"prior's guidance {scale:g}", prior={"guidance": scale})
    for candidates in (1, 2, 8):
        yield Setting(f"prior, candidates {candidates}", prior={"candidates": candidates})
    for steps in (6, 24):
        yield Setting(f"prior, {steps} steps", prior={"steps": steps})


def drawn(model: Stages, setting: Setting, prompts: Sequence[str], seed: int) -> np.ndarray:
    """Small pictures of the captions, uint8 (N, S, S, 3)."""
    prior, decoder = model.prior(Prior.DIFFUSION), model.family.decoder(Options())
    assert isinstance(prior.how, Diffused)
    changed = replace(prior.how.sampling, **setting.prior)
    prior = replace(prior, how=replace(prior.how, sampling=changed), candidates=changed.candidates)
    how = replace(decoder.denoising, sampling=replace(decoder.denoising.sampling, **setting.decoder))
    decoder = replace(decoder, denoising=how)
    embeddings = told(model.imagine(prompts, seed, f"{setting.name}, prior", prior))
    return told(model.paint(prompts, embeddings, seed, setting.name, decoder))


def measure(
    model: Stages,
    judge: Encoder,
    sample: Sample,
    training: np.ndarray,
    chosen: Sequence[Setting],
    seed: int,
) -> list[dict[str, Any]]:
    """The judge's figures for each setting, against real pictures and against the first setting.

    `training` are its features of the training pictures, (T, E).
    """
    rows = sample.named(LANGUAGE)
    prompts = sample.prompts[LANGUAGE][rows].tolist()
    concepts = sample.concepts[rows]
    real = score(judge, sample, LANGUAGE, judge.images(sample.pixels(model.model.sizes[0])[rows]), seed)
    first: tuple[Scored, np.ndarray] | None = None
    found = []
    for setting in chosen:
        drawn(model, setting, prompts[:WARM], seed)
        started = time.perf_counter()
        pictures = drawn(model, setting, prompts, seed)
        seconds = (time.perf_counter() - started) / len(prompts)
        scored = score(judge, sample, LANGUAGE, judge.images(pictures), seed)
        _, copied = closer(scored.features, training)
        first = first or (scored, copied)
        distances = frechet_distances(scored.features, real.features, seed)
        assert distances is not None  # of a hundred captions and more
        gained = scored.right.astype(float) - first[0].right
        point = {
            **asdict(setting),
            "seconds": seconds,
            "recall_over_real": asdict(ratio(scored.right, real.right, concepts, seed)),
            "recall_gained": asdict(mean(gained, concepts, seed)),
            "frechet_over_real": asdict(distances.ratio),
            "memorised": asdict(share(copied, concepts)),
            "memorised_gained": asdict(mean(copied.astype(float) - first[1], concepts, seed)),
        }
        found.append(point)
        print(f"\r{setting.name}: {seconds:.3f} s, {point['recall_over_real']['value']:.3f}\033[K")
    return found


def frontier(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that no quicker one is better than, the quickest first."""
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda point: float(point["seconds"])):
        if not best or point["recall_over_real"]["value"] > best[-1]["recall_over_real"]["value"]:
            best.append(point)
    return best


def figure(points: Sequence[dict[str, Any]]) -> str:
    """All settings as points, the best of their time joined and named."""

    def places(some: Sequence[dict[str, Any]], *, named: bool) -> list[Place]:
        return [Place(p["seconds"], p["recall_over_real"]["value"], p["name"] if named else "") for p in some]

    best = frontier(points)
    series = [
        Series("the best of their time", places(best, named=True)),
        Series("others", places([point for point in points if point not in best], named=False), line=False),
        Series("the bundle's own", places(points[:1], named=True), line=False),
    ]
    lowest = math.floor(10 * min(point["recall_over_real"]["value"] for point in points)) / 10
    label = "judge R@1, drawn / real"
    return chart(series, "seconds a picture", label, lowest=lowest, names_below=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder that `unclip data` made")
    parser.add_argument("judge", help="folder of a run of `unclip train judge`")
    parser.add_argument("bundle", nargs="?", help="name or folder; the shipped one by default")
    parser.add_argument("--captions", type=int, default=300, help="100 or more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    arguments = parser.parse_args()
    if arguments.captions < 100:
        parser.error("--captions: 100 or more, else no figure says anything")
    device = pick_device()
    judge = Encoder.load(arguments.judge, device, pick_precision(device))
    drawer = Model.load(arguments.bundle, device=str(device))
    model = Stages(drawer)
    corpus = Corpus(arguments.corpus, Split.UNSEEN_PAIRS)
    sample = take(corpus, arguments.captions, [LANGUAGE], style=True, seed=arguments.seed)
    training = told(judge.corpus(Corpus(arguments.corpus, Split.TRAIN)))
    points = measure(model, judge, sample, training, list(settings()), arguments.seed)
    report = {
        "bundle": drawer.bundle.name,
        "weights": drawer.bundle.identity,
        "judge": judge.name,
        "judge_weights": judge.weights,
        "captions": len(sample),
        "seed": arguments.seed,
        "precision": str(drawer.precision).removeprefix("torch."),
        "version": unclip.__version__,
        "points": points,
    }
    for path, text in (
        (arguments.out, json.dumps(report, indent=1) + "\n"),
        (arguments.figure, figure(points)),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(text)


if __name__ == "__main__":
    main()
