"""Pictures extended beyond their edges, tile by tile."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
from PIL import Image

from unclip.drawing import Event, Job, Picture, checked_number, fresh_seed
from unclip.errors import InputError, listed
from unclip.given import KEPT, REDRAWN, Given, Known
from unclip.images import MAX_PIXELS, WHITE, Source, on_white, photograph
from unclip.keywords import spelled_out
from unclip.manipulate.editing import FilledIn, checked_rounds, options_of
from unclip.manipulate.masks import kept_of
from unclip.manipulate.seam import seam
from unclip.pipeline import Pipeline

OVERLAP = 0.5  # of a tile's side, with the tiles beside it
SEEN_SHARE = 0.75  # of a picture's shorter side that a tile sees at least where a size is large enough
MOST_TILES = 1000  # of all pictures: hours on most machines
TILES = "tiles"  # the stage in which tiles are finished, and pictures with the last of them


@dataclass(frozen=True)
class Margins:
    """Pixels to add on each side.

    Attributes:
        left, right, top, bottom: how many, 0 and more; not all 0.

    Raises:
        InputError: a negative one, or none at all.
    """

    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).copy().items():
            object.__setattr__(self, name, checked_number(name, value, 0, MAX_PIXELS))
        if not any(vars(self).values()):
            raise InputError("nothing to extend: give pixels for left, right, top or bottom")


@dataclass(frozen=True)
class Canvas:
    """A picture while it grows.

    Attributes:
        image: RGB, at least as large as a tile.
        keep: mode L of the same size, 255 where a pixel is known, 0 where it is to be drawn.
        wanted: left, upper, right and lower edge of what is handed out.
    """

    image: Image.Image
    keep: Image.Image
    wanted: tuple[int, int, int, int]

    @classmethod
    def around(cls, picture: Image.Image, margins: Margins, tile: int) -> Canvas:
        """A picture with free margins, and around them what a tile needs where they are smaller than one."""
        width = picture.width + margins.left + margins.right
        height = picture.height + margins.top + margins.bottom
        size = (max(width, tile), max(height, tile))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        place = (left + margins.left, top + margins.top)
        image, keep = Image.new("RGB", size, WHITE), Image.new("L", size, REDRAWN)
        image.paste(on_white(picture), place)
        keep.paste(kept_of(picture), place)
        return cls(image, keep, (left, top, left + width, top + height))

    def tiles(self, side: int) -> list[tuple[int, int]]:
        """Left upper corners of the tiles to draw, in their order: always the one of which most is known."""
        known = np.asarray(self.keep) == KEPT  # (H, W)
        missing = ~known
        missing[: self.wanted[1]] = missing[self.wanted[3] :] = False
        missing[:, : self.wanted[0]] = missing[:, self.wanted[2] :] = False
        rows, columns = (_starts(length, side) for length in known.shape)
        windows = [(slice(y, y + side), slice(x, x + side)) for y in rows for x in columns]
        seen = [np.count_nonzero(known[window]) for window in windows]
        waiting = [(-count, place) for place, count in enumerate(seen)]
        heapq.heapify(waiting)
        order = []
        while waiting:
            count, place = heapq.heappop(waiting)
            window = windows[place]
            if -count != seen[place] or not missing[window].any():
                continue  # more of it is known by now, or there is nothing to draw
            known[window], missing[window] = True, False
            order.append((window[1].start, window[0].start))
            for y in _overlapping(rows, window[0].start, side):
                for x in _overlapping(columns, window[1].start, side):
                    beside = y * len(columns) + x
                    seen[beside] = np.count_nonzero(known[windows[beside]])
                    heapq.heappush(waiting, (-seen[beside], beside))
        return order

    def copy(self) -> Canvas:
        return replace(self, image=self.image.copy(), keep=self.keep.copy())


@spelled_out(FilledIn)
def outpaint(
    model: Pipeline, image: Source, prompt: str, margins: Margins, **settings: Unpack[FilledIn]
) -> Iterator[Event]:
    """A picture extended: square tiles that overlap are drawn one after the other, from the picture outwards.

    Each tile sees what is known by then and draws the rest, as `edit` does. What the picture has stays bit
    for bit, at its own resolution; what is transparent in it is drawn, too.

    Args:
        model: draws.
        image: the picture, of any shape; not all of it transparent.
        prompt: what every tile shall show.
        margins: how far to extend.
        settings: see `FilledIn`; `size` is the side of a tile in pixels, by default as of `tile_for`.

    Returns:
        Events, as `Pipeline.stream`; the first one, with step 0 of "tiles", says how many will be drawn.
        Input is checked now, drawing happens while they are read.

    Raises:
        InputError: no picture, an extended one of more than 50 megapixels or 1,000 tiles, or a value out of
            range.
    """
    model.check_prompts([prompt])
    model.check_pictures({"picture": [image]})
    photo, source = photograph(image)
    picture = photo.image
    width = picture.width + margins.left + margins.right
    height = picture.height + margins.top + margins.bottom
    if width * height > MAX_PIXELS:
        raise InputError(
            f"extended, the picture has {width} x {height} pixels, more than "
            f"{MAX_PIXELS // 10**6} megapixels: extend it less"
        )
    if kept_of(picture).getextrema() == (REDRAWN, REDRAWN):
        raise InputError("all of the picture is transparent: there is nothing to extend")
    asked, rounds = settings.get("size"), checked_rounds(settings)
    side = model.size(tile_for(picture, model.sizes) if asked is None else asked)
    options = options_of(settings, side)
    seed = fresh_seed(options.seed)
    whole = Canvas.around(picture, margins, side)
    corners = whole.tiles(side)
    if len(corners) * options.n > MOST_TILES:
        larger = [size for size in model.sizes if size > side]
        ways = ["extend it less", *["draw fewer"][: options.n - 1]]
        ways += [f"take larger tiles (size {listed(larger)})"] if larger else []
        raise InputError(
            f"to extend it so far takes {len(corners) * options.n} tiles of {side} px, more than "
            f"{MOST_TILES}: {' or '.join(ways)}"
        )
    told = {
        "operation": "outpaint",
        "source": source,
        "size": f"{width} x {height}",
        "tile": str(side),
        **{name: str(value) for name, value in vars(margins).items()},
    }

    def tile(canvas: Canvas, number: int, index: int) -> Iterator[Event]:
        box = _box(corners[number], side)
        known = Known(canvas.image.crop(box), canvas.keep.crop(box), rounds, part=f"-{number}")
        return model.draw([Job(prompt, seed, index, Given(known=known))], options)

    def extended(canvas: Canvas, drawn: Picture) -> Picture:
        """The whole, with what its last tile says of itself; no score, for that is the tile's."""
        image, known = canvas.image.crop(canvas.wanted), whole.keep.crop(canvas.wanted)
        fits = seam(image, known).texts
        image = photo.carried_by(photo.in_own_colours(image))
        image.paste(on_white(photo.own), (margins.left, margins.top), kept_of(picture))
        settings = {**drawn.settings, **told, **fits}
        return replace(drawn, image=image, score=None, settings=settings, kept=known)

    first = tile(whole, 0, 0)  # refuses what cannot be drawn

    def work() -> Iterator[Event]:
        done: Counter[str] = Counter()
        yield Event(TILES, 0, len(corners) * options.n, 0.0)  # how many there will be
        for index in range(options.n):
            canvas = whole.copy()
            for number, corner in enumerate(corners):
                begun = first if index == number == 0 else tile(canvas, number, index)
                for event in begun:
                    stage, finished = event.stage, event.pictures
                    if finished:
                        stage = TILES
                        canvas.image.paste(finished[0].image, corner)
                        canvas.keep.paste(KEPT, _box(corner, side))
                        last = number == len(corners) - 1
                        finished = (extended(canvas, finished[0]),) if last else ()
                    done[stage] += 1
                    total = event.total * len(corners) * options.n
                    yield replace(event, stage=stage, step=done[stage], total=total, pictures=finished)

    return work()


def tile_for(picture: Image.Image, sizes: Sequence[int]) -> int:
    """The smallest of rising sizes for a tile to see most of a picture's shorter side, or the largest."""
    wanted = SEEN_SHARE * min(picture.size)
    return next((size for size in sizes if size >= wanted), sizes[-1])


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin that cover a length evenly and overlap by `OVERLAP` at least."""
    free = length - side
    count = math.ceil(free / (side * (1 - OVERLAP))) + 1
    return [round(free * tile / (count - 1)) for tile in range(count)] if count > 1 else [0]


def _overlapping(starts: list[int], start: int, side: int) -> range:
    """The places, among rising starts, of tiles that overlap the one that starts there."""
    return range(bisect_right(starts, start - side), bisect_left(starts, start + side))


def _box(corner: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    return (*corner, corner[0] + side, corner[1] + side)
