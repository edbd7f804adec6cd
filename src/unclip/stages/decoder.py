"""The decoder: CLIP image embeddings, and captions, to small pictures (section 2.1 of 2204.06125)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor

from unclip.diffusion.defaults import Sampling
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.samplers import resampled
from unclip.drawing import Job
from unclip.embedding import TextRows
from unclip.given import Inversion, InvertedNoise, Kind
from unclip.models.caption import Unconditional
from unclip.models.decoder import Decoder as Network
from unclip.models.decoder import DecoderCondition, DecoderConfig, noise_embedding
from unclip.stages import known, start
from unclip.stages.captions import Captions
from unclip.stages.denoising import Denoising
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, Estimate, Stage, alike, gathered

DECODER = "decoder"
DEFAULT_ROUNDS = 3  # of a step where the decoder was not trained to fill in

# Of DDIM there and back, the least noise level sigma / alpha. Below it epsilon is the network's error divided
# by next to nothing, and the noise that is found has many times the length of noise that is drawn from.
LEAST_INVERTED_NOISE = 0.15


@dataclass(frozen=True)
class Way:
    """How jobs that are decoded together get there.

    Attributes:
        denoising: sampler and its steps.
        steps: how many are taken.
        rounds: how often each is taken, to fill in; 0 where the sampler is the denoising's.
        kinds: what is given, which jobs of one way all have.
    """

    denoising: Denoising
    steps: int
    kinds: frozenset[Kind]
    rounds: int = 0


@dataclass(frozen=True)
class Decoder(Stage):
    """Draws small pictures.

    Attributes:
        networks: of the bundle.
        captions: read the prompts.
        sampling: of what is drawn from noise.
        filling: of what is drawn by taking every step several times (`diffusion.samplers.resampled`).
    """

    networks: Networks
    captions: Captions
    sampling: Sampling
    filling: Sampling
    name = DECODER

    @property
    def components(self) -> tuple[str, ...]:
        return (DECODER,)

    @cached_property
    def config(self) -> DecoderConfig:
        config: DecoderConfig = self.networks.bundle.config(DECODER)
        return config

    def way(self, job: Job) -> Way:
        """How a job is decoded. Raises InputError for steps that cannot be taken."""
        begins, rounds = job.given.start, self.rounds(job)
        if isinstance(begins, InvertedNoise):
            how = self.inverting(begins.inversion, begins.eta)
        else:
            how = self._filling if rounds else self.drawing
        steps = how.steps if start.picture_of(job) is None else start.steps_of(job, len(how.schedule))
        return Way(how, steps, job.given.kinds - {Kind.EMBEDDING}, rounds)

    @cached_property
    def drawing(self) -> Denoising:
        """How pictures are drawn from noise."""
        return Denoising(self.networks, DECODER, self.sampling)

    @cached_property
    def _filling(self) -> Denoising:
        return Denoising(self.networks, DECODER, self.filling)

    def rounds(self, job: Job) -> int:
        """How often each step is taken; 0 where the decoder's own sampler draws."""
        if job.given.known is None:
            return 0
        asked = job.given.known.rounds
        rounds = (1 if self.config.inpainting else DEFAULT_ROUNDS) if asked is None else asked
        return 0 if self.config.inpainting and rounds == 1 else rounds

    def inverting(self, inversion: Inversion, eta: float = 0.0) -> Denoising:
        """How what can be inverted is drawn: by DDIM, nothing is clipped, and the embedding is exact."""
        sampling = Sampling(inversion.steps, eta=eta, guidance=inversion.guidance)
        return Denoising(self.networks, DECODER, sampling, LEAST_INVERTED_NOISE)

    def settings(self, job: Job) -> dict[str, str]:
        rounds = {} if job.given.known is None else {"rounds": str(self.rounds(job) or 1)}
        return self.way(job).denoising.settings | rounds

    def steps(self, jobs: Sequence[Job]) -> int:
        batches = self._batches(jobs, self.captions.lengths(jobs))
        return sum(self.way(jobs[rows[0]]).steps for rows in batches)

    def _batches(self, jobs: Sequence[Job], lengths: Sequence[int]) -> list[list[int]]:
        """The jobs that one call of the network draws: of one way, their prompts of one length."""
        keys = list(zip(map(self.way, jobs), lengths, strict=True))
        return alike(keys, self.networks.pictures(self.config.image_size))

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        text, embeddings = cast(TextRows, batch.text), cast(Tensor, batch.embeddings)
        parts = []
        for rows in self._batches(batch.jobs, text.lengths):
            jobs = [batch.jobs[row] for row in rows]
            drawn = yield from self._drawn(jobs, text.rows(rows), embeddings[rows])
            parts.append((rows, drawn.clamp(-1, 1)))
        return batch.with_images(gathered(parts))

    def _drawn(
        self, jobs: Sequence[Job], text: TextRows, embeddings: Tensor
    ) -> Generator[Estimate, None, Tensor]:
        """Pictures (B, 3, S, S) of jobs of one way, from their embeddings (B, E)."""
        size, way = self.config.image_size, self.way(jobs[0])
        inner = self.conditioned(way.denoising, jobs, text, embeddings)
        inner = known.held(jobs, inner, size, self.networks.device)
        noise = self.networks.noise([(job, f"{DECODER}{job.given.part}") for job in jobs], (3, size, size))
        sampler = partial(resampled, rounds=way.rounds) if way.rounds else None
        inner, x = start.begun(jobs, inner, noise, self.networks.device)
        return (yield from way.denoising.drawn(inner, noise, x, sampler))

    def conditioned(
        self, how: Denoising, jobs: Sequence[Job], text: TextRows, embeddings: Tensor
    ) -> Denoiser:
        """The network, given captions and CLIP image embeddings (B, E), with guidance and threshold."""
        decoder, config = cast(Network, self.networks[DECODER]), self.config
        embedding, level = decoder.whitening.whiten(embeddings), None  # (B, E)
        if config.noisy_embedding:
            level = torch.full((len(jobs),), how.sampling.noise_level, device=self.networks.device)
            noise = self.networks.noise([(job, "embedding") for job in jobs], (config.embedding,))
            embedding = noise_embedding(embedding, noise(), level)
        condition, nothing = self._condition(jobs, embedding, level, text), None
        if config.unconditional is Unconditional.EMPTY_CAPTION:
            empty = self.captions.nothing.repeated(len(jobs), text.ids.shape[1])
            nothing = self._condition(jobs, embedding, level, empty)
            nothing = replace(nothing, keep_image=~nothing.keep_image)
        return how.guided(decoder, condition, unconditional=nothing, read=decoder.read)

    def _condition(
        self, jobs: Sequence[Job], embedding: Tensor, level: Tensor | None, text: TextRows
    ) -> DecoderCondition:
        """Whitened embeddings (B, E), their noise levels (B,), and of the captions what is read of them."""
        config, device = self.config, self.networks.device
        all_of_it = torch.ones(len(text), dtype=torch.bool, device=device)
        condition = DecoderCondition(embedding, all_of_it, noise_level=level)
        if config.caption is not None:
            condition = replace(condition, ids=text.ids, mask=text.mask, keep_text=all_of_it)
        elif config.text_width is not None:
            condition = replace(condition, sequence=text.sequence, mask=text.mask, keep_text=all_of_it)
        if config.inpainting and known.rows_of(jobs):
            seen, keep = known.at(jobs, config.image_size, device)
            condition = replace(condition, known=seen, keep=keep)
        if config.text_to_time:
            summary = text.embedding if config.unit_embeddings else text.raw
            condition = replace(condition, text_embedding=summary)
        return condition
