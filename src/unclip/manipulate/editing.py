"""Parts of pictures drawn anew: inpainting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypedDict, Unpack, cast

from PIL import Image, ImageChops

from unclip.drawing import Event, Job, Options, Picture, fresh_seed
from unclip.errors import InputError, warn
from unclip.given import KEPT, REDRAWN, Given, Known
from unclip.images import WHITE, Source, on_white, opened
from unclip.keywords import spelled_out
from unclip.manipulate.fitting import Fit, fitted
from unclip.pipeline import Pipeline

MOST_ROUNDS = 20
WHITE_FROM = 128  # level of a mask without transparency
LEAST_REDRAWN = 0.0005  # of a picture, that a mask is likely to be meant for


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


@spelled_out(FilledIn)
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
        mask: a picture of the same size, its transparent pixels (alpha 0) are redrawn; one without
            transparency is black and white, and what is white is redrawn. None takes the picture's own
            transparency.
        prompt: what the whole picture shall show.
        fit: what is done with picture and mask that are not square where a square is asked for, see `Fit`;
            what a letterbox leaves free is drawn in, too.
        settings: see `FilledIn`. Without a `size` the picture comes back as large as it is: what is redrawn
            is drawn in a square around it, and all else stays bit for bit. With one a square comes back; the
            picture is resized to it before anything else, and that is what stays.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: no picture, a mask of another size or without transparency, a value out of range, or a
            bundle that cannot fill in.
    """
    picture, source = opened(image)
    told = {"operation": "edit", "source": source}
    keep = kept_of(picture)
    if mask is not None:
        drawn, told["mask"] = opened(mask)
        if drawn.size != picture.size:
            raise InputError(
                f"the mask has {drawn.width} x {drawn.height} pixels, the picture "
                f"{picture.width} x {picture.height}: make them the same"
            )
        keep = _kept_of_mask(drawn)
    way = Fit.named(fit)
    own = min(picture.size) if way is Fit.CROP else max(picture.size)
    asked, fits = settings.get("size"), picture.size == (own, own) and own in model.sizes
    if asked is None and way is Fit.LETTERBOX and not fits and keep.getextrema() != (KEPT, KEPT):
        return _in_place(model, picture, keep, prompt, told, settings)
    size = model.size(own if asked is None and own in model.sizes else asked)
    square = fitted(keep, size, way, REDRAWN, Image.Resampling.BOX)
    square = square.point(lambda level: KEPT if level == KEPT else REDRAWN)  # kept is what is kept all over
    whole = (KEPT, KEPT)
    if square.getextrema() == whole or (mask is not None and keep.getextrema() == whole):
        where = " in the middle that is kept" if way is Fit.CROP else ""
        raise InputError(
            f"the {'mask' if mask is not None else 'picture'} is opaque everywhere{where}: make transparent "
            "(alpha 0) what is to be redrawn, or give a mask that is white there"
        )
    known = Known(fitted(on_white(picture), size, way), square, checked_rounds(settings))
    given = Given(known=known, settings=told | {"fit": way.value})
    options = options_of(settings, size)
    seed = fresh_seed(options.seed)
    return model.draw([Job(prompt, seed, index, given) for index in range(options.n)], options)


def _in_place(
    model: Pipeline,
    picture: Image.Image,
    keep: Image.Image,
    prompt: str,
    told: dict[str, str],
    settings: FilledIn,
) -> Iterator[Event]:
    """Redraw a part of a picture in a square around it; the whole comes back, as large as it is."""
    _warn_of_next_to_nothing(keep)
    left, upper, side = _window(keep, model.default_size)
    box = (left, upper, left + side, upper + side)
    size = next((one for one in model.sizes if one >= side), model.sizes[-1])
    part = Image.new("RGB", (side, side), WHITE)
    part.paste(on_white(picture), (-left, -upper))
    free = fitted(keep.crop(box), size, Fit.STRETCH, resample=Image.Resampling.BOX)
    free = free.point(lambda level: KEPT if level == KEPT else REDRAWN)
    known = Known(fitted(part, size, Fit.STRETCH), free, checked_rounds(settings))
    options, about = options_of(settings, size), {**told, "drawn": f"{side} x {side} at {left}, {upper}"}
    seed, given = fresh_seed(options.seed), Given(known=known, settings=about)
    events = model.draw([Job(prompt, seed, index, given) for index in range(options.n)], options)

    def whole(drawn: Picture) -> Picture:
        image = picture.copy()
        new = fitted(drawn.image, side, Fit.STRETCH).convert(image.mode)
        hole = keep.crop(box).point(lambda level: 0 if level == KEPT else 255)
        inside = Image.new("L", (side, side))  # what of the square lies in the picture
        inside.paste(255, (-left, -upper, picture.width - left, picture.height - upper))
        image.paste(new, (left, upper), ImageChops.multiply(hole, inside))
        size = {"size": f"{picture.width} x {picture.height}"}
        return replace(drawn, image=image, settings={**drawn.settings, **size})

    def work() -> Iterator[Event]:
        for event in events:
            yield replace(event, pictures=tuple(map(whole, event.pictures)))

    return work()


def _window(keep: Image.Image, usual: int) -> tuple[int, int, int]:
    """Left, upper and side of the square that is drawn: what is redrawn, and as much again around it.

    It lies in the picture where that is large enough.
    """
    x0, y0, x1, y1 = cast("tuple[int, int, int, int]", ImageChops.invert(keep).getbbox())
    hole, least = max(x1 - x0, y1 - y0), min(keep.size)
    side = max(hole, min(max(2 * hole, usual), least))

    def start(low: int, high: int, length: int) -> int:
        middle = (low + high - side) // 2
        return min(max(middle, 0), length - side) if side <= length else (length - side) // 2

    return start(x0, x1, keep.width), start(y0, y1, keep.height), side


def _warn_of_next_to_nothing(keep: Image.Image) -> None:
    """A mask that leaves nearly all as it is may be one the wrong way round, or another picture's."""
    share = keep.histogram()[REDRAWN] / (keep.width * keep.height)
    if share < LEAST_REDRAWN:
        warn(f"the mask leaves {1 - share:.2%} of the picture as it is: is it the right one?")


def _kept_of_mask(mask: Image.Image) -> Image.Image:
    """The mask, mode L: 0 where it is transparent, or without transparency white; else 255."""
    if mask.mode == "RGBA" and mask.getchannel("A").getextrema() != (KEPT, KEPT):
        return kept_of(mask)
    return mask.convert("L").point(lambda level: REDRAWN if level >= WHITE_FROM else KEPT)


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
