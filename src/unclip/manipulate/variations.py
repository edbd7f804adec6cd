"""Pictures made of pictures: variations, blends and text diffs (section 3 of 2204.06125).

Each returns events, as `Pipeline.stream`: input is checked when it is called, and the drawing happens while
they are read. What is out of range, or no picture, is an InputError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Unpack

import torch.nn.functional as F

from unclip.drawing import Event, Options, check_text, checked_number, kept
from unclip.errors import InputError, shown
from unclip.given import NOTHING
from unclip.images import Source, opened, several
from unclip.keywords import spelled_out
from unclip.manipulate.fitting import squared
from unclip.manipulate.latents import FromLatents, Latents, Way, mixed, slerp
from unclip.pipeline import Pipeline

MOST_BLENDED = 16  # pictures
MOST_WEIGHT = 1e6  # of a picture in a mixture
LARGEST_TURN = 0.5  # of the way from z_i to the text diff at amount 1; section 3.3: 0.25 to 0.5
SAME_TEXTS = 1e-4  # length of the difference of two unit embeddings that says nothing


class Start(StrEnum):
    """The noise that the frames of a blend are drawn from."""

    SLERP = "slerp"  # the pictures' own x_T, slerped as the embeddings are: the ends are the pictures
    FIXED = "fixed"  # one noise for all, the seed's: only what CLIP sees goes over

    @classmethod
    def named(cls, name: str) -> Start:
        """The noise of this name. Raises InputError that lists them where there is none."""
        try:
            return cls(name)
        except ValueError:
            raise InputError(f"unknown start {shown(name)}: choose {', '.join(cls)}") from None


@spelled_out(FromLatents)
def vary(
    model: Pipeline, image: Source, *, n: int = 1, strength: float = 1.0, **settings: Unpack[FromLatents]
) -> Iterator[Event]:
    """Variations of a picture: what CLIP sees in it stays, the rest is drawn anew (section 3.1).

    Args:
        model: draws.
        image: the picture.
        n: how many, 1 to 100.
        strength: 0 gives the picture back as the decoder draws it, 1 keeps z_i alone. Between them it is
            DDIM's eta, and the share of fresh noise in what is started from: sqrt(1 - s^2) x_T + s noise.
        settings: see `FromLatents`.
    """
    strength = checked_number("strength", strength, 0.0, 1.0)
    way = Way.of(model, n, settings)
    model.check_pictures({"picture": [image]})
    picture, source = opened(image)
    told = {"operation": "vary", "source": source, "fit": way.fit.value, "strength": f"{strength:g}"}

    def work() -> Iterator[Event]:
        if strength == 1:  # of x_T nothing is left, so it need not be found
            (z_i,), x_T = way.inverting.embed([squared(picture, way.fit)]), None
        else:
            (found,) = yield from way.latents([picture])
            z_i, x_T = found.z_i, found.x_T  # (3, S, S)
        fresh = way.inverting.noise([way.job(index, NOTHING) for index in range(n)])  # (B, 3, S, S)
        starts = fresh if x_T is None else math.sqrt(1 - strength**2) * x_T + strength * fresh
        latents = [Latents(z_i, start, way.inverting.inversion) for start in starts]
        yield from way.draw([one.given(told, eta=strength) for one in latents])

    return work()


@spelled_out(FromLatents)
def blend(
    model: Pipeline,
    images: Sequence[Source],
    *,
    frames: int = 8,
    weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
    start: Start = Start.SLERP,
    **settings: Unpack[FromLatents],
) -> Iterator[Event]:
    """Pictures between pictures (section 3.2), in their order: z_i is slerped, and x_T as `start` says.

    Args:
        model: draws.
        images: two or more, at most 16; the frames lead from each to the next.
        frames: how many in all, 2 to 100, as many as there are pictures at least.
        weights: one for each picture, not negative, not all zero: one mixture of all of them instead of a
            way; or several such lists, a frame each, as of a plane between three or four pictures (`plane`);
            `frames` is then not used.
        start: see `Start`.
        settings: see `FromLatents`.
    """
    images, start = several(images), Start.named(start)
    if not 2 <= len(images) <= MOST_BLENDED:
        raise InputError(f"{len(images)} pictures to blend: give from 2 to {MOST_BLENDED}")
    shares: list[list[float]] = []
    if weights is not None:
        shares = _mixtures(weights, len(images))
    else:
        frames = checked_number("frames", frames, 1, Options.MOST)
        if frames < len(images):
            raise InputError(
                f"frames is {frames}: blending {len(images)} pictures takes {len(images)} or more"
            )
        shares = [_way(frame / max(1, frames - 1), len(images)) for frame in range(frames)]
    way = Way.of(model, len(shares), settings)
    model.check_pictures({"picture": images})
    pictures, sources = zip(*(opened(image) for image in images), strict=True)
    told = {"operation": "blend", "source": ", ".join(sources), "fit": way.fit.value, "start": str(start)}
    if weights is None:
        told["frames"] = str(frames)

    def work() -> Iterator[Event]:
        found = yield from way.latents(pictures)
        (noise,) = way.inverting.noise([way.job(0, NOTHING)])  # (3, S, S)
        given = []
        for share in shares:
            z_i = mixed([one.z_i for one in found], share)
            x_T = mixed([one.x_T for one in found], share) if start is Start.SLERP else noise
            own = {} if weights is None else {"weights": ", ".join(f"{one:g}" for one in share)}
            given.append(Latents(z_i, x_T, way.inverting.inversion).given(told | own, shared=0))
        yield from way.draw(given)

    return work()


def plane(side: int, pictures: int) -> list[list[float]]:
    """Weights for `blend` of a plane between three or four pictures, `side` x `side`, row by row.

    Four pictures are its corners (top left, top right, bottom left, bottom right), mixed bilinearly. Three
    are two corners above and the middle of the lower side.

    Raises:
        InputError: another number of pictures, or a side below 2 or with more frames than are drawn at once.
    """
    most = math.isqrt(Options.MOST)
    side = checked_number("side", side, 2, most)
    if pictures not in (3, 4):
        raise InputError(f"{pictures} pictures: a plane lies between 3 or 4")
    shares = []
    for row in range(side):
        for column in range(side):
            x, y = column / (side - 1), row / (side - 1)
            above = [(1 - x) * (1 - y), x * (1 - y)]
            shares.append([*above, (1 - x) * y, x * y] if pictures == 4 else [*above, y])
    return shares


@spelled_out(FromLatents)
def restyle(
    model: Pipeline,
    image: Source,
    to: str,
    origin: str = "",
    *,
    amount: float = 1.0,
    frames: int = 1,
    **settings: Unpack[FromLatents],
) -> Iterator[Event]:
    """A picture moved as one text differs from another (text diffs, section 3.3), its frames in their order.

    z_d is CLIP's embedding of `to` less that of `origin`, of length 1; z_i is slerped towards it, up to
    `amount` of half the way, and x_T stays.

    Args:
        model: draws.
        image: the picture.
        to: what it shall be.
        origin: what it is; by default the empty caption.
        amount: 0 gives the picture back, 1 goes as far as the paper does.
        frames: 1 is the result alone; of several the first is the picture and the last the result.
        settings: see `FromLatents`.
    """
    amount = checked_number("amount", amount, 0.0, 1.0)
    frames = checked_number("frames", frames, 1, Options.MOST)
    for text in (to, origin):
        check_text("a text", text)
    if not to.strip():
        raise InputError("the text to go to is empty: say what the picture shall be")
    way = Way.of(model, frames, settings)
    model.check_prompts([to])
    model.check_prompts([origin], "origin")
    model.check_pictures({"picture": [image]})
    picture, source = opened(image)
    read_to, read_origin = model.translated([to, origin])
    model.check_prompts([read_to])
    difference = model.clip.embed_texts([read_to]) - model.clip.embed_texts([read_origin])  # (1, E)
    if difference.norm() < SAME_TEXTS:
        raise InputError("CLIP does not tell the two texts apart: say how the picture shall change")
    told = {
        "operation": "restyle",
        "source": source,
        "fit": way.fit.value,
        "from": kept(origin),
        "to": kept(to),
        "amount": f"{amount:g}",
        "frames": str(frames),
    }
    if model.translator is not None:
        told |= {"from_translation": kept(read_origin), "to_translation": kept(read_to)}

    def work() -> Iterator[Event]:
        (found,) = yield from way.latents([picture])
        direction = F.normalize(difference[0].to(found.z_i), dim=0) * found.z_i.norm()  # (E,)
        given = []
        for frame in range(frames):
            part = 1.0 if frames == 1 else frame / (frames - 1)
            z_i = slerp(found.z_i, direction, part * amount * LARGEST_TURN)
            given.append(Latents(z_i, found.x_T, found.inversion).given(told, shared=0))
        yield from way.draw(given)

    return work()


def _way(position: float, count: int) -> list[float]:
    """Shares of `count` pictures at a position from 0 (the first) to 1 (the last)."""
    place = position * (count - 1)
    return [max(0.0, 1 - abs(place - picture)) for picture in range(count)]


def _mixtures(weights: Sequence[Any], count: int) -> list[list[float]]:
    """One mixture or several, checked."""
    nested = hasattr(weights, "__iter__") and not isinstance(weights, str)
    several: list[Any] = list(weights) if nested else [weights]
    if not any(hasattr(one, "__iter__") for one in several):
        return [_checked_weights(several, count)]
    if len(several) > Options.MOST:
        raise InputError(f"{len(several)} mixtures: at most {Options.MOST} are drawn at once")
    return [_checked_weights(one, count) for one in several]


def _checked_weights(weights: Sequence[float], count: int) -> list[float]:
    given = list(weights) if hasattr(weights, "__iter__") and not isinstance(weights, str) else [weights]
    if len(given) != count:
        raise InputError(f"{len(given)} weights for {count} pictures: give one for each")
    checked: list[float] = [checked_number("a weight", one, 0.0, MOST_WEIGHT) for one in given]
    if sum(checked) == 0:
        raise InputError(f"weights {shown(checked)}: give numbers of 0 and more, not all 0")
    return checked
