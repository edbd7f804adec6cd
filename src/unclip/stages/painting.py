"""Networks that paint, from noise or from smaller pictures: what they start from, keep, and how they sample.

What a network is told to paint is each stage's own: decoder, upsamplers, GLIDE's and ADM's networks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import mean_shifted
from unclip.diffusion.samplers import resampled
from unclip.drawing import Job
from unclip.given import InvertedNoise, Kind, NoisedPicture
from unclip.stages import known
from unclip.stages.denoising import Denoising
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, Estimate, Stage, alike, chunks

DEFAULT_ROUNDS = 3  # of a step where the network was not trained to fill in
INPAINT = "-inpaint"  # follows a component's name in that of the one trained to fill in


@dataclass(frozen=True)
class Way:
    """The course of jobs that are painted together.

    Attributes:
        denoising: sampler and its steps.
        steps: how many are taken.
        kinds: what is given, which all of them have or none.
        rounds: how often each step is taken, to fill in (`samplers.resampled`); 0 is the denoising's sampler.
    """

    denoising: Denoising
    steps: int
    kinds: frozenset[Kind] = frozenset()
    rounds: int = 0


@dataclass(frozen=True, kw_only=True)
class Painting(Stage):
    """A network that paints.

    Attributes:
        denoising: how it does it where nothing else is given.
        repeating: how it fills in by taking every step several times.
        fills_in: whether it was trained to fill in, and sees what is known.
        enlarges: whether it paints smaller pictures larger, all that come at once.
    """

    denoising: Denoising
    repeating: Denoising | None = None
    fills_in: bool = False
    enlarges: bool = False
    at_once: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.denoising.name

    @property
    def components(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def networks(self) -> Networks:
        return self.denoising.networks

    @cached_property
    def config(self) -> Any:
        """The network's."""
        return self.networks.bundle.config(self.name)

    # --- what each says ---

    @abstractmethod
    def conditioned(self, batch: Batch, how: Denoising) -> Denoiser:
        """The network, told what to paint, with guidance and threshold."""

    def steering(self, batch: Batch) -> Callable[[Denoiser], Denoiser] | None:
        """Guidance by another network besides; None where there is none."""
        return None

    def side(self, low: Tensor | None) -> int:
        """Of what it paints, in pixels, from smaller pictures (B, 3, h, h) or from noise."""
        size: int = self.config.image_size
        return size

    def way(self, job: Job) -> Way:
        """The course that a job takes. Raises InputError for steps that cannot be taken."""
        if self.enlarges:
            return Way(self.denoising, self.denoising.steps)
        how, rounds, to_fill = self.denoising, 0, job.given.known
        if to_fill is not None and self.repeating is not None:
            usual = 1 if self.fills_in else DEFAULT_ROUNDS
            rounds = usual if to_fill.rounds is None else to_fill.rounds
            rounds = 0 if self.fills_in and rounds == 1 else rounds
            how = self.repeating if rounds else how
        total, picture = len(how.schedule), picture_of(job)
        steps = how.told(total if picture is None else picture.steps(total))
        return Way(how, steps, job.given.kinds, rounds)

    def keys(self, jobs: Sequence[Job]) -> Sequence[Hashable]:
        """Jobs of different keys are not painted in one call."""
        return [None] * len(jobs)

    # --- what is the same for all ---

    def settings(self, job: Job) -> dict[str, str]:
        if self.enlarges:
            return {}
        way = self.way(job)
        rounds = {} if job.given.known is None else {"rounds": str(way.rounds or 1)}
        return way.denoising.settings | rounds

    def steps(self, jobs: Sequence[Job]) -> int:
        return sum(self.way(jobs[rows[0]]).steps for rows in self.calls(jobs))

    def calls(self, jobs: Sequence[Job]) -> list[list[int]]:
        if self.enlarges:
            return chunks(range(len(jobs)), self.networks.at_once(len(jobs)))
        keys = list(zip(map(self.way, jobs), self.keys(jobs), strict=True))
        return alike(keys, self.networks.pictures(self.side(None)))

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        painted: dict[int, Tensor] = {}
        for rows in self.calls(batch.jobs):
            images = yield from self._painted(batch.rows(rows))
            # a network leaves its picture channels-last, which interpolation reads half as fast
            painted |= zip(rows, images.clamp(-1, 1).contiguous(), strict=True)
        return replace(batch, images=torch.stack([painted[row] for row in range(len(batch))]))

    def _painted(self, batch: Batch) -> Generator[Estimate, None, Tensor]:
        """Pictures (B, 3, S, S) of jobs of one way."""
        jobs, device, way = batch.jobs, self.networks.device, self.way(batch.jobs[0])
        size = self.side(batch.images)
        inner = known.held(jobs, self.conditioned(batch, way.denoising), size, device)
        if (steer := self.steering(batch)) is not None:
            ancestral = self.denoising.sampling.sampler == "ancestral"
            inner = mean_shifted(inner, steer) if ancestral else steer(inner)
        stream = self.name.removesuffix(INPAINT)
        noise = self.networks.noise([(job, f"{stream}{job.given.part}") for job in jobs], (3, size, size))
        x = None
        if not self.enlarges:
            inner, x = begun(jobs, inner, noise, device)
        sampler = partial(resampled, rounds=way.rounds) if way.rounds else None
        return (yield from way.denoising.drawn(inner, noise, x, sampler))


@dataclass(frozen=True)
class Unchanged(Stage):
    """Gives pictures back, `size` px wide, that jobs start from and of which nothing is drawn anew."""

    size: int
    name = "unchanged"

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        yield from ()
        pictures = [picture for job in batch.jobs if (picture := picture_of(job)) is not None]
        return replace(batch, images=torch.stack([picture.at(self.size) for picture in pictures]))


def picture_of(job: Job) -> NoisedPicture | None:
    """The picture that a job starts from, where it is not ignored."""
    start = job.given.start
    return start if isinstance(start, NoisedPicture) and start.strength < 1 else None


def begun(
    jobs: Sequence[Job], inner: Denoiser, noise: Callable[[], Tensor], device: torch.device
) -> tuple[Denoiser, Tensor | None]:
    """The denoiser over the steps that are taken, and what they start from, (B, 3, S, S); None is noise.

    The jobs all start in one way, and those that start from pictures take equally many steps.
    """
    inverted = [job.given.start.x_T for job in jobs if isinstance(job.given.start, InvertedNoise)]
    if inverted:
        return inner, torch.stack(inverted).to(device)
    pictures = [picture for job in jobs if (picture := picture_of(job)) is not None]
    if not pictures:
        return inner, None
    schedule = inner.schedule[: pictures[0].steps(len(inner.schedule))]
    pairs = zip(pictures, noise(), strict=True)
    x = torch.stack([picture.noised(schedule, fresh) for picture, fresh in pairs])
    return Denoiser(schedule, inner), x
