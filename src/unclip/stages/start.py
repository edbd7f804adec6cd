"""Starts of the first network: noise, a picture with noise, or inverted noise."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.drawing import Job
from unclip.given import InvertedNoise, NoisedPicture
from unclip.stages.stage import Batch, Estimate, Stage


def picture_of(job: Job) -> NoisedPicture | None:
    """The picture that a job starts from, where it is not ignored."""
    start = job.given.start
    return start if isinstance(start, NoisedPicture) and start.strength < 1 else None


def steps_of(job: Job, total: int) -> int:
    """The number of steps that a job takes, of `total`."""
    picture = picture_of(job)
    return total if picture is None else picture.steps(total)


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


@dataclass(frozen=True)
class Unchanged(Stage):
    """Gives the pictures back that jobs start from, where no step of the first network is taken.

    Attributes:
        size: side in pixels.
        most: pictures that go on.
    """

    size: int
    most: int
    name = "unchanged"

    def left(self, jobs: Sequence[Job]) -> Sequence[Job]:
        return jobs[: self.most]

    def steps(self, jobs: Sequence[Job]) -> int:
        return 0

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        yield from ()
        batch = batch.rows(range(len(self.left(batch.jobs))))
        pictures = [picture for job in batch.jobs if (picture := picture_of(job)) is not None]
        return batch.with_images(torch.stack([picture.at(self.size) for picture in pictures]))
