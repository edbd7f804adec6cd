"""GLIDE's networks: captions that they read themselves, to small pictures and to larger ones (2112.10741)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import clip_guidance
from unclip.drawing import Job
from unclip.models.glide import Glide, GlideCondition
from unclip.models.noised_clip import NoisedCLIP
from unclip.runtime import autocast
from unclip.stages import known
from unclip.stages.clip import PROMPT
from unclip.stages.denoising import Denoising
from unclip.stages.networks import Networks
from unclip.stages.painting import Painting
from unclip.stages.stage import Batch, Estimate, Stage
from unclip.tokenizer import Tokenizer

BASE, CLIP, CLIP_TOKENIZER = "glide", "noised-clip", "clip-tokenizer"


@dataclass(frozen=True)
class Reading(Stage):
    """Captions as a component of GLIDE's reads them."""

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
        features = self.read([job.text for job in batch.jobs])
        _ = self.nothing
        yield None
        return replace(batch, features=features)

    def read(self, captions: Sequence[str]) -> Tensor:
        """Features (B, context, W) of captions.

        Each distinct one is read on its own, so that nothing depends on the captions beside it.
        """
        network = cast(Glide, self.networks[self.component])

        def read(caption: str) -> Tensor:
            tokens = self.tokenizer.batch([caption], network.config.caption.context).to(self.networks.device)
            return network.read(tokens.ids, tokens.mask)[0]

        with torch.no_grad(), autocast(self.networks.device, self.networks.precision):
            found = {caption: read(caption) for caption in dict.fromkeys(captions)}
        return torch.stack([found[caption] for caption in captions])

    @cached_property
    def nothing(self) -> Tensor:
        """The empty caption, (1, context, W)."""
        return self.read([""])


@dataclass(frozen=True, kw_only=True)
class Captioned(Painting):
    """A network of GLIDE's: the base paints small pictures, an upsampler larger ones.

    Attributes:
        reading: of the component's captions; those of the base are in the batch.
        cut: cuts captions for a CLIP that sees noised pictures.
        scale: of guidance by that CLIP, beside the empty caption (section 2.4).
    """

    reading: Reading
    cut: Tokenizer
    scale: float = 0.0

    @property
    def components(self) -> tuple[str, ...]:
        return (self.name, CLIP) if self.scale else (self.name,)

    def settings(self, job: Job) -> dict[str, str]:
        return {} if self.enlarges else super().settings(job) | {"clip_guidance": f"{self.scale:g}"}

    def conditioned(self, batch: Batch, how: Denoising) -> Denoiser:
        text, low = batch.features, None
        if self.enlarges:  # it is given the pictures' 8-bit form, as published
            text = self.reading.read([job.text for job in batch.jobs])
            low = ((cast(Tensor, batch.images) + 1) * 127.5).round() / 127.5 - 1
        assert text is not None  # the stage before has read it
        network = cast(Glide, self.networks[self.name])
        condition = GlideCondition(text, self.reading.nothing.expand_as(text), low=low)
        if self.fills_in and known.rows_of(batch.jobs):
            picture, keep = known.at(batch.jobs, self.config.image_size, self.networks.device)
            condition = replace(condition, known=picture, keep=keep)
        return how.guided(network, condition, read=network.prepared)

    def steering(self, batch: Batch) -> Callable[[Denoiser], Denoiser] | None:
        if not self.scale:
            return None
        networks, network = self.networks, cast(NoisedCLIP, self.networks[CLIP])
        prompts, context = [job.text for job in batch.jobs], network.config.text.context
        tokens = self.cut.batch(prompts, context).to(networks.device)
        with torch.no_grad(), autocast(networks.device, networks.precision):
            texts = network.encode_text(tokens.ids, tokens.mask).float()  # (B, E)

        def similarity(x: Tensor, label: Tensor) -> Tensor:
            with autocast(networks.device, networks.precision):
                return network.similarity(x, label, texts)

        return lambda inner: clip_guidance(inner, similarity, self.scale)
