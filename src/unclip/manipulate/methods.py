"""The functions of this package as methods that return pictures: what a model of the family unclip has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict, Unpack, cast

from unclip.drawing import Event, Job, Options, Picture
from unclip.manipulate.editing import Filler, edit
from unclip.manipulate.fitting import Fit, squared
from unclip.manipulate.latents import Editor, Inversion, Latents, Source, opened
from unclip.manipulate.outpaint import Margins, outpaint
from unclip.manipulate.principal_components import Reducer, reconstruct
from unclip.manipulate.variations import Start, blend, restyle, vary


class FromLatents(TypedDict, total=False):
    """Keywords of all that draws from a picture's latents: see `manipulate.variations.vary`."""

    size: int | None
    seed: int | None
    steps: int | str | None
    guidance: float | None
    fit: str


class FilledIn(TypedDict, total=False):
    """Keywords of all that draws into a picture: see `manipulate.editing.edit`."""

    n: int
    size: int | None
    seed: int | None
    steps: int | str | None
    guidance: float | None
    prior: str | None
    prior_guidance: float | None
    candidates: int | None
    rounds: int | None


class Editing:
    """To be mixed into an `Editor`."""

    def encode(
        self: Editor, image: Source, inversion: Inversion | None = None, *, fit: str = Fit.LETTERBOX
    ) -> Latents:
        """A picture's two latents: CLIP's embedding, and the noise that DDIM draws the picture from.

        Section 3 of 2204.06125. `fit` says what is done with a picture that is not square.

        Raises:
            InputError: no picture, or steps that cannot be taken.
        """
        picture = squared(opened(image)[0], Fit.named(fit))
        events = self.invert([picture], inversion or Inversion())
        while True:
            try:
                next(events)
            except StopIteration as stop:
                (latents,) = stop.value
                return cast(Latents, latents)

    def decode(self: Editor, latents: Latents, *, size: int | None = None, seed: int = 0) -> Picture:
        """The picture of latents; `seed` is of the upsamplers' noise. Raises InputError for a size."""
        options = Options(size=self.default_size if size is None else size, seed=seed)
        return _pictures(self.draw_latents({Job("", seed, 0): latents}, options))[0]

    def vary(
        self: Editor,
        image: Source,
        *,
        n: int = 1,
        strength: float = 1.0,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """Variations of a picture: see `manipulate.variations.vary`."""
        return _pictures(vary(self, image, n=n, strength=strength, **settings))

    def blend(
        self: Editor,
        *images: Source,
        frames: int = 8,
        weights: Sequence[float] | None = None,
        start: Start = Start.SLERP,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """Pictures between pictures: see `manipulate.variations.blend`."""
        return _pictures(blend(self, images, frames=frames, weights=weights, start=start, **settings))

    def restyle(
        self: Editor,
        image: Source,
        origin: str,
        to: str,
        *,
        amount: float = 1.0,
        frames: int = 1,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """A picture moved as `to` differs from `origin`: see `manipulate.variations.restyle`."""
        return _pictures(restyle(self, image, to, origin, amount=amount, frames=frames, **settings))

    def edit(
        self: Filler,
        image: Source,
        mask: Source | None,
        prompt: str,
        *,
        fit: str = Fit.LETTERBOX,
        **settings: Unpack[FilledIn],
    ) -> list[Picture]:
        """A part of a picture drawn anew: see `manipulate.editing.edit`."""
        return _pictures(edit(self, image, mask, prompt, fit=fit, **settings))

    def outpaint(
        self: Filler,
        image: Source,
        prompt: str,
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        **settings: Unpack[FilledIn],
    ) -> list[Picture]:
        """A picture extended by so many pixels on each side: see `manipulate.outpaint.outpaint`."""
        return _pictures(outpaint(self, image, prompt, Margins(left, right, top, bottom), **settings))

    def reconstruct(
        self: Reducer,
        image: Source,
        components: Sequence[int] | None = None,
        *,
        basis: Path | str | None = None,
        **settings: Unpack[FromLatents],
    ) -> list[Picture]:
        """Pictures of an embedding's first principal components: see `principal_components.reconstruct`."""
        return _pictures(reconstruct(self, image, components, basis=basis, **settings))


def _pictures(events: Iterator[Event]) -> list[Picture]:
    return [picture for event in events for picture in event.pictures]
