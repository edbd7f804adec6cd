"""GLIDE's networks: captions that they read themselves, to small pictures and to larger ones (2112.10741)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import clip_guidance, mean_shifted
from unclip.drawing import Job
from unclip.models.glide import Glide, GlideCondition, GlideConfig
from unclip.models.noised_clip import NoisedCLIP
from unclip.runtime import autocast
from unclip.stages import known, start
from unclip.stages.captions import PROMPT
from unclip.stages.denoising import Denoising
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, Estimate, Stage, alike, gathered
from unclip.tokenizer import Tokenizer

BASE, CLIP, CLIP_TOKENIZER = "glide", "noised-clip", "clip-tokenizer"
INPAINT = "-inpaint"  # follows a component's name in that of the one trained to fill in


@dataclass(frozen=True)
class Reading(Stage):
    """Captions, and the empty one, as a component of GLIDE's reads them.

    Attributes:
        networks: of the bundle.
        tokenizer: cuts the captions.
        component: reads them.
    """

    networks: Networks
    tokenizer: Tokenizer
    component: str
    name = PROMPT

    @property
    def components(self) -> tuple[str, ...]:
        return (self.component,)

    def steps(self, jobs: Sequence[Job]) -> int:
        return 1

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        read = self.read(batch.jobs)
        yield None
        return replace(batch, read=read)

    def read(self, jobs: Sequence[Job]) -> tuple[Tensor, Tensor]:
        """The captions and the empty one, (B, context, W) each.

        Each distinct caption is read on its own, so that nothing depends on the captions beside it.
        """
        network = cast(Glide, self.networks[self.component])

        def read(caption: str) -> Tensor:
            tokens = self.tokenizer.batch([caption], network.config.caption.context).to(self.networks.device)
            return network.read(tokens.ids, tokens.mask)[0]

        with torch.no_grad(), autocast(self.networks.device, self.networks.precision):
            known = {caption: read(caption) for caption in {"", *(job.prompt for job in jobs)}}
        captions = torch.stack([known[job.prompt] for job in jobs])
        return captions, known[""].expand_as(captions)


@dataclass(frozen=True)
class Guide:
    """A CLIP that sees noised pictures, whose gradient guides (section 2.3).

    Attributes:
        networks: of the bundle.
        tokenizer: cuts captions for it.
        scale: how strongly it guides.
    """

    networks: Networks
    tokenizer: Tokenizer
    scale: float

    def guided(self, inner: Denoiser, jobs: Sequence[Job], sampler: str) -> Denoiser:
        network = cast(NoisedCLIP, self.networks[CLIP])
        tokens = self.tokenizer.batch([job.prompt for job in jobs], network.config.text.context)
        tokens = tokens.to(self.networks.device)
        with torch.no_grad(), autocast(self.networks.device, self.networks.precision):
            texts = network.encode_text(tokens.ids, tokens.mask).float()  # (B, E)

        def similarity(x: Tensor, label: Tensor) -> Tensor:
            with autocast(self.networks.device, self.networks.precision):
                return network.similarity(x, label, texts)

        def steer(denoiser: Denoiser) -> Denoiser:
            return clip_guidance(denoiser, similarity, self.scale)

        return mean_shifted(inner, steer) if sampler == "ancestral" else steer(inner)


@dataclass(frozen=True)
class Captioned(Stage):
    """A network of GLIDE's: the base draws small pictures, an upsampler larger ones of its own captions.

    Attributes:
        reading: of the component's captions; `batch.read` holds the base's.
        denoising: of the component.
        guide: the CLIP that guides beside the empty caption; None where there is none.
        at_once: pictures that go through all upsamplers together.
    """

    reading: Reading
    denoising: Denoising
    guide: Guide | None = None
    at_once: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.denoising.name

    @cached_property
    def config(self) -> GlideConfig:
        config: GlideConfig = self.denoising.networks.bundle.config(self.name)
        return config

    @property
    def components(self) -> tuple[str, ...]:
        return (self.name,) if self.guide is None else (self.name, CLIP)

    def settings(self, job: Job) -> dict[str, str]:
        if self.config.low_size is not None:
            return {}
        scale = 0.0 if self.guide is None else self.guide.scale
        return self.denoising.settings | {"clip_guidance": f"{scale:g}"}

    def steps(self, jobs: Sequence[Job]) -> int:
        return sum(self._steps(jobs[rows[0]]) for rows in self._batches(jobs))

    def _steps(self, job: Job) -> int:
        """How many a job takes: only the base starts from pictures."""
        if self.config.low_size is not None or start.picture_of(job) is None:
            return self.denoising.steps
        return start.steps_of(job, len(self.denoising.schedule))

    def _batches(self, jobs: Sequence[Job]) -> list[list[int]]:
        if self.config.low_size is not None:
            return [list(range(len(jobs)))]
        keys = [(job.given.kinds, self._steps(job)) for job in jobs]
        return alike(keys, self.denoising.networks.pictures(self.config.image_size))

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        low, parts = None, []
        text, empty = batch.read if self.config.low_size is None else self.reading.read(batch.jobs)
        if self.config.low_size is not None:  # it is given the pictures' 8-bit form, as published
            low = ((cast(Tensor, batch.images) + 1) * 127.5).round() / 127.5 - 1
        for rows in self._batches(batch.jobs):
            condition = GlideCondition(text[rows], empty[rows], low=None if low is None else low[rows])
            drawn = yield from self._drawn([batch.jobs[row] for row in rows], condition)
            parts.append((rows, drawn.clamp(-1, 1)))
        return batch.with_images(gathered(parts))

    def _drawn(self, jobs: Sequence[Job], condition: GlideCondition) -> Generator[Estimate, None, Tensor]:
        networks, size = self.denoising.networks, self.config.image_size
        network = cast(Glide, networks[self.name])
        if network.config.fills_in and known.rows_of(jobs):
            picture, keep = known.at(jobs, size, networks.device)
            condition = replace(condition, known=picture, keep=keep)
        inner = self.denoising.guided(network, condition, read=network.prepared)
        inner = known.held(jobs, inner, size, networks.device)
        if self.guide is not None:
            inner = self.guide.guided(inner, jobs, self.denoising.sampling.sampler)
        stream = self.name.removesuffix(INPAINT)
        noise = networks.noise([(job, f"{stream}{job.given.part}") for job in jobs], (3, size, size))
        x = None
        if self.config.low_size is None:
            inner, x = start.begun(jobs, inner, noise, networks.device)
        return (yield from self.denoising.drawn(inner, noise, x))
