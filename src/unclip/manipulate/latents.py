"""The two latents of a picture, what is drawn from them, and paths between them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from PIL import Image
from torch import Tensor

from unclip.drawing import Event, Job, Options
from unclip.errors import InputError
from unclip.images import open_image
from unclip.runtime import sha256

if TYPE_CHECKING:
    from unclip.bundle import Bundle
    from unclip.embedding import ClipEmbedder

Source = Image.Image | Path | str
"""A picture, or the file of one."""

DEFAULT_STEPS = 25  # of DDIM, there and back: with the shipped bundle 50 give the same
DEFAULT_GUIDANCE = 1.0  # more of it is harder to invert
ITERATIONS = 2  # fixed-point rounds of an inversion's step
SAME = 1e-6  # sine of the angle below which two directions are one


@dataclass(frozen=True)
class Inversion:
    """How a picture is inverted, and drawn again: the way back must be the way there.

    Attributes:
        steps: of DDIM, 2 and more.
        guidance: scale of the decoder's classifier-free guidance; 1 is none.
        iterations: fixed-point rounds of each step (`diffusion.samplers.ddim_invert`).
    """

    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    iterations: int = ITERATIONS

    @classmethod
    def of(cls, steps: int | str | None, guidance: float | None) -> Inversion:
        """Defaults in place of None. Raises InputError for steps that are no count."""
        if isinstance(steps, str) and not (steps.isascii() and steps.isdigit()):
            raise InputError(f"steps {steps!r}: what starts from a picture takes a plain count, such as 50")
        return cls(
            DEFAULT_STEPS if steps is None else int(steps),
            DEFAULT_GUIDANCE if guidance is None else guidance,
        )

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError(f"steps is {self.steps}: what starts from a picture takes 2 or more")


@dataclass(frozen=True)
class Latents:
    """A picture's two latents (section 3 of 2204.06125).

    Attributes:
        z_i: (E,) CLIP's image embedding, as the decoder takes it: what the picture shows.
        x_T: (3, S, S) the noise that DDIM draws the picture from: all the rest.
        inversion: how x_T was found; decoded in another way it gives another picture.
    """

    z_i: Tensor
    x_T: Tensor
    inversion: Inversion


@dataclass(frozen=True)
class Frame(Job):
    """A picture to draw that shares the noise of others, so that only the latents tell them apart.

    Attributes:
        shared: the index whose noise it takes.
    """

    shared: int = 0


class Editor(Protocol):
    """What pictures are changed with: `families.unclip.UnCLIP`."""

    bundle: Bundle
    clip: ClipEmbedder

    @property
    def default_size(self) -> int: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...

    def invert(
        self, images: Sequence[Image.Image], inversion: Inversion
    ) -> Generator[Event, None, list[Latents]]: ...

    def draw_latents(
        self,
        latents: Mapping[Job, Latents],
        options: Options,
        *,
        eta: float = 0.0,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Event]: ...

    def start_noise(self, jobs: Sequence[Job]) -> Tensor: ...


def opened(source: Source) -> tuple[Image.Image, str]:
    """A picture and its hash: "sha256:..." of its file, or "pixels:..." of one that has none.

    Raises:
        InputError: as of `open_image`.
    """
    if isinstance(source, Image.Image):
        pixels = source.convert("RGBA")
        digest = hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest()
        return source, f"pixels:{digest}"
    image = open_image(source)
    return image, f"sha256:{sha256(source)}"


def slerp(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """From a (0) to b (1) along the great circle, tensors of one shape; their lengths change evenly.

    What is opposite has no great circle of its own, what is the same needs none: both go straight. The ends
    are a and b themselves.
    """
    if fraction in (0.0, 1.0):
        return a if fraction == 0.0 else b
    x, y = a.double().flatten(), b.double().flatten()
    length_a, length_b = x.norm(), y.norm()
    x, y = x / length_a, y / length_b
    angle = torch.acos((x @ y).clamp(-1, 1))
    if torch.sin(angle) < SAME:
        return (a + fraction * (b - a)).to(a.dtype)
    weights = torch.stack([torch.sin((1 - fraction) * angle), torch.sin(fraction * angle)]) / torch.sin(angle)
    length = length_a + fraction * (length_b - length_a)
    return ((weights[0] * x + weights[1] * y) * length).view(a.shape).to(a.dtype)


def mixed(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Several at once: each is slerped in with its share of the weights up to it, (shape of one)."""
    result, total = tensors[0], weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += weight
        if total > 0:
            result = slerp(result, tensor, weight / total)
    return result
