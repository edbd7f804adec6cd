"""Degradation of an upsampler's small picture in training, so that it forgives the decoder's mistakes.

The first upsampler of 2204.06125 sees a blurred small picture (appendix C: Gaussian, kernel 3, sigma 0.6),
the second one BSR degradation (2103.14006): blur, resizing, noise and JPEG in random order and strength.
"""

from __future__ import annotations

import io
import math
from enum import StrEnum

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.images import to_pil, to_tensor
from unclip.train.places import Places

BLUR_KERNEL = 3  # appendix C of 2204.06125
BLUR_SIGMA = 0.6
BSR_KERNEL = 7
BSR_SIGMA = (0.1, 1.4)  # pixels, for a side of 64; narrower than 2103.14006's, whose pictures are larger
BSR_NOISE = (0.0, 0.06)  # of the range [-1, 1]
BSR_RESIZE = (0.6, 1.3)
BSR_JPEG = (60, 95)  # quality


class Degradation(StrEnum):
    NONE = "none"
    BLUR = "blur"
    BSR = "bsr"


def _uniform(bounds: tuple[float, float], generator: torch.Generator) -> float:
    low, high = bounds
    return low + (high - low) * torch.rand((), generator=generator).item()


def gaussian_kernel(size: int, sigmas: tuple[float, float], angle: float = 0.0) -> Tensor:
    """A (size, size) Gaussian with a sigma along each axis, turned by `angle` radians; sums to one."""
    steps = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    u = math.cos(angle) * x + math.sin(angle) * y
    v = math.cos(angle) * y - math.sin(angle) * x
    kernel = torch.exp(-0.5 * ((u / sigmas[0]) ** 2 + (v / sigmas[1]) ** 2))
    return kernel / kernel.sum()


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of (B, C, H, W) by one (K, K) kernel; the border is repeated outwards."""
    channels, size = images.shape[1], kernel.shape[0]
    padded = F.pad(images, [size // 2] * 4, mode="replicate")
    return F.conv2d(padded, kernel.expand(channels, 1, size, size), groups=channels)


def blur(low: Tensor) -> Tensor:
    """The first upsampler's degradation of (B, 3, h, w)."""
    return convolve(low, gaussian_kernel(BLUR_KERNEL, (BLUR_SIGMA, BLUR_SIGMA)))


def _bsr_blur(image: Tensor, generator: torch.Generator) -> Tensor:
    sigmas = (_uniform(BSR_SIGMA, generator), _uniform(BSR_SIGMA, generator))
    return convolve(image, gaussian_kernel(BSR_KERNEL, sigmas, _uniform((0, math.pi), generator)))


def _bsr_resize(image: Tensor, generator: torch.Generator) -> Tensor:
    height, width = image.shape[-2:]
    scale = _uniform(BSR_RESIZE, generator)
    mode = ("bilinear", "bicubic", "area")[int(torch.randint(3, (), generator=generator))]
    inner = F.interpolate(image, (round(height * scale), round(width * scale)), mode=mode)
    return F.interpolate(inner, (height, width), mode="bicubic", antialias=True)


def _bsr_noise(image: Tensor, generator: torch.Generator) -> Tensor:
    std = _uniform(BSR_NOISE, generator)
    return image + std * torch.randn(image.shape, generator=generator)


def _bsr_jpeg(image: Tensor, generator: torch.Generator) -> Tensor:
    data = io.BytesIO()
    to_pil(image[0].clamp(-1, 1)).save(data, "JPEG", quality=round(_uniform(BSR_JPEG, generator)))
    with Image.open(data) as reread:
        return to_tensor(reread)[None]


BSR_STEPS = (_bsr_blur, _bsr_resize, _bsr_noise, _bsr_jpeg)
BSR_STEP_PROBABILITY = 0.5


def bsr(low: Tensor, places: Places) -> Tensor:
    """The second upsampler's degradation of (B, 3, h, w): each step with probability 1/2, in random order."""
    spoiled = []
    for image, generator in zip(low.split(1), places.generators, strict=True):
        for k in torch.randperm(len(BSR_STEPS), generator=generator).tolist():
            if torch.rand((), generator=generator).item() < BSR_STEP_PROBABILITY:
                image = BSR_STEPS[k](image, generator)
        spoiled.append(image)
    return torch.cat(spoiled).clamp(-1, 1)


def degrade(low: Tensor, degradation: Degradation, places: Places) -> Tensor:
    """Small pictures (B, 3, h, w) in [-1, 1], on the CPU, as the upsampler is to see them in training."""
    with torch.autocast("cpu", enabled=False):  # the resampling kernels know no bf16
        if degradation is Degradation.BLUR:
            return blur(low)
        if degradation is Degradation.BSR:
            return bsr(low, places)
    return low
