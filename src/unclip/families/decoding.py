"""The decoder's half of unCLIP: CLIP image embeddings to small pictures, and small pictures to latents.

Sections 2.1 and 3 of 2204.06125. Only glue.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Self, cast

import torch
from PIL import Image
from torch import Tensor

from unclip.bundle import Bundle
from unclip.diffusion.defaults import DecoderSampling, Sampling
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import with_known
from unclip.diffusion.samplers import ddim, ddim_invert, resampled
from unclip.diffusion.schedule import Schedule, respace
from unclip.drawing import Event, Job
from unclip.embedding import ClipEmbedder, TextRows
from unclip.families.diffusion import upsampler_chain
from unclip.families.initial import FromPicture, Initial
from unclip.images import fit_square, to_tensor
from unclip.manipulate.editing import Filling
from unclip.manipulate.latents import Frame, Inversion, Latents
from unclip.models.caption import Unconditional
from unclip.models.decoder import Decoder, DecoderCondition, DecoderConfig, noise_embedding
from unclip.pipeline import Done, chunks

DECODER, CLIP, INVERSION = "decoder", "clip", "inversion"

# Of DDIM there and back, the least noise level sigma / alpha. Below it epsilon is the network's error divided
# by next to nothing, and the noise that is found has many times the length of noise that is drawn from.
LEAST_INVERTED_NOISE = 0.15


@dataclass(frozen=True)
class InvertedSampling(DecoderSampling):
    """Sampling by DDIM over the steps that an inversion takes."""


class Decoding(FromPicture):
    """A loaded bundle with a CLIP, a decoder that draws from its image embeddings, and upsamplers.

    Attributes:
        clip: CLIP's encoders, for embeddings and similarities.
    """

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self.clip = ClipEmbedder.of(bundle, self.device, self.precision, partial(self._model, CLIP))
        self._decoder: DecoderConfig = bundle.config(DECODER)
        self._first = self._decoder.image_size
        self._chain = upsampler_chain(bundle, self._first)
        self._filling: Filling | None = None

    @property
    def fills_in(self) -> bool:
        """Whether the decoder was trained to fill in."""
        return self._decoder.inpainting

    def filling_in(self, filling: Filling) -> Self:
        """The same bundle, drawing into a picture of the size asked for: see `manipulate.editing`."""
        other = copy.copy(self)
        other._filling = filling
        return other

    @property
    def _resamples(self) -> bool:
        """Whether the decoder fills in by taking its steps several times."""
        return self._filling is not None and not (self.fills_in and self._filling.rounds == 1)

    def _known(self, size: int) -> tuple[Tensor, Tensor]:
        """The picture to fill in (1, 3, S, S) and its mask (1, 1, S, S), 1 for what is known, at any side."""
        assert self._filling is not None
        known, keep = (part.to(self.device) for part in self._filling.at(size))
        return known, keep

    def _kept(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S), over them what is known where something is filled in."""
        if self._filling is None:
            return images
        known, keep = self._known(images.shape[-1])
        return torch.where(keep > 0, known, images)

    def _keeping(self, upsampler: str) -> Callable[[Denoiser], Denoiser] | None:
        """What holds an upsampler to the known pixels, so that what it draws meets them."""
        if self._filling is None:
            return None
        known, keep = self._known(self.bundle.config(upsampler).high_size)
        return partial(with_known, known=known, keep=keep)

    # --- pictures to latents ---

    def embed(self, images: Sequence[Image.Image]) -> Tensor:
        """CLIP's embeddings of pictures, (N, E), as the decoder takes them. Raises InputError for none."""
        return self.clip.embed_images(images, raw=not self._decoder.unit_embeddings)

    def _schedule(self, name: str, sampling: Sampling) -> Schedule:
        if not isinstance(sampling, InvertedSampling):
            return super()._schedule(name, sampling)
        diffusion = self.bundle.component(name).diffusion
        assert diffusion is not None  # bundles whose decoder has none are not loaded
        whole = diffusion.build()
        noisy = whole[tuple(range(int((whole.noise_to_signal < LEAST_INVERTED_NOISE).sum()), len(whole)))]
        return noisy[respace(len(noisy), sampling.steps)]

    def _inverting(self, inversion: Inversion, eta: float = 0.0) -> Sampling:
        """How the decoder draws what can be inverted: nothing is clipped, and the embedding is exact."""
        sampling = InvertedSampling(inversion.steps, eta=eta, guidance=inversion.guidance)
        self._schedule(DECODER, sampling)  # refuses steps that cannot be taken
        return sampling

    def invert(
        self, images: Sequence[Image.Image], inversion: Inversion
    ) -> Generator[Event, None, list[Latents]]:
        """As `encode`, for several pictures, telling of every step; the generator returns the latents.

        A picture that is not square is shown whole, on white.
        """
        sampling = self._inverting(inversion)
        embeddings = self.embed(images).to(self.device)  # (B, E)
        text = self.clip.read([""] * len(images), self._context)
        _ = self._no_caption
        self._let_go(CLIP)
        size = self._decoder.image_size
        pictures = torch.stack([to_tensor(fit_square(image, size)) for image in images]).to(self.device)
        jobs = [Job("", 0, index) for index in range(len(images))]
        found: list[Latents] = []
        batches = chunks(range(len(images)), self._chunk(size))
        total, done = len(batches) * len(self._schedule(DECODER, sampling)), 0
        started = time.perf_counter()
        for rows in batches:
            inner = self._conditioned(
                [jobs[row] for row in rows], text.rows(rows), embeddings[rows], sampling
            )
            x = pictures[rows]  # (B, 3, S, S)
            for step in ddim_invert(inner, x, iterations=inversion.iterations):
                x, done = step.x, done + 1
                seconds, started = time.perf_counter() - started, time.perf_counter()
                yield Event(INVERSION, done, total, seconds, estimate=step.x0)
            found += [Latents(embeddings[row], noise, inversion) for row, noise in zip(rows, x, strict=True)]
        self._let_go(DECODER)
        return found

    def start_noise(self, jobs: Sequence[Job]) -> Tensor:
        """What the decoder would start these pictures from, (B, 3, S, S)."""
        size = self._decoder.image_size
        schedule = self._schedule(DECODER, self._sampling(DECODER))
        return self._noise([(job, "start") for job in jobs], (3, size, size))() * schedule.initial_std

    # --- embeddings to pictures ---

    def _noise(self, streams: Sequence[tuple[Job, str]], shape: tuple[int, ...]) -> Callable[[], Tensor]:
        part = "" if self._filling is None else self._filling.part
        painted = {DECODER, *self._chain.values()}  # and not the prior: all parts show one thing
        named = [(_owner(job), f"{stage}{part}" if stage in painted else stage) for job, stage in streams]
        return super()._noise(named, shape)

    @cached_property
    def _no_caption(self) -> TextRows:
        """The empty caption, which stands for none where a network wants it so."""
        return self.clip.read([""], self._context)

    def _paint(
        self,
        jobs: Sequence[Job],
        text: TextRows,
        embeddings: Tensor,
        sampling: Sampling,
        starts: Mapping[Job, Tensor] | None = None,
        initial: Initial | None = None,
    ) -> Generator[Done, None, Tensor]:
        """Draw small pictures from CLIP image embeddings (B, E), (B, 3, S, S); the rest as of the plan."""
        size = self._decoder.image_size
        shape = (3, size, size)
        drawn = torch.empty(len(jobs), *shape, device=self.device)
        for rows in alike(text.lengths, self._chunk(size)):
            some = [jobs[row] for row in rows]
            inner = self._conditioned(some, text.rows(rows), embeddings[rows], sampling)
            noise = self._noise([(job, DECODER) for job in some], shape)
            if self._filling is not None:
                inner = with_known(inner, *self._known(size))
            if self._resamples:
                assert self._filling is not None
                x = noise() * inner.schedule.initial_std
                for step in resampled(inner, x, noise, rounds=self._filling.rounds):
                    yield Done(DECODER, step.x0)
                    x = step.x
            elif starts is None:
                x = yield from self._started(DECODER, inner, sampling, noise, initial)
            else:
                x = torch.stack([starts[job] for job in some]).to(self.device)
                for step in ddim(inner, x, noise, eta=sampling.eta):
                    yield Done(DECODER, step.x0)
                    x = step.x
            drawn[rows] = x.clamp(-1, 1)
        self._let_go(DECODER)
        return drawn

    def _conditioned(
        self, jobs: Sequence[Job], text: TextRows, embeddings: Tensor, sampling: Sampling
    ) -> Denoiser:
        """The decoder, given captions and CLIP image embeddings (B, E), with guidance and threshold."""
        decoder, sampling = cast(Decoder, self._model(DECODER)), cast(DecoderSampling, sampling)
        config = decoder.config
        embedding, level = decoder.whitening.whiten(embeddings), None  # (B, E)
        if config.noisy_embedding:
            level = torch.full((len(jobs),), sampling.noise_level, device=self.device)
            noise = self._noise([(job, "embedding") for job in jobs], (config.embedding,))
            embedding = noise_embedding(embedding, noise(), level)
        condition = self._decoder_condition(embedding, level, text, config)
        nothing = None
        if config.unconditional is Unconditional.EMPTY_CAPTION:
            empty = self._no_caption.repeated(len(jobs), text.ids.shape[1])
            nothing = self._decoder_condition(embedding, level, empty, config)
            nothing = replace(nothing, keep_image=~nothing.keep_image)
        return self._guided(DECODER, decoder, condition, sampling, unconditional=nothing, read=decoder.read)

    def _decoder_condition(
        self, embedding: Tensor, level: Tensor | None, text: TextRows, config: DecoderConfig
    ) -> DecoderCondition:
        """Whitened embeddings (B, E), their noise levels (B,), and of the captions what is read of them."""
        all_of_it = torch.ones(len(text), dtype=torch.bool, device=self.device)
        condition = DecoderCondition(embedding, all_of_it, noise_level=level)
        if config.caption is not None:
            condition = replace(condition, ids=text.ids, mask=text.mask, keep_text=all_of_it)
        elif config.text_width is not None:
            condition = replace(condition, sequence=text.sequence, mask=text.mask, keep_text=all_of_it)
        if config.inpainting and self._filling is not None:
            known, keep = (part.expand(len(text), -1, -1, -1) for part in self._known(config.image_size))
            condition = replace(condition, known=known, keep=keep)
        if config.text_to_time:
            summary = text.embedding if config.unit_embeddings else text.raw
            condition = replace(condition, text_embedding=summary)
        return condition


def _owner(job: Job) -> Job:
    """The picture whose noise a job takes."""
    return replace(job, index=job.shared) if isinstance(job, Frame) else job


def alike(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions of texts in batches of at most `size` of one length each; see `embedding.PADDED_TO`."""
    positions: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        positions.setdefault(length, []).append(position)
    return [chunk for alike in positions.values() for chunk in chunks(alike, size)]
