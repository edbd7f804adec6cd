"""ADM's networks: a class, or nothing, to a picture; a classifier may guide (2105.05233)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from unclip.diffusion.defaults import ClassifierSampling
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import classifier
from unclip.drawing import Job
from unclip.models.adm import ADM, Classifier
from unclip.runtime import autocast
from unclip.stages.denoising import Denoising
from unclip.stages.painting import Painting
from unclip.stages.stage import Batch

BASE, CLASSIFIER = "adm", "classifier"


@dataclass(frozen=True, kw_only=True)
class Classed(Painting):
    """A network of ADM's: the base paints pictures of the prompts' classes, an upsampler larger ones.

    Attributes:
        class_of: a prompt's class; None where the network has none.
        guided: whether a classifier guides. As guided-diffusion draws, its gradient shifts each step's mean
            with the ancestral sampler, and epsilon with the others.
    """

    class_of: Callable[[str], int | None]
    guided: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        return (self.name, CLASSIFIER) if self.guided else (self.name,)

    def settings(self, job: Job) -> dict[str, str]:
        scale = cast(ClassifierSampling, self.denoising.sampling).guidance if self.guided else 0
        return {} if self.enlarges else super().settings(job) | {"guidance": f"{scale:g}"}

    def conditioned(self, batch: Batch, how: Denoising) -> Denoiser:
        classes, low = None, None
        if self.enlarges:  # guided-diffusion's scripts cut the fraction of 8 bits off
            low = ((cast(Tensor, batch.images) + 1) * 127.5).floor() / 127.5 - 1
        if self.config.classes is not None:
            numbers = [self.class_of(job.text) for job in batch.jobs]
            classes = torch.tensor(numbers, device=self.networks.device)  # (B,)
        network = cast(ADM, self.networks[self.name])
        return how.limited(how.denoiser(partial(network, classes=classes, low=low)))

    def steering(self, batch: Batch) -> Callable[[Denoiser], Denoiser] | None:
        networks, sampling = self.networks, cast(ClassifierSampling, self.denoising.sampling)
        if not self.guided or not sampling.guidance:
            return None
        network = cast(Classifier, networks[CLASSIFIER])
        numbers = [self.class_of(job.text) for job in batch.jobs]
        classes = torch.tensor([number or 0 for number in numbers], device=networks.device)
        scale = torch.tensor([0.0 if number is None else sampling.guidance for number in numbers])

        def log_probability(x: Tensor, label: Tensor) -> Tensor:
            with autocast(networks.device, networks.precision):
                return network.log_probability(x, label, classes)

        return lambda inner: classifier(inner, log_probability, scale)
