"""Pictures made of pictures: variations, blends and text diffs (section 3 of 2204.06125)."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Sequence
from enum import StrEnum

import torch.nn.functional as F

from unclip.drawing import Event, Job, Options, kept
from unclip.errors import InputError
from unclip.manipulate.fitting import Fit, squared
from unclip.manipulate.latents import Editor, Frame, Inversion, Latents, Source, mixed, opened, slerp

MOST_BLENDED = 16  # pictures
LARGEST_TURN = 0.5  # of the way from z_i to the text diff at amount 1; section 3.3: 0.25 to 0.5
SAME_TEXTS = 1e-4  # length of the difference of two unit embeddings that says nothing


class Start(StrEnum):
    """What the frames of a blend are drawn from."""

    SLERP = "slerp"  # the pictures' own x_T, slerped as the embeddings are: the ends are the pictures
    FIXED = "fixed"  # one noise for all, the seed's: only what CLIP sees goes over


def vary(
    model: Editor,
    image: Source,
    *,
    n: int = 1,
    strength: float = 1.0,
    size: int | None = None,
    seed: int | None = None,
    steps: int | str | None = None,
    guidance: float | None = None,
    fit: str = Fit.LETTERBOX,
) -> Iterator[Event]:
    """Variations of a picture: what CLIP sees in it stays, the rest is drawn anew (section 3.1).

    Args:
        model: draws.
        image: the picture.
        n: how many, 1 to 100.
        strength: 0 gives the picture back as the decoder draws it, 1 keeps z_i alone. Between them it is
            DDIM's eta, and the share of fresh noise in what is started from: sqrt(1 - s^2) x_T + s noise.
        size, seed: as of `Options`.
        steps, guidance: of DDIM; None is 25 and 1.
        fit: what is done with a picture that is not square, see `Fit`; a letterbox is white.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: a value outside its range, or no picture.
    """
    check_fraction("strength", strength)
    inversion = Inversion.of(steps, guidance)
    options = chosen(model, n, size, seed, guidance)
    way = Fit.named(fit)
    picture, source = opened(image)
    settings = {"operation": "vary", "source": source, "fit": way, "strength": f"{strength:g}"}

    def work() -> Iterator[Event]:
        (latents,) = yield from model.invert([squared(picture, way)], inversion)
        jobs = [Job("", seed_of(options), index) for index in range(n)]
        kept = math.sqrt(1 - strength**2)
        noise = model.start_noise(jobs)  # (B, 3, S, S)
        starts = kept * latents.x_T + strength * noise if strength else latents.x_T.expand_as(noise)
        drawn = {job: Latents(latents.z_i, start, inversion) for job, start in zip(jobs, starts, strict=True)}
        yield from model.draw_latents(drawn, options, eta=strength, settings=settings)

    return work()


def blend(
    model: Editor,
    images: Sequence[Source],
    *,
    frames: int = 8,
    weights: Sequence[float] | None = None,
    start: Start = Start.SLERP,
    size: int | None = None,
    seed: int | None = None,
    steps: int | str | None = None,
    guidance: float | None = None,
    fit: str = Fit.LETTERBOX,
) -> Iterator[Event]:
    """Pictures between pictures (section 3.2): z_i is slerped, and x_T as `start` says.

    Args:
        model: draws.
        images: two or more, at most 16; the frames lead from each to the next.
        frames: how many in all, 2 to 100, as many as there are pictures at least.
        weights: one for each picture, not negative, not all zero: one mixture of all of them instead of a
            way; `frames` is then not used.
        start: see `Start`.
        size, seed: as of `Options`; all frames share the noise of the upsamplers.
        steps, guidance, fit: as of `vary`.

    Returns:
        Events, as `Pipeline.stream`, the frames in their order.

    Raises:
        InputError: a value outside its range, or no picture.
    """
    if not 2 <= len(images) <= MOST_BLENDED:
        raise InputError(f"{len(images)} pictures to blend: give from 2 to {MOST_BLENDED}")
    if weights is not None:
        _check_weights(weights, len(images))
    elif frames < len(images):
        raise InputError(f"frames is {frames}: blending {len(images)} pictures takes {len(images)} or more")
    inversion = Inversion.of(steps, guidance)
    options = chosen(model, frames if weights is None else 1, size, seed, guidance)
    way = Fit.named(fit)
    pictures, sources = zip(*(opened(image) for image in images), strict=True)
    settings = {"operation": "blend", "source": ", ".join(sources), "fit": way, "start": str(start)}
    if weights is None:
        shares = [_way(frame / (frames - 1), len(images)) for frame in range(frames)]
        settings["frames"] = str(frames)
    else:
        shares = [list(weights)]
        settings["weights"] = ", ".join(f"{weight:g}" for weight in weights)

    def work() -> Iterator[Event]:
        latents = yield from model.invert([squared(one, way) for one in pictures], inversion)
        jobs = [Frame("", seed_of(options), frame) for frame in range(len(shares))]
        (noise,) = model.start_noise(jobs[:1])  # (3, S, S)
        drawn: dict[Job, Latents] = {}
        for job, share in zip(jobs, shares, strict=True):
            z_i = mixed([one.z_i for one in latents], share)
            x_T = mixed([one.x_T for one in latents], share) if start is Start.SLERP else noise
            drawn[job] = Latents(z_i, x_T, inversion)
        yield from model.draw_latents(drawn, options, settings=settings)

    return work()


def restyle(
    model: Editor,
    image: Source,
    to: str,
    origin: str = "",
    *,
    amount: float = 1.0,
    frames: int = 1,
    size: int | None = None,
    seed: int | None = None,
    steps: int | str | None = None,
    guidance: float | None = None,
    fit: str = Fit.LETTERBOX,
) -> Iterator[Event]:
    """A picture moved as one text differs from another (text diffs, section 3.3 of 2204.06125).

    z_d is CLIP's embedding of `to` less that of `origin`, of length 1; z_i is slerped towards it, up to
    `amount` of half the way, and x_T stays.

    Args:
        model: draws.
        image: the picture.
        to: what it shall be.
        origin: what it is; by default the empty caption.
        amount: 0 gives the picture back, 1 goes as far as the paper does.
        frames: 1 is the result alone; of several the first is the picture and the last the result.
        size, seed, steps, guidance, fit: as of `blend`.

    Returns:
        Events, as `Pipeline.stream`, the frames in their order.

    Raises:
        InputError: a value outside its range, no picture, or texts that CLIP does not tell apart.
    """
    check_fraction("amount", amount)
    if not to.strip():
        raise InputError("the text to go to is empty: say what the picture shall be")
    inversion = Inversion.of(steps, guidance)
    options = chosen(model, frames, size, seed, guidance)
    way = Fit.named(fit)
    picture, source = opened(image)
    difference = model.clip.embed_texts([to]) - model.clip.embed_texts([origin])  # (1, E)
    if difference.norm() < SAME_TEXTS:
        raise InputError("CLIP does not tell the two texts apart: say how the picture shall change")
    settings = {
        "operation": "restyle",
        "source": source,
        "fit": way,
        "from": kept(origin),
        "to": kept(to),
        "amount": f"{amount:g}",
        "frames": str(frames),
    }

    def work() -> Iterator[Event]:
        (latents,) = yield from model.invert([squared(picture, way)], inversion)
        direction = F.normalize(difference[0].to(latents.z_i), dim=0) * latents.z_i.norm()  # (E,)
        drawn: dict[Job, Latents] = {}
        for frame in range(frames):
            part = 1.0 if frames == 1 else frame / (frames - 1)
            z_i = slerp(latents.z_i, direction, part * amount * LARGEST_TURN)
            drawn[Frame("", seed_of(options), frame)] = Latents(z_i, latents.x_T, inversion)
        yield from model.draw_latents(drawn, options, settings=settings)

    return work()


def _way(position: float, count: int) -> list[float]:
    """Shares of `count` pictures at a position from 0 (the first) to 1 (the last)."""
    place = position * (count - 1)
    return [max(0.0, 1 - abs(place - picture)) for picture in range(count)]


def _check_weights(weights: Sequence[float], count: int) -> None:
    if len(weights) != count:
        raise InputError(f"{len(weights)} weights for {count} pictures: give one for each")
    if not all(0 <= weight < math.inf for weight in weights) or sum(weights) == 0:
        raise InputError(f"weights {list(weights)}: give numbers of 0 and more, not all 0")


def chosen(model: Editor, n: int, size: int | None, seed: int | None, guidance: float | None) -> Options:
    """The options of a drawing, with a seed and a size. Raises InputError for what is out of range."""
    options = Options(
        n=n,
        size=model.default_size if size is None else size,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        guidance=guidance,
    )
    if options.size not in model.sizes:
        raise InputError(f"size {options.size} is not drawn: choose {', '.join(map(str, model.sizes))}")
    return options


def seed_of(options: Options) -> int:
    assert options.seed is not None  # `chosen` gives one
    return options.seed


def check_fraction(name: str, value: float) -> None:
    """Raises InputError for what is not from 0 to 1."""
    if not 0 <= value <= 1:  # NaN is not, either
        raise InputError(f"{name} is {value}: choose from 0 to 1")
