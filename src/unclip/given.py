"""Things given with a job, beside its prompt or in place of what would be drawn (seam 7 of the design)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import numpy as np
from PIL import Image

from unclip.errors import InputError, shown
from unclip.images import Source, on_white, opened, resize, to_pil, to_tensor
from unclip.manipulate.fitting import Fit, fitted

if TYPE_CHECKING:  # what is wrong with options is said before torch is loaded
    from torch import Tensor

    from unclip.diffusion.schedule import Schedule

DEFAULT_STRENGTH = 0.7  # of what starts from a picture
KEPT, REDRAWN = 255, 0  # levels of a mask


class Kind(StrEnum):
    """A kind of thing that can be given with a job; its value stands in messages."""

    EMBEDDING = "an image embedding"
    PICTURE = "a picture to start from"
    NOISE = "inverted noise"
    KNOWN = "known pixels"
    UPPER = "rows of codes"


# The bundles whose stages can be given it.
TAKEN_BY: Mapping[Kind, str] = {
    Kind.EMBEDDING: "of the family unclip",
    Kind.PICTURE: "of the family unclip, glide or adm",
    Kind.NOISE: "of the family unclip",
    Kind.KNOWN: "of the family unclip or adm, or glide with networks that fill in",
    Kind.UPPER: "of the family dalle1",
}

# Options that mean nothing beside what is given, and why.
IDLE: Mapping[Kind, tuple[tuple[str, ...], str]] = {
    Kind.EMBEDDING: (
        ("prior", "prior_guidance", "candidates", "rerank"),
        "no prior draws where embeddings are given",
    ),
    Kind.NOISE: (
        ("steps", "guidance", "sampler", "init", "strength", "fit"),
        "noise that was inverted is drawn from as it was found",
    ),
    Kind.PICTURE: (("init", "strength", "fit"), "the picture to start from is given already"),
    Kind.KNOWN: (("init", "strength", "fit"), "what is drawn meets known pixels and starts from noise"),
}
OWN_STYLE = "what is given has a style of its own: say another in the prompt, or leave style out"


@dataclass(frozen=True)
class Inversion:
    """The settings that a picture is inverted with, and drawn again with: the way back must be the way there.

    Attributes:
        steps: of DDIM, 2 and more.
        guidance: scale of the decoder's classifier-free guidance; 1 is none, and inverts best.
        iterations: fixed-point rounds of each step (`diffusion.samplers.ddim_invert`).

    Raises:
        InputError: fewer than 2 steps.
    """

    steps: int = 25  # with the shipped bundle 50 give the same
    guidance: float = 1.0
    iterations: int = 2

    @classmethod
    def of(cls, steps: int | str | None, guidance: float | None) -> Self:
        """Defaults in place of None. Raises InputError for steps that are no count."""
        if isinstance(steps, str) and not (steps.isascii() and steps.isdigit()):
            raise InputError(
                f"steps {shown(steps)}: what starts from a picture takes a plain count, such as 50"
            )
        return cls(cls.steps if steps is None else int(steps), cls.guidance if guidance is None else guidance)

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError(f"steps is {self.steps}: what starts from a picture takes 2 or more")


@dataclass(frozen=True, eq=False)
class InvertedNoise:
    """The noise that DDIM draws a picture from.

    Attributes:
        x_T: (3, S, S).
        inversion: how it was found; drawn from in another way it gives another picture.
        eta: noise of DDIM on the way back, 0 to 1.
    """

    x_T: Tensor
    inversion: Inversion
    eta: float = 0.0


@dataclass(frozen=True, eq=False)
class NoisedPicture:
    """A picture that the first network starts from, with noise (SDEdit, 2108.01073).

    Attributes:
        image: RGB, of any shape.
        strength: share of the first network's steps that are taken, 0 to 1; at 0 the picture stays, at 1 it
            is ignored.
        fit: how it becomes square.
        source: its hash.
    """

    image: Image.Image
    strength: float
    fit: Fit
    source: str

    @classmethod
    def of(cls, source: Source, strength: float | None, fit: str | None) -> Self:
        """With defaults in place of None. Raises InputError for what is no picture and no way to fit it."""
        image, digest = opened(source)
        way = Fit.named(fit or Fit.LETTERBOX)
        return cls(on_white(image), DEFAULT_STRENGTH if strength is None else strength, way, digest)

    @property
    def settings(self) -> dict[str, str]:
        """The texts that the picture's metadata hold of it."""
        strength = f"{self.strength:g}"
        return {"operation": "init", "source": self.source, "fit": self.fit, "strength": strength}

    def steps(self, total: int) -> int:
        """The number of steps that are taken, of `total`."""
        return round(self.strength * total)

    def at(self, size: int) -> Tensor:
        """The picture (3, S, S) in [-1, 1]."""
        return to_tensor(fitted(self.image, size, self.fit))

    def noised(self, schedule: Schedule, noise: Tensor) -> Tensor:
        """The picture (3, S, S) with noise of that shape, as the last step of a schedule is taken from it."""
        picture = self.at(noise.shape[-1]).to(noise)
        return float(schedule.alpha[-1]) * picture + float(schedule.sigma[-1]) * noise


