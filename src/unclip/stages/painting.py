"""Networks that paint, from noise or from smaller pictures: what they start from, keep, and how they sample.

What a network is told to paint is each stage's own: decoder, upsamplers, GLIDE's and ADM's networks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.samplers import resampled
from unclip.drawing import Job
from unclip.given import Kind
from unclip.stages import known, start
from unclip.stages.denoising import Denoising
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, Estimate, Stage, alike, chunks, gathered

DEFAULT_ROUNDS = 3  # of a step where the network was not trained to fill in


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
        at_once: pictures that go through it and all behind it together.
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
    def stream(self) -> str:
        """Of the noise; what is painted into parts of a picture adds the part."""
        return self.name

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

    def steered(self, inner: Denoiser, batch: Batch) -> Denoiser:
        """Guided by another network besides."""
        return inner

    def side(self, low: Tensor | None) -> int:
        """Of what it paints, in pixels, from smaller pictures (B, 3, h, h) or from noise."""
        size: int = self.config.image_size
        return size

    def way(self, job: Job) -> Way:
        """The course that a job takes. Raises InputError for steps that cannot be taken."""
        if self.enlarges:
            return Way(self.denoising, self.denoising.steps)
        rounds = self.rounds(job)
        how = self.repeating if rounds and self.repeating is not None else self.denoising
        return Way(how, how.told(start.steps_of(job, len(how.schedule))), job.given.kinds, rounds)

    def rounds(self, job: Job) -> int:
        """The number of times that each step is taken; 0 where its own sampler paints."""
        if job.given.known is None or self.repeating is None:
            return 0
        asked = job.given.known.rounds
        rounds = (1 if self.fills_in else DEFAULT_ROUNDS) if asked is None else asked
        return 0 if self.fills_in and rounds == 1 else rounds

    def keys(self, jobs: Sequence[Job]) -> Sequence[Hashable]:
        """Jobs of different keys are not painted in one call."""
        return [None] * len(jobs)

    # --- what is the same for all ---

    def settings(self, job: Job) -> dict[str, str]:
        if self.enlarges:
            return {}
        rounds = {} if job.given.known is None else {"rounds": str(self.rounds(job) or 1)}
        return self.way(job).denoising.settings | rounds

    def steps(self, jobs: Sequence[Job]) -> int:
        return sum(self.way(jobs[rows[0]]).steps for rows in self.calls(jobs))

    def calls(self, jobs: Sequence[Job]) -> list[list[int]]:
        if self.enlarges:
            return chunks(range(len(jobs)), self.networks.at_once(len(jobs)))
        keys = list(zip(map(self.way, jobs), self.keys(jobs), strict=True))
        return alike(keys, self.networks.pictures(self.side(None)))

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        parts = []
        for rows in self.calls(batch.jobs):
            painted = yield from self._painted(batch.rows(rows))
            # a network leaves its picture channels-last, which interpolation reads half as fast
            parts.append((rows, painted.clamp(-1, 1).contiguous()))
        return batch.with_images(gathered(parts))

    def _painted(self, batch: Batch) -> Generator[Estimate, None, Tensor]:
        """Pictures (B, 3, S, S) of jobs of one way."""
        jobs, device, way = batch.jobs, self.networks.device, self.way(batch.jobs[0])
        size = self.side(batch.images)
        inner = known.held(jobs, self.conditioned(batch, way.denoising), size, device)
        inner = self.steered(inner, batch)
        noise = self.networks.noise(
            [(job, f"{self.stream}{job.given.part}") for job in jobs], (3, size, size)
        )
        x = None
        if not self.enlarges:
            inner, x = start.begun(jobs, inner, noise, device)
        sampler = partial(resampled, rounds=way.rounds) if way.rounds else None
        return (yield from way.denoising.drawn(inner, noise, x, sampler))
