"""Pictures: are they what the caption says, like the held-out ones, new, and different from each other?"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from unclip.data.corpus import Corpus
from unclip.data.styles import ANY_STYLE
from unclip.drawing import Options
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.sample import Sample
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import (
    frechet_distances,
    mean,
    nearest,
    ratio,
    ratio_of_ratios,
    share,
)
from unclip.images import from_uint8, resize, to_uint8
from unclip.pipeline import Pipeline
from unclip.sheets import contact_sheet

SECTION = "pictures"
DRAWN, REAL = "drawn", "real"
PLAIN, STYLED = "", "style said"  # of prompts that name the style of the picture that they are the caption of
RECALL = "judge R@1"
DISTANCE_RATIO = "Frechet distance, drawn / real"
VARIETY_NAME = "mean distance between pictures of one caption"
PIXELS = 32  # side at which pixels are compared
VARIETY = (32, 8)  # captions, and pictures of each, that diversity is measured on
NEIGHBOURS = 10  # samples on the sheet of nearest training pictures
SHEET_SIZE = 256  # largest side of the fixed prompts' pictures
SHEET_COLUMNS = 8

# Drawn for the contact sheet: what is common, what is composed, other languages, things that are hard.
FIXED_PROMPTS = (
    *("a red apple", "a rocket", "a cat", "a house", "a bicycle", "a smiling face", "a heart", "the sun"),
    *("a guitar", "a fish", "a tree", "a birthday cake", "flag of Japan", "an umbrella", "a car", "a key"),
    *("a green apple, flat", "3D render of a dog", "line icon of a telephone", "silhouette of a dragon"),
    *("woman astronaut with dark skin tone", "a cat with a hat", "two blue stars", "a purple banana"),
    *(
        "빨간 사과",
        "고양이",
        "자전거",
        "웃는 얼굴",
        "ein roter Apfel",
        "eine Katze",
        "ein Fahrrad",
        "ein Haus",
    ),
)


@dataclass(frozen=True)
class Scored:
    """The judge's view of pictures that belong to the captions of a sample in one language.

    Attributes:
        rows: (M,) of the sample.
        features: (M, E) of the pictures.
        right: (M,) bool, whether the right caption is the most similar of those offered.
        offered: how many captions were.
    """

    rows: np.ndarray
    features: np.ndarray
    right: np.ndarray
    offered: int


def score(
    judge: Encoder,
    sample: Sample,
    language: str,
    features: np.ndarray,
    seed: int,
) -> Scored:
    """Judge pictures with `features` (M, E), of the first M rows of `sample.named(language)`.

    The caption is the plain name, also where the prompt named a style: the style is not to give it away.
    """
    named = sample.named(language)
    rows, others = named[: len(features)], sample.others(language, seed)[: len(features)]
    texts = np.zeros((len(sample), features.shape[1]), np.float32)  # (N, E)
    texts[named] = judge.texts(sample.names[language][named].tolist())
    own = (features * texts[rows]).sum(axis=1)  # (M,)
    rivals = np.einsum("me,mke->mk", features, texts[others])  # (M, K - 1)
    right = (rivals < own[:, None]).all(axis=1)
    return Scored(rows, features, right, others.shape[1] + 1)


def evaluate(
    model: Pipeline,
    judge: Encoder,
    samples: Sequence[Sample],
    languages: Sequence[str],
    train: Corpus,
    findings: Findings,
    seed: int,
) -> Generator[Step, None, None]:
    """All figures of this section on each of the held-out samples."""
    training = yield from judge.corpus(train)  # (T, E)
    size = model.sizes[0]
    small_training = shrunk(train.pixels(judge.size))  # (T, P)
    for sample in samples:
        pixels = sample.pixels(size)
        real = judge.images(pixels)  # (N, E)
        for said, texts in ((PLAIN, sample.names), (STYLED, sample.prompts)):
            scored: dict[str, tuple[Scored, Scored]] = {}
            for language in languages:
                rows = sample.named(language)
                if len(rows) < 2 or (said and (texts[language] == sample.names[language]).all()):
                    continue
                label = f"drawing {language} {sample.split}{f', {said}' if said else ''}"
                # what is asked for plainly is drawn as the bundle draws for everybody, in a style of its own
                options = Options(size=size, style=ANY_STYLE if said else None)
                drawn = yield from draw(model, texts[language][rows].tolist(), seed, label, options)
                scored[language] = (
                    score(judge, sample, language, judge.images(drawn), seed),
                    score(judge, sample, language, real[rows], seed),
                )
                if language == languages[0]:
                    own = scored[language][0].features
                    variant = said or DRAWN
                    distances(findings, SECTION, sample.split, language, own, real[rows], seed, variant)
                    yield f"neighbours {sample.split}", 0, 1
                    series, small = {variant: own}, {variant: shrunk(drawn)}
                    if not said:  # of real pictures once
                        series[REAL], small[REAL] = real[rows], shrunk(pixels[rows])
                    memorised(findings, sample, language, series, training, "judge's features")
                    near = memorised(findings, sample, language, small, small_training, "pixels")
                    name = f"nearest-{sample.split}{'-styled' if said else ''}"
                    findings.sheets[name] = _beside(drawn, train.pixels(judge.size), near)
                    yield f"neighbours {sample.split}", 1, 1
            retrieval(findings, sample, scored, languages, seed, said)
    yield from _diversity(model, judge, samples[0], languages[0], training, train, findings, seed)
    findings.sheets["contact-sheet"] = yield from _fixed(model, seed)


def retrieval(
    findings: Findings,
    sample: Sample,
    scored: dict[str, tuple[Scored, Scored]],
    languages: Sequence[str],
    seed: int,
    said: str = "",
) -> None:
    """R@1 of drawn and real pictures, (drawn, real) by language, their ratio, and it against the first's.

    `said` is what the prompts say beside the names.
    """
    for language, (drawn, real) in scored.items():
        concepts = sample.concepts[drawn.rows]
        for variant, one in ((said or DRAWN, drawn), (REAL, real))[: 1 if said else 2]:
            estimate = share(one.right, concepts)
            findings.figures.append(
                Figure(SECTION, RECALL, estimate, sample.split, language, variant, one.offered)
            )
        estimate = ratio(drawn.right, real.right, concepts, seed)
        name = f"{RECALL}, drawn / real"
        findings.figures.append(Figure(SECTION, name, estimate, sample.split, language, said))
        first = languages[0]
        if language != first and first in scored:
            both, here, there = np.intersect1d(drawn.rows, scored[first][0].rows, return_indices=True)
            columns = np.column_stack(
                [
                    drawn.right[here],
                    real.right[here],
                    scored[first][0].right[there],
                    scored[first][1].right[there],
                ]
            ).astype(float)
            if len(both) > 1:
                estimate = ratio_of_ratios(columns, sample.concepts[both], seed)
                name = f"{RECALL}, drawn / real, against {first}"
                findings.figures.append(Figure(SECTION, name, estimate, sample.split, language, said))


def distances(
    findings: Findings,
    section: str,
    split: str,
    language: str,
    drawn: np.ndarray,
    real: np.ndarray,
    seed: int,
    variant: str = DRAWN,
) -> None:
    """Frechet distances of drawn to real features (N, E) whose rows belong together, where N is enough."""
    found = frechet_distances(drawn, real, seed)
    if found is None:
        return
    name = "Frechet distance to held-out pictures"
    findings.figures.append(Figure(section, name, found.drawn, split, language, variant))
    if variant != STYLED:  # the real ones' own is there already
        findings.figures.append(Figure(section, name, found.real, split, language, REAL))
    findings.figures.append(Figure(section, DISTANCE_RATIO, found.ratio, split, language, variant))


def memorised(
    findings: Findings,
    sample: Sample,
    language: str,
    series: dict[str, np.ndarray],
    training: np.ndarray,
    space: str,
) -> np.ndarray:
    """Share of pictures that lie nearer to a training picture than its nearest other training picture does.

    Returns the nearest training picture of each of the first series, (M,).
    """
    neighbours = {}
    for variant, pictures in series.items():
        neighbours[variant], close = closer(pictures, training)
        concepts = sample.concepts[sample.named(language)]
        name = f"memorised, by {space}"
        findings.figures.append(
            Figure(SECTION, name, share(close, concepts), sample.split, language, variant)
        )
    return neighbours[next(iter(series))]


def closer(pictures: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the pictures (M, E) that lie nearer to a training picture than any other training picture does.

    Returns the nearest training picture of each, (M,), and whether it lies so near, (M,) bool.
    """
    position, distance = nearest(pictures, training)
    several, which = np.unique(position, return_inverse=True)
    _, between = nearest(training[several], training, itself=several)
    return position, distance < between[which]