@dataclass(frozen=True, eq=False)
class Known:
    """A picture to draw into.

    Attributes:
        image: RGB, square, of the size that is drawn.
        keep: mode L of the same size, 255 where the picture stays bit for bit, 0 where it is redrawn.
        rounds: how often each step is taken (`diffusion.samplers.resampled`); None is what suits the network.
        part: which part of a larger picture it is: noise of the networks that paint goes by it, too.
    """

    image: Image.Image
    keep: Image.Image
    rounds: int | None = None
    part: str = ""

    @classmethod
    def of(cls, picture: Tensor, keep: Tensor) -> Self:
        """Of a picture (3, S, S) in [-1, 1] and a mask (1, S, S), 1 where it stays and 0 where it is drawn.

        Raises:
            InputError: another shape, or a mask that is neither 0 nor 1 somewhere.
        """
        side = picture.shape[-1]
        if picture.shape != (3, side, side) or keep.shape != (1, side, side):
            shapes = f"picture {tuple(picture.shape)} and mask {tuple(keep.shape)}"
            raise InputError(f"{shapes}: give (3, S, S) and (1, S, S)")
        if not bool(((keep == 0) | (keep == 1)).all()):
            raise InputError("a mask is 1 where the picture stays and 0 where it is drawn, never between")
        levels = (keep[0] * KEPT).cpu().numpy().astype(np.uint8)
        return cls(to_pil(picture.clamp(-1, 1)), Image.fromarray(levels))

    def at(self, size: int) -> tuple[Tensor, Tensor]:
        """Picture (3, S, S) in [-1, 1] and mask (1, S, S), 1 for kept and 0 for redrawn, at a side.

        Of a smaller one kept is what is kept all over.
        """
        import torch
        import torch.nn.functional as F

        picture = resize(to_tensor(self.image)[None], size)[0]
        keep = (torch.from_numpy(np.array(self.keep))[None] == KEPT).float()  # (1, H, W)
        return picture, -F.adaptive_max_pool2d(-keep, size)


@dataclass(frozen=True, eq=False)
class Upper:
    """A picture whose upper rows of codes stay, of a model that draws codes one by one."""

    image: Image.Image
    rows: int


@dataclass(frozen=True)
class Styled:
    """A style that is said beside the prompt, which is kept as it was typed.

    Attributes:
        name: of the style, or "any" where none was to be added.
        text: what is read in the prompt's place.
    """

    name: str
    text: str


@dataclass(frozen=True, eq=False)
class Given:
    """All that is given with a job.

    Attributes:
        embedding: (E,) CLIP's image embedding, in place of the prior's.
        start: what the first network starts from in place of noise.
        known: a picture to draw into.
        upper: rows of codes to go on from.
        shared: index of the picture whose noise is taken, so that only the rest tells pictures apart.
        style: said beside a prompt that names none.
        translation: what is read in the prompt's place.
        settings: what the picture's metadata say beside of all this.

    Raises:
        InputError: a start together with known pixels.
    """

    embedding: Tensor | None = None
    start: NoisedPicture | InvertedNoise | None = None
    known: Known | None = None
    upper: Upper | None = None
    shared: int | None = None
    style: Styled | None = None
    translation: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.start is not None and self.known is not None:
            raise InputError("known pixels are drawn into from noise: give them without a start")

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of things that are given."""
        starts = Kind.NOISE if isinstance(self.start, InvertedNoise) else Kind.PICTURE
        fields = {
            Kind.EMBEDDING: self.embedding,
            starts: self.start,
            Kind.KNOWN: self.known,
            Kind.UPPER: self.upper,
        }
        return frozenset(kind for kind, value in fields.items() if value is not None)

    @property
    def texts(self) -> dict[str, str]:
        """The texts that the picture's metadata hold of it."""
        start = self.start.settings if isinstance(self.start, NoisedPicture) else {}
        style = {} if self.style is None else {"style": self.style.name}
        translation = {} if self.translation is None else {"translation": self.translation}
        return {**translation, **style, **start, **self.settings}

    @property
    def part(self) -> str:
        """The text that follows the names of the noise streams of networks that paint."""
        return "" if self.known is None else self.known.part


NOTHING = Given()
