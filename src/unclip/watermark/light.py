"""The light of a picture, and how much goes on in each place: both sides of the watermark look at it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from unclip.images import on_white

NEAR = 4  # pixels: what is smaller is detail
STRENGTH = 1.5  # levels, standard deviation of the mark on flat ground
HIDDEN = 0.17  # of the standard deviation of the detail that hides it
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601, which JPEG uses


def luminance(image: Image.Image) -> np.ndarray:
    """(H, W) of float32, 0 to 255; what is transparent is on white."""
    return np.asarray(on_white(image), np.float32) @ np.array(LUMINANCE, np.float32)


def detail(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Details smaller than `NEAR` pixels (H, W), and its standard deviation around each place (H, W)."""
    fine = light - _smooth(light)
    return fine, np.sqrt(np.maximum(_smooth(fine**2), 0))


def strength(busy: np.ndarray) -> np.ndarray:
    """The standard deviation, in levels, of a mark where detail has a standard deviation of `busy`."""
    return STRENGTH + HIDDEN * busy


def _smooth(values: np.ndarray) -> np.ndarray:
    image = Image.fromarray(values)
    small = image.resize(
        (max(1, round(image.width / NEAR)), max(1, round(image.height / NEAR))), Image.Resampling.BILINEAR
    )
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))
