"""Parts of pictures drawn anew: inpainting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict, Unpack

from PIL import Image

from unclip.drawing import Event, Job, Options, fresh_seed
from unclip.errors import InputError
from unclip.given import KEPT, REDRAWN, Given, Known
from unclip.images import Source, on_white, opened
from unclip.manipulate.fitting import Fit, fitted
from unclip.pipeline import Pipeline

MOST_ROUNDS = 20


class FilledIn(TypedDict, total=False):
    """Keywords of all that draws into a picture.

    n: how many, 1 to 100.
    size, seed, guidance, prior, prior_guidance, candidates: as of `Options`.
    steps: of the decoder; None is 30, or the bundle's own where it was trained to fill in.
    rounds: how often each step is taken, 1 to 20; more fit better and take longer. None is 3, or 1 where the
        decoder was trained to fill in.
    """

    n: int
    size: int | None
    seed: int | None
    steps: int | str | None
    guidance: float | None
    prior: str | None
    prior_guidance: float | None
    candidates: int | None
    rounds: int | None


def edit(
    model: Pipeline,
    image: Source,
    mask: Source | None,
    prompt: str,
    *,
    fit: str = Fit.LETTERBOX,
    **settings: Unpack[FilledIn],
) -> Iterator[Event]:
    """A part of a picture drawn anew after a text; what is not masked stays, bit for bit.

    The estimate of the networks is replaced by what is known at every noise level. One that was trained to
    fill in sees what is known, too; unCLIP's decoder, if it was not, takes every step several times
    (2201.09865).

    Args:
        model: draws.
        image: the picture.
        mask: a picture of the same size, its transparent pixels (alpha 0) are redrawn; None takes the
            picture's own transparency.
        prompt: what the whole picture shall show.
        fit: what is done with picture and mask that are not square, see `Fit`; what a letterbox leaves free
            is drawn in, too.
        settings: see `FilledIn`. The default `size` is that of the square that `fit` makes of the picture
            where it can be drawn, else 256. The picture is resized to it before anything else, and that is
            what stays.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: no picture, a mask of another size or without transparency, a value out of range, or a
            bundle that cannot fill in.
    """
    picture, source = opened(image)
    told = {"operation": "edit", "source": source}
    transparency = picture
    if mask is not None:
        transparency, told["mask"] = opened(mask)
        if transparency.size != picture.size:
            raise InputError(
                f"the mask has {transparency.width} x {transparency.height} pixels, the picture "
                f"{picture.width} x {picture.height}: make them the same"
            )
    way = Fit.named(fit)
    own = min(picture.size) if way is Fit.CROP else max(picture.size)
    asked = settings.get("size")
    size = model.size(own if asked is None and own in model.sizes else asked)
    keep = kept_of(transparency)
    square = fitted(keep, size, way, REDRAWN, Image.Resampling.BOX)
    square = square.point(lambda level: KEPT if level == KEPT else REDRAWN)  # kept is what is kept all over
    whole = (KEPT, KEPT)
    if square.getextrema() == whole or (mask is not None and keep.getextrema() == whole):
        where = " in the middle that is kept" if way is Fit.CROP else ""
        raise InputError(
            f"the {'mask' if mask is not None else 'picture'} is opaque everywhere{where}: make transparent "
            "(alpha 0) what is to be redrawn"
        )
    known = Known(fitted(on_white(picture), size, way), square, checked_rounds(settings))
    given = Given(known=known, settings=told | {"fit": way.value})
    options = options_of(settings, size)
    seed = fresh_seed(options.seed)
    return model.draw([Job(prompt, seed, index, given) for index in range(options.n)], options)


def options_of(settings: FilledIn, size: int) -> Options:
    """The options among the keywords. Raises InputError for a value out of range."""
    named = {name: value for name, value in settings.items() if name != "rounds"}
    return Options.of(**{**named, "size": size})


def checked_rounds(settings: FilledIn) -> int | None:
    """The rounds that are asked for. Raises InputError where they are out of range."""
    rounds = settings.get("rounds")
    if rounds is not None and not 1 <= rounds <= MOST_ROUNDS:
        raise InputError(f"rounds is {rounds}: choose from 1 to {MOST_ROUNDS}")
    return rounds


def kept_of(picture: Image.Image) -> Image.Image:
    """The mask of a picture, mode L: 0 where it is fully transparent, else 255."""
    return picture.convert("RGBA").getchannel("A").point(lambda alpha: KEPT if alpha else REDRAWN)
