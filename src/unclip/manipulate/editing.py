"""Parts of pictures drawn anew: inpainting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypedDict, Unpack, cast

import numpy as np
from PIL import Image

from unclip.drawing import REMOVE, Event, Job, Options, Picture, checked_number, fresh_seed
from unclip.errors import InputError
from unclip.given import KEPT, REDRAWN, Given, Known
from unclip.images import WHITE, Photo, Source, on_white, opened, photograph
from unclip.keywords import spelled_out
from unclip.manipulate.fitting import Fit, fitted
from unclip.manipulate.masks import (
    DRAWN,
    STAYS,
    Feather,
    checked_feather,
    keep_of,
    shares_of,
    warn_of_next_to_nothing,
)
from unclip.manipulate.removal import removed
from unclip.manipulate.seam import seam
from unclip.pipeline import PICTURES, Pipeline

MOST_ROUNDS = 20
REMOVING = ("n", "size", "seed")  # settings that mean something where nothing is drawn


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
    feather: Feather | None = None,
    **settings: Unpack[FilledIn],
) -> Iterator[Event]:
    """A part of a picture drawn anew after a text; what is not masked stays, bit for bit.

    The estimate of the networks is replaced by what is known at every noise level. One that was trained to
    fill in sees what is known, too; unCLIP's decoder, if it was not, takes every step several times
    (2201.09865).

    Args:
        model: draws.
        image: the picture.
        mask: a picture of the same size. What is transparent in it (alpha 0) is redrawn; in one without
            transparency what is white, of level 128 or more. None takes the picture's own transparency.
        prompt: what the whole picture shall show. "" removes what is masked: the hole is filled from what
            surrounds it, by no network, so that of the settings only `n`, `size` and `seed` mean anything.
        fit: what is done with picture and mask that are not square where a square is asked for: "letterbox",
            "crop" or "stretch"; what a letterbox leaves free is drawn in, too.
        feather: pixels around the hole in which the picture passes into what is drawn, 0 to 512, or "mask"
            for the mask's own soft edge; None is a hard edge.
        settings: see `FilledIn`. Without a `size` the picture comes back as large as it is, with its
            transparency and its colour profile: what is redrawn is drawn in a square around it, and all else
            stays bit for bit. With one a square in sRGB comes back; the picture is resized to it before
            anything else, and that is what stays.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: no picture, a mask of another size or one that leaves all as it is, a value out of range,
            or a bundle that cannot fill in.
    """
    model.check_prompts([prompt])
    model.check_pictures({"picture": [image]})
    photo, source = photograph(image)
    told, width, way = {"operation": "edit", "source": source}, checked_feather(feather), Fit.named(fit)
    drawn = None
    if mask is not None:
        drawn, told["mask"] = opened(mask)
    if width:
        told["feather"] = str(width)
    shares = shares_of(photo.image, drawn, width)
    place: Place
    if settings.get("size") is None and way is Fit.LETTERBOX and shares.getextrema() != (STAYS, STAYS):
        warn_of_next_to_nothing(shares)
        place = Around.of(photo, shares, model.default_size)
        size = next((one for one in model.sizes if one >= place.side), model.sizes[-1])
    else:
        own = min(photo.image.size) if way is Fit.CROP else max(photo.image.size)
        asked = settings.get("size")
        size = model.size(own if asked is None and own in model.sizes else asked)
        place = Squared.of(photo, shares, size, way, "picture" if mask is None else "mask")
    if not prompt and isinstance(prompt, str):
        return _removing(model, place, told, size, settings)
    known = Known(place.seen(size), place.keep(size), checked_rounds(settings))
    options, given = options_of(settings, size), Given(known=known, settings=told | place.settings)
    seed = fresh_seed(options.seed)
    events = model.draw([Job(prompt, seed, index, given) for index in range(options.n)], options)
    return (replace(event, pictures=tuple(map(place.finished, event.pictures))) for event in events)


def _removing(
    model: Pipeline, place: Place, told: dict[str, str], size: int, settings: FilledIn
) -> Iterator[Event]:
    """Pictures without what is masked."""
    for name, value in settings.items():
        if value is not None and name not in REMOVING:
            raise InputError(f"{name} means nothing where a thing is removed and none drawn: leave it out")
    options = options_of(settings, size)
    seed = fresh_seed(options.seed)
    first = place.removed(np.random.default_rng((seed, 0)))  # refuses what cannot be filled

    def work() -> Iterator[Event]:
        started = time.perf_counter()
        for index in range(options.n):
            image = place.removed(np.random.default_rng((seed, index))) if index else first
            about = {"size": f"{image.width} x {image.height}", **told, "operation": REMOVE}
            about |= seam(image.convert("RGB"), keep_of(place.shares)).texts
            bundle = model.bundle
            picture = Picture(image, "", seed, index, None, bundle.name, bundle.identity, about)
            seconds, started = time.perf_counter() - started, time.perf_counter()
            yield Event(PICTURES, index + 1, options.n, seconds, (picture,))

    return work()


class Place(Protocol):
    """The square of a picture that is drawn into, and what comes of it."""

    @property
    def shares(self) -> Image.Image:
        """Mode L, of the size that is handed out, see `masks`."""

    @property
    def settings(self) -> dict[str, str]:
        """The texts that the picture's metadata hold of it."""

    def seen(self, size: int) -> Image.Image:
        """RGB, in sRGB, of `size` pixels: what the networks see."""

    def keep(self, size: int) -> Image.Image:
        """Mode L, 255 where what is seen is kept, all over a pixel of this size."""

    def finished(self, drawn: Picture) -> Picture:
        """The picture that is handed out."""

    def removed(self, random: np.random.Generator) -> Image.Image:
        """The picture that is handed out where nothing is drawn, see `removal`."""


