"""Upsamplers against bicubic enlargement and the truth."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from PIL import Image

from unclip.data.records import STORED_SIZE
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.pictures import DRAWN, REAL, RECALL, score
from unclip.evaluate.sample import Sample
from unclip.evaluate.stages import Stages
from unclip.evaluate.statistics import Estimate, mean, share
from unclip.images import from_uint8, resize, to_uint8
from unclip.sheets import contact_sheet

SECTION = "upsamplers"
BICUBIC = "bicubic"
MOST = 200  # pictures: each is drawn at 256 px
SHOWN = 6  # pictures on a sheet
SHOWN_LARGEST = 2  # pictures at 1024 px: lines and flags show most, so those with the most edges
OFFERED = 60  # pictures that they are chosen from
LEVELS = 255.0
FLAT = 5  # side of the neighbourhood in which nothing changes where a colour is flat


def evaluate(
    model: Stages, judge: Encoder, sample: Sample, language: str, findings: Findings, seed: int
) -> Generator[Step, None, None]:
    """Each upsampler whose truth the corpus holds by figures; a larger one by a sheet to look at."""
    rows = sample.named(language)[:MOST]
    for size, name in model.chain.items():
        if size > STORED_SIZE:  # what is larger has no truth there
            offered = sample.stored(rows[:OFFERED], STORED_SIZE)
            busiest = edges(offered).mean(axis=(1, 2)).argsort()[::-1][:SHOWN_LARGEST]
            low = resized(offered[busiest], size // 4)
            large = yield from model.enlarge(name, low, seed, name)
            findings.sheets[name] = _sheet([resized(low, size), large], SHOWN_LARGEST)
            continue
        truth = resized(sample.stored(rows, STORED_SIZE), size)  # (M, size, size, 3)
        low = resized(truth, size // 4)
        series = {
            DRAWN: (yield from model.enlarge(name, low, seed, name)),
            BICUBIC: resized(low, size),
            REAL: truth,
        }
        yield from _compare(judge, sample, rows, language, series, name, findings, seed)
        compared = [series[variant][:SHOWN] for variant in (BICUBIC, DRAWN, REAL)]
        findings.sheets[name] = _sheet(compared, SHOWN)


def _compare(
    judge: Encoder,
    sample: Sample,
    rows: np.ndarray,
    language: str,
    series: dict[str, np.ndarray],
    name: str,
    findings: Findings,
    seed: int,
) -> Generator[Step, None, None]:
    concepts = sample.concepts[rows]
    truth = series[REAL]
    border, flat, edge = white_border(truth), flat_places(truth), edges(truth)
    for done, (variant, pictures) in enumerate(series.items(), 1):
        features = judge.images(pictures)
        scored = score(judge, sample, language, features, seed)
        recall = share(scored.right, concepts)
        findings.figures.append(
            Figure(SECTION, f"{name}: {RECALL}", recall, sample.split, language, variant, scored.offered)
        )
        found: dict[str, Estimate] = {}
        if variant != REAL:
            error = np.abs(pictures.astype(np.float32) - truth)  # (M, S, S, 3)
            measured = {
                "PSNR (dB)": (psnr(error), np.ones(len(rows), bool)),
                "distance in the judge's layers": (
                    judge.distances(pictures, truth),
                    np.ones(len(rows), bool),
                ),
                "error of flat colours (levels of 255)": within(error, flat),
                "error of a white border (levels of 255)": within(error, border),
                "sharpness of edges, against the truth": within(steepness(pictures), edge, steepness(truth)),
            }
            for what, (values, known) in measured.items():
                if known.any():
                    found[what] = mean(values[known], concepts[known], seed)
        findings.figures += [
            Figure(SECTION, f"{name}: {what}", estimate, sample.split, language, variant)
            for what, estimate in found.items()
        ]
        yield f"{name} figures", done, len(series)


def psnr(error: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, (N,), of absolute errors (N, S, S, 3) in levels; at most 99."""
    squares = (error.astype(np.float64) ** 2).mean(axis=(1, 2, 3))
    return np.minimum(99.0, 10 * np.log10(LEVELS**2 / squares.clip(min=1e-12)))


def white_border(pictures: np.ndarray) -> np.ndarray:
    """The outermost ring of the pictures in which it is white, bool (N, S, S); nothing of the others."""
    ring = np.ones(pictures.shape[1:3], bool)
    ring[1:-1, 1:-1] = False
    white = (pictures == 255).all(axis=3)  # (N, S, S)
    return ring & (white | ~ring).all(axis=(1, 2))[:, None, None]


def flat_places(pictures: np.ndarray) -> np.ndarray:
    """Where all pixels of a 5 x 5 neighbourhood are equal, bool (N, S, S), but for white ones."""
    margin, side = FLAT // 2, pictures.shape[1]
    flat = np.zeros(pictures.shape[:3], bool)
    middle = pictures[:, margin:-margin, margin:-margin]
    inside = (middle < 255).any(axis=3)
    for down in range(FLAT):
        for right in range(FLAT):
            moved = pictures[:, down : side - FLAT + 1 + down, right : side - FLAT + 1 + right]
            inside &= (moved == middle).all(axis=3)
    flat[:, margin:-margin, margin:-margin] = inside
    return flat


def steepness(pictures: np.ndarray) -> np.ndarray:
    """Length of the brightness's gradient at each pixel, float32 (N, S, S), in levels a pixel."""
    brightness = pictures.astype(np.float32).mean(axis=3)
    down, right = np.gradient(brightness, axis=(1, 2))
    return np.hypot(down, right)


def edges(pictures: np.ndarray) -> np.ndarray:
    """Where brightness changes by more than an eighth of its range a pixel, bool (N, S, S)."""
    return steepness(pictures) > LEVELS / 8


def within(
    values: np.ndarray, where: np.ndarray, against: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Means of (N, S, S[, 3]) values over each picture's places, (N,), and which pictures have any.

    With `against` the mean is divided by the mean of those over the same places.
    """
    if values.ndim == 4:
        values = values.mean(axis=3)
    count = where.sum(axis=(1, 2))
    below = count if against is None else np.where(where, against, 0).sum(axis=(1, 2))
    return np.where(where, values, 0).sum(axis=(1, 2)) / np.maximum(below, 1e-9), count > 0


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, S, S, 3) -> (N, size, size, 3) by antialiased bicubic filtering."""
    parts = [to_uint8(resize(from_uint8(pixels[k : k + 16]), size)) for k in range(0, len(pixels), 16)]
    return np.concatenate(parts)


def _sheet(rows: list[np.ndarray], columns: int) -> Image.Image:
    pictures = [Image.fromarray(picture) for row in rows for picture in row]
    return contact_sheet(pictures, columns)
