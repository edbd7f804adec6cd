"""The two latents of a picture, what is drawn from them, and paths between them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, cast

import torch
from PIL import Image
from torch import Tensor

from unclip.drawing import Event, Job, Options, checked_number, fresh_seed
from unclip.given import Given, Inversion, InvertedNoise
from unclip.manipulate.fitting import Fit, squared
from unclip.pipeline import Pipeline, timed, told
from unclip.stages.clip import CLIP
from unclip.stages.decoder import Inverting

MOST_STEPS = 100_000  # a schedule has fewer, and says so
SAME = 1e-6  # sine of the angle below which two directions are one


@dataclass(frozen=True)
class Latents:
    """A picture's two latents (section 3 of 2204.06125).

    Attributes:
        z_i: (E,) CLIP's image embedding, as the decoder takes it: what the picture shows.
        x_T: (3, S, S) the noise that DDIM draws the picture from: all the rest.
        inversion: how x_T was found; decoded in another way it gives another picture.
    """

    z_i: Tensor
    x_T: Tensor
    inversion: Inversion

    def given(
        self, settings: Mapping[str, str] | None = None, *, eta: float = 0.0, shared: int | None = None
    ) -> Given:
        """For a job that draws from them: what its metadata say, noise of DDIM, whose noise is shared."""
        noise = InvertedNoise(self.x_T, self.inversion, eta)
        return Given(embedding=self.z_i, start=noise, shared=shared, settings=settings or {})


class FromLatents(TypedDict, total=False):
    """Keywords of all that draws from a picture's latents.

    size, seed: as of `Options`; frames share the noise of the upsamplers.
    steps: of DDIM, there and back, 2 and more; None is 25.
    guidance: scale of the decoder's guidance, 0 to 50; None is 1, without, which inverts best.
    fit: what is done with a picture that is not square, "letterbox" (on white), "crop" or "stretch"; None is
        letterbox.
    """

    size: int | None
    seed: int | None
    steps: int | str | None
    guidance: float | None
    fit: str | None


@dataclass(frozen=True)
class Way:
    """The settings of drawing from latents, checked.

    Attributes:
        model: draws.
        inverting: finds latents.
        options: n and size.
        seed: of the noise.
        fit: how pictures become square.
    """

    model: Pipeline
    inverting: Inverting
    options: Options
    seed: int
    fit: Fit

    @classmethod
    def of(cls, model: Pipeline, n: int, settings: FromLatents) -> Way:
        """For `n` pictures. Raises InputError for a value outside its range."""
        steps, guidance = settings.get("steps"), settings.get("guidance")
        if steps is not None and not isinstance(steps, str):
            steps = checked_number("steps", steps, 0, MOST_STEPS)
        fit = settings.get("fit")
        fit = Fit.LETTERBOX if fit is None else Fit.named(fit)
        size = model.size(settings.get("size"))
        options = Options(n=n, size=size, seed=settings.get("seed"), guidance=guidance)
        inverting = model.family.inverting(Inversion.of(steps, guidance))
        return cls(model, inverting, replace(options, guidance=None), fresh_seed(options.seed), fit)

    def latents(self, pictures: Sequence[Image.Image]) -> Generator[Event, None, list[Latents]]:
        """Those of pictures, telling of every step."""
        return inverted(self.inverting, [squared(picture, self.fit) for picture in pictures])

    def job(self, index: int, given: Given) -> Job:
        """A picture to draw from what is given."""
        return Job("", self.seed, index, given)

    def draw(self, given: Sequence[Given]) -> Iterator[Event]:
        """One picture of each."""
        return self.model.draw([self.job(*one) for one in enumerate(given)], self.options)


def inverted(inverting: Inverting, images: Sequence[Image.Image]) -> Generator[Event, None, list[Latents]]:
    """The latents of pictures, telling of every step; one that is not square is shown whole, on white."""
    networks = inverting.decoder.networks
    networks.keep((CLIP,))
    with networks.settled():
        batch = inverting.batch(images)
    networks.keep(inverting.components)
    found = yield from timed(told(inverting, batch, networks), {inverting.name: inverting.steps(batch.jobs)})
    networks.keep(())
    pairs = zip(cast(Tensor, batch.embeddings), cast(Tensor, found.images), strict=True)
    return [Latents(z_i, x_T, inverting.inversion) for z_i, x_T in pairs]


def slerp(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    """From a (0) to b (1) along the great circle, tensors of one shape; their lengths change evenly.

    What is opposite has no great circle of its own, what is the same needs none: both go straight. The ends
    are a and b themselves.
    """
    if fraction in (0.0, 1.0):
        return a if fraction == 0.0 else b
    x, y = a.double().flatten(), b.double().flatten()
    length_a, length_b = x.norm(), y.norm()
    x, y = x / length_a, y / length_b
    angle = torch.acos((x @ y).clamp(-1, 1))
    if torch.sin(angle) < SAME:
        return (a + fraction * (b - a)).to(a.dtype)
    weights = torch.stack([torch.sin((1 - fraction) * angle), torch.sin(fraction * angle)]) / torch.sin(angle)
    length = length_a + fraction * (length_b - length_a)
    return ((weights[0] * x + weights[1] * y) * length).view(a.shape).to(a.dtype)


def mixed(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Several at once: each is slerped in with its share of the weights up to it, (shape of one)."""
    result, total = tensors[0], weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total += weight
        if total > 0:
            result = slerp(result, tensor, weight / total)
    return result
