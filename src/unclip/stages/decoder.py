"""The decoder: CLIP image embeddings, and captions, to small pictures, and back (2204.06125)."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from unclip.diffusion.defaults import DecoderSampling
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.samplers import ddim_invert
from unclip.drawing import Job
from unclip.embedding import TextRows
from unclip.given import Inversion, InvertedNoise
from unclip.images import fit_square, to_tensor
from unclip.models.caption import Unconditional
from unclip.models.decoder import Decoder as Network
from unclip.models.decoder import DecoderCondition, noise_embedding
from unclip.stages import known
from unclip.stages.clip import Captions
from unclip.stages.denoising import Denoising
from unclip.stages.painting import Painting, Way
from unclip.stages.stage import Batch, Estimate, Stage, chunks

DECODER = "decoder"

# Of DDIM there and back, the least noise level sigma / alpha. Below it epsilon is the network's error divided
# by next to nothing, and the noise that is found has many times the length of noise that is drawn from.
LEAST_INVERTED_NOISE = 0.15


@dataclass(frozen=True, kw_only=True)
class Decoder(Painting):
    """Paints small pictures of embeddings and captions (section 2.1)."""

    captions: Captions

    def way(self, job: Job) -> Way:
        begins = job.given.start
        if not isinstance(begins, InvertedNoise):
            return super().way(job)
        how = self.inverting(begins.inversion, begins.eta)
        return Way(how, how.steps, job.given.kinds)

    def keys(self, jobs: Sequence[Job]) -> Sequence[Hashable]:
        return self.captions.lengths(jobs)

    def inverting(self, inversion: Inversion, eta: float = 0.0) -> Denoising:
        """The settings that can be inverted: DDIM, nothing is clipped, and the embedding is exact."""
        sampling = DecoderSampling(inversion.steps, eta=eta, guidance=inversion.guidance)
        return Denoising(self.networks, DECODER, sampling, LEAST_INVERTED_NOISE)

    def conditioned(self, batch: Batch, how: Denoising) -> Denoiser:
        jobs, text = batch.jobs, cast(TextRows, batch.text)
        decoder, config = cast(Network, self.networks[DECODER]), self.config
        embedding, level = decoder.whitening.whiten(cast(Tensor, batch.embeddings)), None  # (B, E)
        if config.noisy_embedding:
            noise_level = cast(DecoderSampling, how.sampling).noise_level
            level = torch.full((len(jobs),), noise_level, device=self.networks.device)
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


@dataclass(frozen=True)
class Inverting(Stage):
    """Finds the noise that a decoder draws pictures from, and puts it in their place (section 3)."""

    decoder: Decoder
    inversion: Inversion
    name, components = "inversion", (DECODER,)

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """CLIP's embeddings of pictures, (N, E), as the decoder takes them. Raises InputError for none."""
        return self.decoder.captions.clip.embed_images(images, raw=not self.decoder.config.unit_embeddings)

    def batch(self, images: Sequence[Image.Image]) -> Batch:
        """The batch that `run` takes, of square pictures."""
        device, size = self.decoder.networks.device, self.decoder.config.image_size
        embeddings = self.embed(images).to(device)  # (B, E)
        text = self.decoder.captions.read([""] * len(images))
        pictures = torch.stack([to_tensor(fit_square(image, size)) for image in images])
        jobs = tuple(Job("", 0, index) for index in range(len(images)))
        return Batch(jobs, text=text, embeddings=embeddings, images=pictures.to(device))

    def noise(self, jobs: Sequence[Job]) -> Tensor:
        """The noise (B, 3, S, S) that the decoder would start these pictures from."""
        size = self.decoder.config.image_size
        noise = self.decoder.networks.noise([(job, "start") for job in jobs], (3, size, size))
        return noise() * self.decoder.denoising.schedule.initial_std

    def steps(self, jobs: Sequence[Job]) -> int:
        return self.decoder.inverting(self.inversion).steps * len(self.calls(jobs))

    def calls(self, jobs: Sequence[Job]) -> list[list[int]]:
        return chunks(range(len(jobs)), self.decoder.networks.pictures(self.decoder.config.image_size))

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        how, found = self.decoder.inverting(self.inversion), []
        for rows in self.calls(batch.jobs):
            part = batch.rows(rows)
            inner, x = self.decoder.conditioned(part, how), cast(Tensor, part.images)  # (B, 3, S, S)
            for step in ddim_invert(inner, x, iterations=self.inversion.iterations):
                yield step.x0
                x = step.x
            found.append(x)
        return replace(batch, images=torch.cat(found))
