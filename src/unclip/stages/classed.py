"""ADM's networks: a class, or nothing, to a picture; a classifier may guide (2105.05233)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import classifier, mean_shifted
from unclip.drawing import Job
from unclip.models.adm import ADM, ADMConfig, Classifier
from unclip.runtime import autocast
from unclip.stages.denoising import Denoising
from unclip.stages.stage import Batch, Estimate, Stage, chunks

BASE, CLASSIFIER = "adm", "classifier"


@dataclass(frozen=True)
class Classed(Stage):
    """A network of ADM's: the base draws pictures of the prompts' classes, an upsampler larger ones.

    Attributes:
        denoising: of the component; the guidance is the classifier's.
        class_of: a prompt's class; None where the network has none.
        guided: whether a classifier guides. As guided-diffusion draws, its gradient shifts each step's mean
            with the ancestral sampler, and epsilon with the others.
        at_once: pictures that go through all upsamplers together.
    """

    denoising: Denoising
    class_of: Callable[[str], int | None]
    guided: bool = False
    at_once: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.denoising.name

    @cached_property
    def config(self) -> ADMConfig:
        config: ADMConfig = self.denoising.networks.bundle.config(self.name)
        return config

    @property
    def components(self) -> tuple[str, ...]:
        return (self.name, CLASSIFIER) if self.guided else (self.name,)

    def settings(self, job: Job) -> dict[str, str]:
        if self.config.low_size is not None:
            return {}
        scale = self.denoising.sampling.guidance if self.guided else 0
        return self.denoising.settings | {"guidance": f"{scale:g}"}

    def steps(self, jobs: Sequence[Job]) -> int:
        return self.denoising.steps * len(self._batches(jobs))

    def _batches(self, jobs: Sequence[Job]) -> list[list[int]]:
        at_once = self.denoising.networks.pictures(self.config.image_size)
        return chunks(range(len(jobs)), len(jobs) if self.config.low_size is not None else at_once)

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        parts, low = [], None
        if self.config.low_size is not None:  # guided-diffusion's scripts cut the fraction of 8 bits off
            low = ((cast(Tensor, batch.images) + 1) * 127.5).floor() / 127.5 - 1
        for rows in self._batches(batch.jobs):
            jobs = [batch.jobs[row] for row in rows]
            drawn = yield from self._drawn(jobs, None if low is None else low[rows])
            parts.append(drawn.clamp(-1, 1))
        return batch.with_images(torch.cat(parts))

    def _drawn(self, jobs: Sequence[Job], low: Tensor | None) -> Generator[Estimate, None, Tensor]:
        networks, how, size = self.denoising.networks, self.denoising, self.config.image_size
        network, classes = cast(ADM, networks[self.name]), None
        numbers = [self.class_of(job.prompt) for job in jobs]
        if network.config.classes is not None:
            classes = torch.tensor(numbers, device=networks.device)  # (B,)
        inner = how.limited(how.denoiser(partial(network, classes=classes, low=low)))
        if self.guided and how.sampling.guidance:
            inner = self._steered(inner, numbers)
        noise = networks.noise([(job, self.name) for job in jobs], (3, size, size))
        return (yield from how.drawn(inner, noise))

    def _steered(self, inner: Denoiser, numbers: Sequence[int | None]) -> Denoiser:
        networks, sampling = self.denoising.networks, self.denoising.sampling
        network = cast(Classifier, networks[CLASSIFIER])
        classes = torch.tensor([number or 0 for number in numbers], device=networks.device)
        scale = torch.tensor([0.0 if number is None else sampling.guidance for number in numbers])

        def log_probability(x: Tensor, label: Tensor) -> Tensor:
            with autocast(networks.device, networks.precision):
                return network.log_probability(x, label, classes)

        def steer(denoiser: Denoiser) -> Denoiser:
            return classifier(denoiser, log_probability, scale)

        return mean_shifted(inner, steer) if sampling.sampler == "ancestral" else steer(inner)
