"""Guidance swept: what its scale does to fidelity and to diversity (2204.06125, 5.2; 2105.05233, 4.3).

Any family that has the scale draws the same captions, or classes, at every scale with the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unclip.data.corpus import Corpus
from unclip.drawing import Options
from unclip.errors import DataError
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.pictures import apart, score
from unclip.evaluate.sample import Sample
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import Estimate, frechet_distances, mean, nearest, share
from unclip.pipeline import Pipeline


@dataclass(frozen=True)
class Asked:
    """The prompts that are drawn at every scale, and their judge.

    Attributes:
        prompts: captions or classes, C of them.
        concepts: (C,) what each is about.
        real: (C, E) the judge's features of a real picture of each.
        right: features (C, E) of a drawn picture of each -> whether the judge knows it for that, bool (C,).
    """

    prompts: Sequence[str]
    concepts: np.ndarray
    real: np.ndarray
    right: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Point:
    """The figures of one scale.

    Attributes:
        scale: of the guidance.
        right: share of pictures that the judge knows for what was asked.
        variety: mean of 1 - cosine over all pairs of pictures of one caption or class, in the judge's space.
        distance: Frechet distance to real pictures of the same captions or classes over the real ones' own;
            None where they are too few.
    """

    scale: float
    right: Estimate
    variety: Estimate
    distance: Estimate | None


def captioned(judge: Encoder, sample: Sample, language: str, count: int, seed: int) -> Asked:
    """The first captions of a sample; right is what the judge takes for its caption among a hundred."""
    rows = sample.named(language)[:count]
    return Asked(
        prompts=sample.prompts[language][rows].tolist(),
        concepts=sample.concepts[rows],
        real=judge.images(sample.pixels(judge.size)[rows]),
        right=lambda features: score(judge, sample, language, features, seed).right,
    )


def classed(
    judge: Encoder, train: Corpus, held_out: Corpus, column: str, count: int, seed: int
) -> Generator[Step, None, Asked]:
    """The classes of held-out pictures drawn by chance; right is what has a training picture of its class as
    the nearest one to the judge.

    Args:
        judge: what sees the pictures.
        train, held_out: two splits of a corpus.
        column: of the records, that the classes stand in.
        count: how many pictures, at most.
        seed: of the choice.

    Raises:
        DataError: no held-out picture has a class.
    """
    classes = np.array(held_out.column(column))
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(classes != ""))[:count]
    if not len(rows):
        raise DataError(f"no picture of {held_out.split} in {held_out.folder} has a {column}")
    training = yield from judge.corpus(train)  # (N, E)
    known = np.array(train.column(column))
    training, known = training[known != ""], known[known != ""]
    return Asked(
        prompts=classes[rows].tolist(),
        concepts=np.array(held_out.column("concept"))[rows],
        real=judge.images(np.asarray(held_out.pixels(judge.size)[rows])),
        right=lambda features: known[nearest(features, training)[0]] == classes[rows],
    )


def sweep(
    model: Pipeline,
    judge: Encoder,
    asked: Asked,
    option: str,
    scales: Sequence[float],
    pictures: int,
    seed: int,
) -> Generator[Step, None, list[Point]]:
    """Draw so many pictures of each prompt at every scale of an option, "guidance" or "clip_guidance"."""
    found = []
    for scale in scales:
        # where another is swept, classifier-free guidance is off
        swept: dict[str, Any] = {"guidance": 1.0, option: scale}
        options = Options(size=model.sizes[0], **swept)
        series = []
        for k in range(pictures):
            label = f"{option} {scale:g}, {k + 1} of {pictures}"
            drawn = yield from draw(model, asked.prompts, seed + k, label, options)
            series.append(judge.images(drawn))
        found.append(measured(asked, np.stack(series, axis=1), scale, seed))
    return found


def measured(asked: Asked, features: np.ndarray, scale: float, seed: int) -> Point:
    """The point of a scale from features (C, K, E) of K pictures of each prompt, K at least 2."""
    count = features.shape[1]
    right = np.stack([asked.right(features[:, k]) for k in range(count)], axis=1)  # (C, K)
    varieties = np.array([apart(several) for several in features])
    distances = frechet_distances(features[:, 0], asked.real, seed)
    return Point(
        scale=scale,
        right=share(right.ravel(), np.repeat(asked.concepts, count)),
        variety=mean(varieties, asked.concepts, seed),
        distance=None if distances is None else distances.ratio,
    )