def _diversity(
    model: Pipeline,
    judge: Encoder,
    sample: Sample,
    language: str,
    training: np.ndarray,
    train: Corpus,
    findings: Findings,
    seed: int,
) -> Generator[Step, None, None]:
    """Mean distance (1 - cosine) between pictures of one caption, and between real ones of one concept."""
    rows = sample.named(language)
    random = np.random.default_rng(seed)
    chosen = random.permutation(rows)[: VARIETY[0]]
    prompts = [prompt for prompt in sample.names[language][chosen].tolist() for _ in range(VARIETY[1])]
    options = Options(size=model.sizes[0])
    drawn = yield from draw(model, prompts, seed, f"diversity {language}", options, first=len(sample))
    features = judge.images(drawn).reshape(len(chosen), VARIETY[1], -1)  # (C, 8, E)
    values = np.array([apart(several) for several in features])
    concepts = sample.concepts[chosen]
    estimate = mean(values, concepts, seed)
    findings.figures.append(Figure(SECTION, VARIETY_NAME, estimate, sample.split, language, DRAWN))
    known = np.array(train.records["concept"].to_pylist())
    real = {c: training[np.flatnonzero(known == c)] for c in dict.fromkeys(concepts.tolist())}
    several = {concept: features for concept, features in real.items() if len(features) > 1}
    if several:
        values = np.array([apart(features) for features in several.values()])
        estimate = mean(values, np.array(list(several)), seed)
        name = "mean distance between pictures of one concept"
        findings.figures.append(Figure(SECTION, name, estimate, train.split, "", REAL))


