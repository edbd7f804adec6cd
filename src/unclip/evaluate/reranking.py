"""The best of many: what choosing by CLIP adds to what is drawn (section 2.6 of 2102.12092, figure 9c)."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from unclip.drawing import Options
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.guidance import captioned
from unclip.evaluate.pictures import DISTANCE_RATIO, RECALL
from unclip.evaluate.sample import Sample
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import frechet_distances, mean
from unclip.pipeline import Pipeline

SECTION = "rerank"
COUNTS = (1, 4, 16, 64)  # pictures that the best is chosen from; each divides the last
MOST = 100  # captions


def evaluate(
    model: Pipeline,
    encoder: Encoder,
    judge: Encoder,
    sample: Sample,
    language: str,
    findings: Findings,
    seed: int,
) -> Generator[Step, None, None]:
    """Judge R@1 and Frechet distance of the picture that the bundle's CLIP likes best of 1, 4, 16 and 64.

    All are chosen from the same 64 of each caption. R@1 of the best of k is the mean over the 64 / k series
    of k that follow each other; the Frechet distance is that of the first series.
    """
    asked = captioned(judge, sample, language, MOST, seed)
    offered = sample.others(language, seed).shape[1] + 1
    several = COUNTS[-1]
    prompts = [prompt for prompt in asked.prompts for _ in range(several)]
    options = Options(size=model.sizes[0])
    drawn = yield from draw(model, prompts, seed, f"{SECTION} {language}", options)
    texts = encoder.texts(list(asked.prompts))  # (C, E)
    liked = np.einsum("cke,ce->ck", _series(encoder.images(drawn), several), texts)  # (C, K)
    features = _series(judge.images(drawn), several)  # (C, K, E)
    right = np.stack([asked.right(features[:, k]) for k in range(several)], axis=1)  # (C, K)
    for count in COUNTS:
        best = chosen(liked, count)  # (C, K / count)
        recall = mean(np.take_along_axis(right, best, axis=1).mean(axis=1), asked.concepts, seed)
        where = (sample.split, language, f"best of {count}")
        findings.figures.append(Figure(SECTION, RECALL, recall, *where, offered))
        first = features[np.arange(len(best)), best[:, 0]]
        distances = frechet_distances(first, asked.real, seed)
        if distances is not None:
            findings.figures.append(Figure(SECTION, DISTANCE_RATIO, distances.ratio, *where))


def chosen(liked: np.ndarray, count: int) -> np.ndarray:
    """Of scores (C, K) the position of the best one in each series of `count`, int64 (C, K / count)."""
    rows, several = liked.shape
    best = liked.reshape(rows, several // count, count).argmax(axis=2)
    return np.asarray(best + np.arange(0, several, count))


def _series(features: np.ndarray, several: int) -> np.ndarray:
    """(C * K, E) -> (C, K, E)."""
    return features.reshape(-1, several, features.shape[1])
