"""Pictures made of pictures: variations (section 3.1 of 2204.06125)."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator

from unclip.drawing import Event, Job, Options
from unclip.errors import InputError
from unclip.manipulate.latents import Editor, Inversion, Latents, Source, opened


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
) -> Iterator[Event]:
    """Variations of a picture: what CLIP sees in it stays, the rest is drawn anew (section 3.1).

    Args:
        model: draws.
        image: the picture; one that is not square is shown whole, on white.
        n: how many, 1 to 100.
        strength: 0 gives the picture back as the decoder draws it, 1 keeps z_i alone. Between them it is
            DDIM's eta, and the share of fresh noise in what is started from: sqrt(1 - s^2) x_T + s noise.
        size, seed: as of `Options`.
        steps, guidance: of DDIM; None is 50 and 1.

    Returns:
        Events, as `Pipeline.stream`. Input is checked now, drawing happens while they are read.

    Raises:
        InputError: a value outside its range, or no picture.
    """
    check_fraction("strength", strength)
    inversion = Inversion.of(steps, guidance)
    options = chosen(model, n, size, seed, guidance)
    picture, source = opened(image)
    settings = {"operation": "vary", "source": source, "strength": f"{strength:g}"}

    def work() -> Iterator[Event]:
        (latents,) = yield from model.invert([picture], inversion)
        jobs = [Job("", seed_of(options), index) for index in range(n)]
        kept = math.sqrt(1 - strength**2)
        noise = model.start_noise(jobs)  # (B, 3, S, S)
        starts = kept * latents.x_T + strength * noise if strength else latents.x_T.expand_as(noise)
        drawn = {job: Latents(latents.z_i, start, inversion) for job, start in zip(jobs, starts, strict=True)}
        yield from model.draw_latents(drawn, options, eta=strength, settings=settings)

    return work()


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
