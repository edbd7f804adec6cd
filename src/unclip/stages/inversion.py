"""Pictures to their two latents: CLIP's embedding and the noise that DDIM draws them from (section 3)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from unclip.diffusion.samplers import ddim_invert
from unclip.drawing import Job
from unclip.given import Inversion
from unclip.images import fit_square, to_tensor
from unclip.stages.decoder import DECODER, Decoder
from unclip.stages.stage import Batch, Estimate, Stage, chunks


@dataclass(frozen=True)
class Inverting(Stage):
    """Finds the noise that the decoder draws pictures from; `images` are the pictures, then the noise.

    Attributes:
        decoder: draws.
        inversion: how.
    """

    decoder: Decoder
    inversion: Inversion
    name = "inversion"

    @property
    def components(self) -> tuple[str, ...]:
        return (DECODER,)

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """CLIP's embeddings of pictures, (N, E), as the decoder takes them. Raises InputError for none."""
        return self.decoder.captions.clip.embed_images(images, raw=not self.decoder.config.unit_embeddings)

    def batch(self, images: Sequence[Image.Image]) -> Batch:
        """The batch that `run` takes, of square pictures."""
        networks, size = self.decoder.networks, self.decoder.config.image_size
        embeddings = self.embed(images).to(networks.device)  # (B, E)
        text = self.decoder.captions.read([""] * len(images))
        pictures = torch.stack([to_tensor(fit_square(image, size)) for image in images])
        jobs = tuple(Job("", 0, index) for index in range(len(images)))
        return Batch(jobs, text=text, embeddings=embeddings, images=pictures.to(networks.device))

    def noise(self, jobs: Sequence[Job]) -> Tensor:
        """The noise (B, 3, S, S) that the decoder would start these pictures from."""
        size = self.decoder.config.image_size
        noise = self.decoder.networks.noise([(job, "start") for job in jobs], (3, size, size))
        return noise() * self.decoder.denoising.schedule.initial_std

    def steps(self, jobs: Sequence[Job]) -> int:
        batches = chunks(jobs, self.decoder.networks.pictures(self.decoder.config.image_size))
        return self.decoder.inverting(self.inversion).steps * len(batches)

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        how, networks = self.decoder.inverting(self.inversion), self.decoder.networks
        found = []
        for rows in chunks(range(len(batch)), networks.pictures(self.decoder.config.image_size)):
            part = batch.rows(rows)
            inner, x = self.decoder.conditioned(part, how), cast(Tensor, part.images)  # (B, 3, S, S)
            for step in ddim_invert(inner, x, iterations=self.inversion.iterations):
                yield step.x0
                x = step.x
            found.append(x)
        return batch.with_images(torch.cat(found))
