"""Parts of pictures drawn anew: inpainting without a network that was trained for it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.drawing import Event, Job, Options, Picture, Settings
from unclip.errors import InputError
from unclip.images import on_white, resize, to_tensor
from unclip.manipulate.fitting import Fit, fitted
from unclip.manipulate.latents import Source, opened
from unclip.manipulate.seam import seam

DEFAULT_STEPS = 30
DEFAULT_ROUNDS = 3
MOST_ROUNDS = 20
KEPT, REDRAWN = 255, 0


@dataclass(frozen=True)
class Filling:
    """A picture to draw into.

    Attributes:
        image: RGB, square, of the size that is drawn.
        keep: mode L of the same size, 255 where the picture stays bit for bit, 0 where it is redrawn.
        rounds: how often each step is taken (`diffusion.samplers.resampled`).
        settings: what the pictures' metadata say of it.
        part: which part of a larger picture it is: the decoder's and upsamplers' noise goes by it, too.
    """

    image: Image.Image
    keep: Image.Image
    rounds: int
    settings: dict[str, str] = field(default_factory=dict)
    part: str = ""

    def at(self, size: int) -> tuple[Tensor, Tensor]:
        """Picture (1, 3, S, S) in [-1, 1] and mask (1, 1, S, S), 1 for kept and 0 for redrawn, at a side.

        Of a smaller one kept is what is kept all over.
        """
        picture = resize(to_tensor(self.image)[None], size)
        levels = torch.from_numpy(np.array(self.keep))[None, None]  # (1, 1, H, W) uint8
        keep = (levels == KEPT).float()
        return picture, -F.adaptive_max_pool2d(-keep, size)

    def finished(self, drawn: Picture) -> Picture:
        """What was drawn, and over it what stays; how well the two fit is told with the settings."""
        image = Image.composite(self.image, drawn.image, self.keep)
        return replace(drawn, image=image, settings={**drawn.settings, **seam(image, self.keep).texts})


class Filler(Protocol):
    """What draws into pictures: `families.unclip.UnCLIP`."""

    @property
    def default_size(self) -> int: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def fills_in(self) -> bool: ...

    def filling_in(self, filling: Filling) -> Self: ...

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]: ...

    def stream(self, prompt: str, **settings: Unpack[Settings]) -> Iterator[Event]: ...


def edit(
    model: Filler,
    image: Source,
    mask: Source | None,
    prompt: str,
    *,
    n: int = 1,
    size: int | None = None,
    seed: int | None = None,
    steps: int | str | None = None,
    guidance: float | None = None,
    prior: str | None = None,
    prior_guidance: float | None = None,
    candidates: int | None = None,
    rounds: int | None = None,
    fit: str = Fit.LETTERBOX,
) -> Iterator[Event]:
    """A part of a picture drawn anew after a text; what is not masked stays, bit for bit.

    The decoder's estimate is replaced by what is known at every noise level. A decoder that was trained to
    fill in sees what is known, too; with any other every step is taken several times (2201.09865).

    Args:
        model: draws.
        image: the picture.
        mask: a picture of the same size, its transparent pixels (alpha 0) are redrawn; None takes the
            picture's own transparency.
        prompt: what the whole picture shall show.
        n: how many, 1 to 100.
        size: side in pixels; None is that of the square that `fit` makes of the picture where it can be
            drawn, else 256. The picture is resized to it before anything else, and that is what stays.
        seed: as of `Options`.
        steps: of the decoder; None is 30, or the bundle's own where it was trained to fill in.
        guidance, prior, prior_guidance, candidates: as of `Options`.
        rounds: how often each step is taken, 1 to 20; more fit better and take longer. None is 3, or 1 where
            the decoder was trained to fill in.
        fit: what is done with picture and mask that are not square, see `Fit`; what a letterbox leaves free
            is drawn in, too.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: no picture, a mask of another size or without transparency, a value out of range.
    """
    rounds, steps = prepared(model, rounds, steps)
    picture, source = opened(image)
    settings = {"operation": "edit", "source": source, "rounds": str(rounds)}
    transparency = picture
    if mask is not None:
        transparency, settings["mask"] = opened(mask)
        if transparency.size != picture.size:
            raise InputError(
                f"the mask has {transparency.width} x {transparency.height} pixels, the picture "
                f"{picture.width} x {picture.height}: make them the same"
            )
    way = Fit.named(fit)
    own = min(picture.size) if way is Fit.CROP else max(picture.size)
    chosen = (own if own in model.sizes else model.default_size) if size is None else size
    if chosen not in model.sizes:
        raise InputError(f"size {chosen} is not drawn: choose {', '.join(map(str, model.sizes))}")
    keep = kept_of(transparency)
    square = fitted(keep, chosen, way, REDRAWN, Image.Resampling.BOX)
    square = square.point(lambda level: KEPT if level == KEPT else REDRAWN)  # kept is what is kept all over
    whole = (KEPT, KEPT)
    if square.getextrema() == whole or (mask is not None and keep.getextrema() == whole):
        where = " in the middle that is kept" if way is Fit.CROP else ""
        raise InputError(
            f"the {'mask' if mask is not None else 'picture'} is opaque everywhere{where}: make transparent "
            "(alpha 0) what is to be redrawn"
        )
    settings["fit"] = way
    filling = Filling(fitted(on_white(picture), chosen, way), square, rounds, settings)
    return model.filling_in(filling).stream(
        prompt,
        n=n,
        size=chosen,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        steps=steps,
        guidance=guidance,
        prior=prior,
        prior_guidance=prior_guidance,
        candidates=candidates,
    )


def prepared(model: Filler, rounds: int | None, steps: int | str | None) -> tuple[int, int | str | None]:
    """Rounds and steps, with what suits the decoder in place of None; steps stay None for the bundle's own.

    Raises:
        InputError: rounds out of range.
    """
    rounds = (1 if model.fills_in else DEFAULT_ROUNDS) if rounds is None else rounds
    if not 1 <= rounds <= MOST_ROUNDS:
        raise InputError(f"rounds is {rounds}: choose from 1 to {MOST_ROUNDS}")
    return rounds, DEFAULT_STEPS if steps is None and not model.fills_in else steps


def kept_of(picture: Image.Image) -> Image.Image:
    """The mask of a picture, mode L: 0 where it is fully transparent, else 255."""
    return picture.convert("RGBA").getchannel("A").point(lambda alpha: KEPT if alpha else REDRAWN)
