"""The watermark found in a picture: cut, mirrored, resized or not.

The picture is taken apart into windows. Of each, the waves of the pattern are measured as if it had been
resized by each of many factors; the pilots say, for all shifts at once, how well they fit (the cross power of
both, C. D. Kuglin and D. C. Hines, "The phase correlation image alignment method", 1975, over the pattern's
own waves alone). Where they fit, the other waves are decoded, and the code says whether it is a mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from unclip.watermark.code import decode
from unclip.watermark.light import detail, luminance, strength
from unclip.watermark.pattern import FEWEST, MOST, PILOTS_TO, TILE, pattern

SMALLEST_SCALE, LARGEST_SCALE = 0.45, 2.2  # of resizing that is undone
WINDOW = 384  # pixels, side
MOST_WINDOWS = 4  # along a side
NARROWEST = 48  # pixels: a smaller picture holds no mark at any scale
FLOOR = 2.0  # levels: noise of files where a picture is flat
LOUDEST = 0.5  # of a pixel's say
LOUDEST_WAVE = 1.5  # of a wave's say, where the mean power is 1
SHIFTS = 48  # along a side of a tile that are tried
SLACK = 0.25  # of the shortest pilot's period by which a scale may miss at the window's edge
PLAUSIBLE = 4.2  # standard deviations that the pilots stand out by: else a scale is passed over
SEEN = 4.6  # and after it was made finer: else nothing is decoded
MOST_DECODED = 16  # places of a picture
CANDIDATES = 4  # scales of a window that are made finer
FINER = 4  # steps to each side


@dataclass(frozen=True)
class Found:
    """A mark that was found.

    Attributes:
        payload: 0 to 2^64 - 1.
        scale: how much larger the picture was made since it was marked, down and across.
        mirrored: whether left and right have changed places.
    """

    payload: int
    scale: tuple[float, float]
    mirrored: bool


class _Place(NamedTuple):
    """A scale of a window, and how well the pilots fit there.

    Attributes:
        scale: (2,), down and across.
        mirrored: whether the picture is looked at in a mirror.
        fit: standard deviations by which the pilots stand out at the best shift.
        shift: (2,), in tiles.
    """

    scale: np.ndarray
    mirrored: bool
    fit: float
    shift: np.ndarray


def detect(image: Image.Image) -> Found | None:
    """The watermark of a picture, or None.

    A picture without one is taken for marked with a probability of 2^-24 for each place that is decoded (see
    `code`), of which there are 16 at most: below 1 in a million.
    """
    if min(image.size) < NARROWEST:
        return None
    parts = [
        _said(image.crop((left, upper, right, lower)))
        for upper, lower in _windows(image.height)
        for left, right in _windows(image.width)
    ]
    decoded = 0
    for places in (_as_it_was, _resized):  # nearly all pictures come as they were drawn, and that is quick
        for part in parts:
            seen = [place for place in places(part) if place.fit >= SEEN][: MOST_DECODED - decoded]
            decoded += len(seen)
            found = _decoded(part, seen) if seen else None
            if found is not None:
                return found
    return None


def _as_it_was(part: np.ndarray) -> list[_Place]:
    """The places of a window that nobody has resized."""
    return _fitted(part, np.ones((1, 2)))


def _resized(part: np.ndarray) -> list[_Place]:
    """The likeliest places of a window at any scale, best first."""
    scales = _scales(max(part.shape))
    places = _fitted(part, np.stack([scales, scales], axis=1))
    places.sort(key=lambda place: -place.fit)
    return [_closest(part, place) for place in places[:CANDIDATES] if place.fit >= PLAUSIBLE]


def _windows(side: int) -> list[tuple[int, int]]:
    """The beginning and the end of windows along a side, the middle ones first."""
    length = min(side, WINDOW)
    count = min(MOST_WINDOWS, -(-side // WINDOW))
    starts = [round((side - length) * k / max(1, count - 1)) for k in range(count)]
    starts.sort(key=lambda start: abs(2 * start + length - side))
    return [(start, start + length) for start in starts]


def _said(window: Image.Image) -> np.ndarray:
    """The say of each pixel (H, W), a matched filter's: the mark's strength over the power of all else."""
    fine, busy = detail(luminance(window))
    said: np.ndarray = (fine * strength(busy) / (busy**2 + FLOOR**2)).clip(-LOUDEST, LOUDEST)
    return said.astype(np.float32)


@cache
def _scales(side: int) -> np.ndarray:
    """The scales that are tried on a window: neighbours differ by what the pilots forgive."""
    scales = [SMALLEST_SCALE]
    while scales[-1] < LARGEST_SCALE:
        scales.append(scales[-1] * (1 + _step(side) * scales[-1]))
    return np.array(scales)


def _step(side: int) -> float:
    """The share by which neighbouring scales differ, at a scale of 1."""
    return 4 * SLACK * TILE / PILOTS_TO / side


def _waves(part: np.ndarray, scales: np.ndarray, most: int) -> np.ndarray:
    """The waves of a window (H, W) at scales (N, 2): (N, 2 most + 1, most + 1) of complex64.

    What comes is the Fourier transform at `down` from -most to most and `across` from 0 to most waves a tile.
    """
    height, width = part.shape
    down, across = _turns(scales[:, 0], most, height), _turns(scales[:, 1], most, width)
    real, imaginary = (down.reshape(-1, height) @ part).reshape(2, len(scales), most + 1, width)
    half = np.empty(real.shape, np.complex64)
    half.real, half.imag = real, imaginary
    rows = np.concatenate([half[:, :0:-1].conj(), half], axis=1)  # a picture is real
    turns = np.empty(across.shape[1:], np.complex64)
    turns.real, turns.imag = across
    waves: np.ndarray = rows @ turns.swapaxes(1, 2)
    return waves


def _turns(scales: np.ndarray, most: int, length: int) -> np.ndarray:
    """exp(-2 pi i c x / T s) of counts c up to most, scales s, and x along a side: (2, N, most + 1, X)."""
    counts = 2 * np.pi / TILE * np.arange(most + 1) / scales[:, None]
    angles = counts.astype(np.float32)[..., None] * np.arange(length, dtype=np.float32)
    return np.stack([np.cos(angles), -np.sin(angles)])


def _even(waves: np.ndarray) -> np.ndarray:
    """Waves (N, 2 most + 1, most + 1) as rows (N, W), of which no ring and no single wave is louder.

    Pictures have most of what is their own in long waves, and in a few that their edges and stripes make.
    """
    all_of_it = pattern()
    most = waves.shape[2] - 1
    near = all_of_it.radius <= most
    rows = waves[:, all_of_it.down[near] + most, all_of_it.across[near]]
    rings = (all_of_it.radius[near] - FEWEST).astype(int)
    power = np.stack([(np.abs(rows[:, rings == ring]) ** 2).mean(axis=1) for ring in range(rings.max() + 1)])
    rows = rows / np.sqrt(power[rings].T + 1e-12)
    loud = np.maximum(np.abs(rows) / LOUDEST_WAVE, 1)
    even: np.ndarray = rows / loud
    return even


def _fitted(part: np.ndarray, scales: np.ndarray) -> list[_Place]:
    """The fit of the pilots at scales (N, 2), as they are and mirrored: 2 N places."""
    waves = _waves(part, scales, int(PILOTS_TO))
    rows = _even(np.concatenate([waves, _mirrored(waves)]))
    all_of_it = pattern()
    near = all_of_it.radius <= int(PILOTS_TO)
    pilots = all_of_it.pilots[near]
    matched = rows[:, pilots] * (all_of_it.known.conj() * all_of_it.radius[near][pilots])
    down, across = all_of_it.down[near][pilots], all_of_it.across[near][pilots]
    spectrum = np.zeros((len(rows), SHIFTS, SHIFTS // 2 + 1), np.complex64)
    spectrum[:, down, across] = matched
    alone = across == 0
    spectrum[:, -down[alone], 0] = matched[:, alone].conj()
    maps = np.fft.irfft2(spectrum, (SHIFTS, SHIFTS)) * (SHIFTS**2 / 2)
    maps /= np.sqrt((np.abs(matched) ** 2).sum(axis=1) / 2 + 1e-12)[:, None, None]
    every, best = np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(axis=1)
    down, across = np.divmod(best, SHIFTS)
    around = np.array([-1, 0, 1])[:, None]
    shifts = np.stack(
        [
            down + _top(maps[every, (down + around) % SHIFTS, across]),
            across + _top(maps[every, down, (across + around) % SHIFTS]),
        ],
        axis=1,
    )
    return [
        _Place(scales[row % len(scales)], bool(row >= len(scales)), float(fit), shift / SHIFTS)
        for row, (fit, shift) in enumerate(zip(maps[every, down, across], shifts, strict=True))
    ]


def _mirrored(waves: np.ndarray) -> np.ndarray:
    """The waves of the mirrored picture, but for a shift."""
    return waves[:, ::-1].conj()


def _top(values: np.ndarray) -> np.ndarray:
    """Where between -1/2 and 1/2 a parabola through three neighbouring values (3, N) is highest."""
    before, at, behind = values
    bend = np.minimum(before - 2 * at + behind, -1e-9)
    return np.clip((before - behind) / (2 * bend), -0.5, 0.5)


def _closest(part: np.ndarray, place: _Place) -> _Place:
    """A place beside this one that fits best: first of another scale, then of another shape."""
    step = _step(max(part.shape)) * place.scale[0] / FINER
    along = np.arange(-FINER, FINER + 1)[:, None] * np.ones(2)
    beside = np.array([(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]) / 2
    for moves in (along, beside):
        places = _fitted(part, place.scale * (1 + step * moves))
        place = max((each for each in places if each.mirrored == place.mirrored), key=lambda each: each.fit)
    return place


def _decoded(part: np.ndarray, places: list[_Place]) -> Found | None:
    """The first mark at these places."""
    all_of_it = pattern()
    waves = _waves(part, np.stack([place.scale for place in places]), int(MOST))
    mirrored = np.array([place.mirrored for place in places])[:, None, None]
    rows = _even(np.where(mirrored, _mirrored(waves), waves))
    turns = np.stack([place.shift for place in places]) @ np.stack([all_of_it.down, all_of_it.across])
    payloads = decode(all_of_it.values(rows * np.exp(2j * np.pi * turns).astype(np.complex64)))
    for place, payload in zip(places, payloads, strict=True):
        if payload is not None:
            down, across = place.scale
            return Found(payload, (float(down), float(across)), place.mirrored)
    return None
