"""Drawing that starts from a picture: image to image, as SDEdit does it (2108.01073)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from unclip.diffusion.defaults import Sampling
from unclip.diffusion.denoiser import Denoiser, FunctionDenoiser
from unclip.drawing import Job, Options
from unclip.families.diffusion import DiffusionPipeline, sampled
from unclip.images import on_white, to_tensor
from unclip.manipulate.fitting import Fit, fitted
from unclip.manipulate.latents import opened
from unclip.pipeline import PICTURES, Done, Plan

DEFAULT_STRENGTH = 0.7  # of what starts from a picture


@dataclass(frozen=True)
class Initial:
    """A picture to start from.

    Attributes:
        image: RGB, of any shape.
        strength: share of the first network's steps that are taken, 0 to 1; at 0 the picture stays, at 1 it
            is ignored.
        fit: how it becomes square.
        source: its hash.
    """

    image: Image.Image
    strength: float
    fit: Fit
    source: str

    @classmethod
    def of(cls, options: Options) -> Initial | None:
        """What options say; None where they name no picture. Raises InputError for what is no picture."""
        if options.init is None:
            return None
        image, source = opened(options.init)
        strength = DEFAULT_STRENGTH if options.strength is None else options.strength
        return cls(on_white(image), strength, Fit.named(options.fit or Fit.LETTERBOX), source)

    @property
    def settings(self) -> Mapping[str, str]:
        """What the pictures' metadata say of it."""
        strength = f"{self.strength:g}"
        return {"operation": "init", "source": self.source, "fit": self.fit, "strength": strength}

    def steps(self, total: int) -> int:
        """How many of so many steps are taken."""
        return round(self.strength * total)

    def at(self, size: int) -> Tensor:
        """The picture (1, 3, S, S) in [-1, 1]."""
        return to_tensor(fitted(self.image, size, self.fit))[None]


class FromPicture(DiffusionPipeline):
    """A family whose first network can start from a picture in place of noise."""

    def _taken(self, name: str, sampling: Sampling, initial: Initial | None) -> int:
        """How many steps the first network takes."""
        steps = len(self._schedule(name, sampling))
        return steps if initial is None else initial.steps(steps)

    def _started(
        self,
        stage: str,
        inner: Denoiser,
        sampling: Sampling,
        noise: Callable[[], Tensor],
        initial: Initial | None,
    ) -> Generator[Done, None, Tensor]:
        """As `sampled`, from a picture with noise where there is one: then only the last steps are taken."""
        if initial is None or initial.strength == 1:
            return (yield from sampled(stage, inner, sampling, noise))
        schedule = inner.schedule[: initial.steps(len(inner.schedule))]
        fresh = noise()
        picture = initial.at(fresh.shape[-1]).to(fresh)
        x = float(schedule.alpha[-1]) * picture + float(schedule.sigma[-1]) * fresh
        return (yield from sampled(stage, FunctionDenoiser(schedule, inner), sampling, noise, start=x))

    def _unchanged(self, groups: Sequence[Sequence[Job]], plan: Plan, initial: Initial) -> Iterator[Done]:
        """The picture itself for every job, where no step is to be taken."""
        for group in groups:
            jobs = group[: plan.options.n] if plan.options.rerank else group
            images = initial.at(plan.options.size).expand(len(jobs), -1, -1, -1)
            yield Done(PICTURES, images, self._finish(jobs, images, [None] * len(jobs), plan))
