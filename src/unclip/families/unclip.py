"""unCLIP: caption -> CLIP text embedding -> prior -> CLIP image embedding -> small picture -> larger ones.

Section 2 of 2204.06125. Only glue.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Self, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from unclip.bundle import LAST_STEP, Bundle, Sampling, Spacing
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.resampling import resampled
from unclip.diffusion.sample import ddim, ddim_invert
from unclip.diffusion.schedule import Schedule, respace
from unclip.diffusion.steering import with_known
from unclip.drawing import Event, Job, Options
from unclip.embedding import ClipEmbedder, TextRows
from unclip.errors import InputError
from unclip.families.diffusion import DiffusionPipeline, changed, sampled, upsampler_chain
from unclip.images import fit_square, to_tensor
from unclip.manipulate.editing import Filling
from unclip.manipulate.latents import Frame, Inversion, Latents
from unclip.manipulate.methods import Editing
from unclip.models.caption import Unconditional
from unclip.models.decoder import Decoder, DecoderCondition, DecoderConfig, noise_embedding
from unclip.models.prior import DiffusionPrior, PriorCondition, PriorConfig
from unclip.pipeline import PICTURES, Done, Plan, chunks

PRIOR_ROWS = 128  # embeddings in one call of the prior

PROMPT, PRIOR, DECODER, CLIP, INVERSION = "prompt", "prior", "decoder", "clip", "inversion"


# Of DDIM there and back, the least noise level sigma / alpha. Below it epsilon is the network's error divided
# by next to nothing, and the noise that is found has many times the length of noise that is drawn from.
LEAST_INVERTED_NOISE = 0.15


@dataclass(frozen=True)
class InvertedSampling(Sampling):
    """Sampling by DDIM over the steps that an inversion takes."""


@dataclass(frozen=True)
class UnCLIPPlan(Plan):
    """A plan that may come with what would be drawn before.

    Attributes:
        embeddings: of each job's picture, (E,), in place of the prior's; None where the prior is to draw.
        starts: what the decoder starts from, (3, S, S) of each job, in place of noise; by DDIM.
    """

    embeddings: Mapping[Job, Tensor] | None = field(default=None)
    starts: Mapping[Job, Tensor] | None = field(default=None)


class UnCLIP(Editing, DiffusionPipeline):
    """A loaded bundle of the family "unclip".

    A bundle without a prior draws from image embeddings alone (`draw_embeddings`).

    Attributes:
        clip: CLIP's encoders, for embeddings and similarities.
    """

    family = "unclip"
    honours = frozenset({"steps", "guidance", "prior_guidance", "sampler", "candidates", "rerank"})
    offloads = True

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self.clip = ClipEmbedder.of(bundle, self.device, self.precision, partial(self._model, CLIP))
        self._prior: PriorConfig | None = bundle.config(PRIOR) if PRIOR in bundle.components else None
        self._decoder: DecoderConfig = bundle.config(DECODER)
        self._chain = upsampler_chain(bundle, self._decoder.image_size)
        contexts = [
            self.clip.context,
            *(part.context for part in (self._prior, self._decoder.caption) if part),
        ]
        self._context = min(contexts)
        self._filling: Filling | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        drawn = [self._decoder.image_size, *self._chain]
        halves = [size // 2 for size in drawn if size // 4 in drawn]
        return tuple(sorted({*drawn, *(half for half in halves if half > 256)}))

    # --- plan ---

    def draw_embeddings(self, embeddings: Mapping[Job, Tensor], options: Options) -> Iterator[Event]:
        """Draw from CLIP image embeddings: the decoder's half of unCLIP (section 3.1 of 2204.06125).

        Args:
            embeddings: (E,) for each picture: of length one, or for Karlo as CLIP's projection gives it
                (`ClipEmbedder.embed_images` with `raw`). A job's prompt may be empty.
            options: as of `draw`.

        Raises:
            InputError: no embeddings, one of another shape, or options that mean nothing without the prior.
        """
        return self._timed(list(embeddings), self._embedding_plan(embeddings, options))

    def _embedding_plan(self, embeddings: Mapping[Job, Tensor], options: Options) -> UnCLIPPlan:
        """The plan without a prior. Raises as `draw_embeddings` does."""
        width = self._decoder.embedding
        wrong = [tuple(row.shape) for row in embeddings.values() if row.shape != (width,)]
        if wrong or not embeddings:
            raise InputError(f"embeddings {wrong or 'none'}: give one of shape ({width},) for each picture")
        if any(value is not None for value in (options.prior_guidance, options.candidates, options.rerank)):
            raise InputError("prior_guidance, candidates and rerank mean nothing where no prior draws")
        if options.size not in self.sizes:
            raise InputError(f"size {options.size} is not drawn: choose {', '.join(map(str, self.sizes))}")
        return replace(self._plan_from(options, {}), embeddings=embeddings)

    def draw_latents(
        self,
        latents: Mapping[Job, Latents],
        options: Options,
        *,
        eta: float = 0.0,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Event]:
        """Draw from both latents, by DDIM as they were found.

        Args:
            latents: of each picture, all found in one way; a `Frame` shares noise with others.
            options: as of `draw_embeddings`; steps and guidance are the inversion's.
            eta: noise of DDIM, 0 to 1.
            settings: what the pictures' metadata say beside.

        Raises:
            InputError: as of `draw_embeddings`, or latents that were found in different ways.
        """
        ways = {one.inversion for one in latents.values()}
        if len(ways) != 1:
            raise InputError("these latents were not found in one way: encode the pictures again, together")
        inversion = ways.pop()
        options = replace(options, steps=inversion.steps, guidance=inversion.guidance, sampler="ddim")
        plan = self._embedding_plan({job: one.z_i for job, one in latents.items()}, options)
        sampling = self._inverting(inversion, eta)
        plan = replace(
            plan,
            starts={job: one.x_T for job, one in latents.items()},
            sampling={**plan.sampling, DECODER: sampling},
            settings={**plan.settings, **(settings or {})},
        )
        return self._timed(list(latents), plan)

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
        raw = not self._decoder.unit_embeddings
        embeddings = self.clip.embed_images(images, raw=raw).to(self.device)  # (B, E)
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

    def filling_in(self, filling: Filling) -> Self:
        """The same bundle, drawing into a picture of the size asked for: see `manipulate.editing`."""
        other = copy.copy(self)
        other._filling = filling
        return other

    def start_noise(self, jobs: Sequence[Job]) -> Tensor:
        """What the decoder would start these pictures from, (B, 3, S, S)."""
        size = self._decoder.image_size
        schedule = self._schedule(DECODER, self._sampling(DECODER))
        return self._noise([(job, "start") for job in jobs], (3, size, size))() * schedule.initial_std

    def _plan(self, options: Options) -> Plan:
        if self._prior is None:
            raise InputError(
                f"{self.bundle.name} has no prior, so it draws no text: it makes variations of pictures"
            )
        if options.rerank is not None and not self.clip.sees:
            raise InputError(
                f"rerank: the CLIP of {self.bundle.name} reads texts alone and cannot judge pictures"
            )
        prior = changed(self._sampling(PRIOR), guidance=options.prior_guidance, candidates=options.candidates)
        return self._plan_from(options, {PRIOR: prior})

    def _plan_from(self, options: Options, prior: Mapping[str, Sampling]) -> UnCLIPPlan:
        """The plan, with the prior's sampling where it draws."""
        decoder = self._asked(DECODER, options, options.guidance)
        if self._filling is not None:
            decoder = replace(decoder, sampler="ancestral", spacing=Spacing.EVEN, eta=0.0)
        below = [self._decoder.image_size, *self._chain]
        upsamplers = tuple(
            name for low, name in zip(below, self._chain.values(), strict=False) if low < options.size
        )
        stages = {**prior, DECODER: decoder}
        for name, sampling in stages.items():
            self._schedule(name, sampling)  # refuses steps that cannot be taken
        lasts = (f"{name}{LAST_STEP}" for name in upsamplers)
        names = (*stages, *upsamplers, *(name for name in lasts if name in self.bundle.components))
        # are their files there and whole? Now, and not after the drawing
        if self.offload:
            self.bundle.verify(*names)
        else:
            for name in names:
                self._model(name)
        settings = {
            "size": str(options.size),
            "steps": str(decoder.steps),
            "sampler": decoder.sampler,
            "guidance": f"{decoder.guidance:g}",
        }
        if PRIOR in prior:
            settings["prior_guidance"] = f"{prior[PRIOR].guidance:g}"
            settings["candidates"] = str(prior[PRIOR].candidates)
        if self._filling is not None:
            settings |= self._filling.settings
        return UnCLIPPlan(options, stages, upsamplers, settings)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self.clip.truncated(prompts, self._context)

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        prior = plan.sampling.get(PRIOR)
        decoder_steps = len(self._schedule(DECODER, plan.sampling[DECODER]))
        small = self._chunk(self._decoder.image_size)
        for group in groups:
            kept = plan.options.n if plan.options.rerank else len(group)
            lengths = self.clip.lengths([job.prompt for job in group], self._context)
            totals[PROMPT] += 1
            if prior is not None:
                prior_steps = len(self._schedule(PRIOR, prior))
                totals[PRIOR] += prior_steps * len(_alike(lengths, PRIOR_ROWS // prior.candidates))
            totals[DECODER] += decoder_steps * len(_alike(lengths, small))
            for name in plan.upsamplers:
                steps = len(self._schedule(name, self._sampling(name)))
                totals[name] += steps * len(chunks(range(kept), self._last_chunk(plan)))
            totals[PICTURES] += kept
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        for group in groups:
            text = self.clip.read([job.prompt for job in group], self._context)
            _ = self._no_caption  # read while CLIP is there
            self._let_go(CLIP)
            yield Done(PROMPT)
            full = cast(UnCLIPPlan, plan)
            if full.embeddings is None:
                embeddings = yield from self._imagine(group, text, plan.sampling[PRIOR])  # (B, E)
            else:
                given = torch.stack([full.embeddings[job] for job in group])
                embeddings = given.to(self.device, torch.float32)
            sampling = plan.sampling[DECODER]
            small = yield from self._paint(group, text, embeddings, sampling, full.starts)  # (B, 3, S, S)
            scores = self._scores(group, small, text)
            order = list(range(len(group)))
            if plan.options.rerank is not None:
                order = sorted(order, key=lambda i: scores[i] or 0.0, reverse=True)[: plan.options.n]
            for chunk in chunks(order, self._last_chunk(plan)):
                jobs = [group[i] for i in chunk]
                images = small[chunk]
                for name in plan.upsamplers:
                    if self._filling is not None:
                        known, keep = (part.to(self.device) for part in self._filling.at(images.shape[-1]))
                        images = torch.where(keep > 0, known, images)
                    images = yield from self._enlarge(name, jobs, images)
                pictures = self._finish(jobs, images, [scores[i] for i in chunk], plan)
                if self._filling is not None:
                    pasted = self._filling.pasted
                    pictures = tuple(replace(picture, image=pasted(picture.image)) for picture in pictures)
                yield Done(PICTURES, images, pictures)

    def _noise(self, streams: Sequence[tuple[Job, str]], shape: tuple[int, ...]) -> Callable[[], Tensor]:
        return super()._noise([(_owner(job), stage) for job, stage in streams], shape)

    @cached_property
    def _no_caption(self) -> TextRows:
        """The empty caption, which stands for none where a network wants it so."""
        return self.clip.read([""], self._context)

    def _scores(self, jobs: Sequence[Job], images: Tensor, text: TextRows) -> list[float | None]:
        """How well each picture fits its prompt; None where there is no prompt, or CLIP sees no pictures."""
        if not self.clip.sees:
            return [None] * len(jobs)
        scores: list[float] = self.clip.scores(images, text.embedding).tolist()
        self._let_go(CLIP)
        return [score if job.prompt else None for job, score in zip(jobs, scores, strict=True)]

    def _imagine(
        self, jobs: Sequence[Job], text: TextRows, sampling: Sampling
    ) -> Generator[Done, None, Tensor]:
        """Draw CLIP image embeddings with the prior and keep each picture's best candidate, (B, E)."""
        prior, candidates = cast(DiffusionPrior, self._model(PRIOR)), sampling.candidates
        config = prior.config
        chosen = torch.empty_like(text.embedding)
        for rows in _alike(text.lengths, PRIOR_ROWS // candidates):
            several = text.rows([row for row in rows for _ in range(candidates)])
            condition = self._prior_condition(several, config)
            nothing = None
            if config.unconditional is Unconditional.EMPTY_CAPTION:
                empty = self._no_caption.repeated(len(several), several.ids.shape[1])
                nothing = self._prior_condition(empty, config)
            guided = self._guided(PRIOR, prior, condition, sampling, unconditional=nothing, read=prior.read)
            streams = [(jobs[row], f"{PRIOR}-{k}") for row in rows for k in range(candidates)]
            noise = self._noise(streams, (config.embedding,))
            x = yield from sampled(PRIOR, guided, sampling, noise, show=False)
            raw = prior.whitening.unwhiten(x)  # (B C, E)
            unit = F.normalize(raw, dim=-1)
            fit = (unit * several.embedding).sum(-1).view(len(rows), candidates)
            drawn = (unit if config.unit_embeddings else raw).view(len(rows), candidates, -1)  # (B, C, E)
            chosen[rows] = drawn[torch.arange(len(rows)), fit.argmax(1)]
        self._let_go(PRIOR)
        return chosen

    def _prior_condition(self, text: TextRows, config: PriorConfig) -> PriorCondition:
        keep = torch.ones(len(text), dtype=torch.bool, device=self.device)
        embedding = text.embedding if config.unit_embeddings else text.raw
        return PriorCondition(embedding, text.sequence, text.mask, keep)

    def _paint(
        self,
        jobs: Sequence[Job],
        text: TextRows,
        embeddings: Tensor,
        sampling: Sampling,
        starts: Mapping[Job, Tensor] | None = None,
    ) -> Generator[Done, None, Tensor]:
        """Draw small pictures from CLIP image embeddings (B, E), (B, 3, S, S); `starts` as of the plan."""
        size = self._decoder.image_size
        shape = (3, size, size)
        drawn = torch.empty(len(jobs), *shape, device=self.device)
        for rows in _alike(text.lengths, self._chunk(size)):
            some = [jobs[row] for row in rows]
            inner = self._conditioned(some, text.rows(rows), embeddings[rows], sampling)
            noise = self._noise([(job, DECODER) for job in some], shape)
            if self._filling is not None:
                known, keep = (part.to(self.device) for part in self._filling.at(size))
                filling = with_known(inner, known, keep)
                x = noise() * inner.schedule.initial_std
                for step in resampled(filling, x, noise, rounds=self._filling.rounds):
                    yield Done(DECODER, step.x0)
                    x = step.x
            elif starts is None:
                x = yield from sampled(DECODER, inner, sampling, noise)
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
        decoder = cast(Decoder, self._model(DECODER))
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
        keep = torch.ones(len(text), dtype=torch.bool, device=self.device)
        condition = DecoderCondition(embedding, keep, noise_level=level)
        if config.caption is not None:
            condition = replace(condition, ids=text.ids, mask=text.mask, keep_text=keep)
        elif config.text_width is not None:
            condition = replace(condition, sequence=text.sequence, mask=text.mask, keep_text=keep)
        if config.text_to_time:
            summary = text.embedding if config.unit_embeddings else text.raw
            condition = replace(condition, text_embedding=summary)
        return condition


def _owner(job: Job) -> Job:
    """The picture whose noise a job takes."""
    return replace(job, index=job.shared) if isinstance(job, Frame) else job


def _alike(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions of texts in batches of at most `size` of one length each; see `embedding.PADDED_TO`."""
    positions: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        positions.setdefault(length, []).append(position)
    return [chunk for alike in positions.values() for chunk in chunks(alike, size)]