@dataclass(frozen=True)
class Around:
    """A square around what is redrawn; the whole picture is handed out, as large as it is.

    Attributes:
        photo: the picture.
        shares: of the same size, see `masks`.
        left, upper, side: where the square is; it may be larger than the picture.
    """

    photo: Photo
    shares: Image.Image
    left: int
    upper: int
    side: int

    @classmethod
    def of(cls, photo: Photo, shares: Image.Image, usual: int) -> Self:
        """The redrawn part, and as much again around it or the usual size, where the picture has so much."""
        x0, y0, x1, y1 = cast("tuple[int, int, int, int]", shares.getbbox())
        width, height = shares.size
        hole = max(x1 - x0, y1 - y0)
        side = max(hole, min(max(2 * hole, usual), width, height))

        def start(low: int, high: int, length: int) -> int:
            middle = (low + high - side) // 2
            return min(max(middle, 0), length - side) if side <= length else (length - side) // 2

        return cls(photo, shares, start(x0, x1, width), start(y0, y1, height), side)

    @property
    def settings(self) -> dict[str, str]:
        return {"drawn": f"{self.side} x {self.side} at {self.left}, {self.upper}"}

    @property
    def _box(self) -> tuple[int, int, int, int]:
        return (self.left, self.upper, self.left + self.side, self.upper + self.side)

    def seen(self, size: int) -> Image.Image:
        part = Image.new("RGB", (self.side, self.side), WHITE)
        part.paste(on_white(self.photo.image), (-self.left, -self.upper))
        return fitted(part, size, Fit.STRETCH)

    def keep(self, size: int) -> Image.Image:
        return _kept_all_over(keep_of(self.shares).crop(self._box), size, Fit.STRETCH)

    def finished(self, drawn: Picture) -> Picture:
        new = self.photo.in_own_colours(fitted(drawn.image, self.side, Fit.STRETCH))
        whole = self.photo.own.copy()
        x0, y0 = max(0, self.left), max(0, self.upper)  # of what lies in the picture
        x1, y1 = min(whole.width, self._box[2]), min(whole.height, self._box[3])
        new = new.crop((x0 - self.left, y0 - self.upper, x1 - self.left, y1 - self.upper))
        shares = self.shares.crop((x0, y0, x1, y1))
        if whole.mode == "RGBA":
            new.putalpha(shares)
            whole.alpha_composite(new, (x0, y0))
        else:
            whole.paste(new, (x0, y0), shares)
        size = {"size": f"{whole.width} x {whole.height}"}
        return replace(
            drawn,
            image=self.photo.carried_by(whole),
            settings={**drawn.settings, **size},
            kept=keep_of(self.shares),
        )

    def removed(self, random: np.random.Generator) -> Image.Image:
        return self.photo.carried_by(removed(self.photo.own, self.shares, random))


@dataclass(frozen=True)
class Squared:
    """A picture made square, which is handed out in sRGB.

    Attributes:
        image: RGB, square.
        shares: of the same size, see `masks`.
        fit: how it was made so.
    """

    image: Image.Image
    shares: Image.Image
    fit: Fit

    @classmethod
    def of(cls, photo: Photo, shares: Image.Image, size: int, fit: Fit, masked_by: str) -> Self:
        """Raises InputError where nothing of the square is redrawn; `masked_by` is whose fault it is."""
        square = fitted(shares, size, fit, DRAWN, Image.Resampling.BOX)
        if square.getextrema() == (STAYS, STAYS):
            where = " in the middle that is kept" if fit is Fit.CROP else ""
            raise InputError(
                f"the {masked_by} is opaque everywhere{where}: make transparent (alpha 0) what is to be "
                "redrawn, or give a mask that is white there"
            )
        warn_of_next_to_nothing(square)
        return cls(fitted(on_white(photo.image), size, fit), square, fit)

    @property
    def settings(self) -> dict[str, str]:
        return {"fit": self.fit.value}

    def seen(self, size: int) -> Image.Image:
        return self.image

    def keep(self, size: int) -> Image.Image:
        return _kept_all_over(keep_of(self.shares), size, self.fit)

    def finished(self, drawn: Picture) -> Picture:
        kept = keep_of(self.shares)
        if "feather" not in drawn.settings:
            return replace(drawn, kept=kept)
        image = Image.composite(drawn.image, self.image, self.shares)
        return replace(drawn, image=image, kept=kept)

    def removed(self, random: np.random.Generator) -> Image.Image:
        return removed(self.image, self.shares, random)


def _kept_all_over(keep: Image.Image, size: int, fit: Fit) -> Image.Image:
    """A mask at another size: kept is what is kept all over a pixel."""
    square = fitted(keep, size, fit, REDRAWN, Image.Resampling.BOX)
    return square.point(lambda level: KEPT if level == KEPT else REDRAWN)


def options_of(settings: FilledIn, size: int) -> Options:
    """The options among the keywords. Raises InputError for a value out of range."""
    named = {name: value for name, value in settings.items() if name != "rounds"}
    return Options.of(**{**named, "size": size})


def checked_rounds(settings: FilledIn) -> int | None:
    """The rounds that are asked for. Raises InputError where they are out of range."""
    rounds = settings.get("rounds")
    return None if rounds is None else checked_number("rounds", rounds, 1, MOST_ROUNDS)