def apart(features: np.ndarray) -> float:
    """Mean of 1 - cosine over all pairs of rows (N, E) of length one."""
    count = len(features)
    return float(1 - ((features @ features.T).sum() - count) / (count * (count - 1)))


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, S, S, 3) reduced to (N, 32 * 32 * 3), for distances between pixels."""
    parts = [
        to_uint8(resize(from_uint8(pixels[start : start + 1024]), PIXELS)).reshape(-1, PIXELS * PIXELS * 3)
        for start in range(0, len(pixels), 1024)
    ]
    return np.concatenate(parts)


def _beside(drawn: np.ndarray, training: np.ndarray, position: np.ndarray) -> Image.Image:
    """Drawn pictures above, below each the training picture whose pixels are nearest."""
    count = min(NEIGHBOURS, len(drawn))
    pairs = [*drawn[:count], *(training[p] for p in position[:count])]
    return contact_sheet([Image.fromarray(np.asarray(pixels)) for pixels in pairs], columns=count)


def _fixed(model: Pipeline, seed: int) -> Generator[Step, None, Image.Image]:
    """The sheet of the fixed prompts."""
    size = max((side for side in model.sizes if side <= SHEET_SIZE), default=model.sizes[0])
    options = Options(size=size)
    pictures = yield from draw(model, FIXED_PROMPTS, seed, "contact sheet", options)
    return contact_sheet([Image.fromarray(one) for one in pictures], SHEET_COLUMNS, FIXED_PROMPTS)
