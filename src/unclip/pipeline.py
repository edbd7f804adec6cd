"""Prompt to pictures: the one path that Python, command line and server share (seam 6 of the design).

Caption -> CLIP text embedding -> prior -> CLIP image embedding -> 64 px decoder -> 256 px -> 1024 px, as in
section 2 of 2204.06125. Only glue: the networks are in `models`, the arithmetic in `diffusion`, the files in
`bundle`.

Picture k of seed s takes all its noise from streams of its own (seam 3): so it is the same alone and in any
batch, but for what the matrix products' kernels, chosen by batch size, round differently.
"""

from __future__ import annotations

import secrets
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.bundle import Bundle, Sampling, Spacing
from unclip.diffusion.denoiser import Denoiser, denoiser, threshold
from unclip.diffusion.guidance import classifier_free
from unclip.diffusion.sample import ddim, find_sampler
from unclip.diffusion.schedule import Schedule, respace, respace_by_log_snr, respace_karras
from unclip.drawing import Event, Job, Options, Picture, Settings
from unclip.embedding import ClipEmbedder, TextRows
from unclip.errors import BundleError, InputError, UnclipWarning
from unclip.images import resize, to_pil
from unclip.models.decoder import Decoder, DecoderCondition, noise_embedding
from unclip.models.prior import DiffusionPrior, PriorCondition
from unclip.models.upsampler import Upsampler
from unclip.runtime import autocast, noise_generator, pick_device, pick_precision

__all__ = ["Event", "Job", "Options", "Picture", "Settings", "UnCLIP", "load"]

GROUP = 16  # pictures that go through all stages together: those of a long list appear as they are done
PRIOR_ROWS = 128  # embeddings in one call of the prior
PIXELS = 8 * 256 * 256  # pixels in one call of decoder or upsampler, what keeps a CPU below 1 GB
ACCELERATOR = 16  # times as much on an accelerator

# What suits a sampler where the bundle does not say.
SPACINGS = {"dpm++": Spacing.LOG_SNR, "heun": Spacing.KARRAS}
LARGEST_NOISE = 80.0  # sigma / alpha that Karras steps start from, table 1 of 2206.00364

PROMPT, PRIOR, DECODER, PICTURES = "prompt", "prior", "decoder", "pictures"

Condition = TypeVar("Condition", PriorCondition, DecoderCondition)


class _Done(NamedTuple):
    """A piece of work that is done, before it is counted and timed."""

    stage: str
    estimate: Tensor | None = None
    pictures: tuple[Picture, ...] = ()


class _Plan(NamedTuple):
    """Options put together with the bundle's defaults."""

    options: Options
    prior: Sampling
    decoder: Sampling
    upsamplers: tuple[str, ...]
    settings: dict[str, str]


def load(
    source: str | Path | None = None, *, device: str | None = None, precision: str | None = None
) -> UnCLIP:
    """Load a bundle to draw with.

    Args:
        source: a bundle's name or folder; None is the shipped one.
        device: "cpu", "cuda", "cuda:N" or "mps"; None is CUDA where there is one.
        precision: "float32", "bfloat16" or "float16"; None is bfloat16 where the device computes in it.

    Raises:
        BundleError: there is no such bundle, or a file of it is missing or altered.
        InputError: an unknown device or precision.
    """
    return UnCLIP(Bundle.load(source), device=device, precision=precision)


class UnCLIP:
    """A loaded bundle of the family "unclip": draws pictures from text.

    Attributes:
        bundle: where the weights came from.
        clip: CLIP's two encoders, for embeddings and similarities.
        sizes: sides in pixels that can be asked for.
    """

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        if bundle.family != "unclip":
            raise BundleError(f"bundle {bundle.name} is of the family {bundle.family}, not unclip")
        self.bundle = bundle
        self.device = pick_device(device)
        self.precision = pick_precision(self.device, precision)
        self._models: dict[str, nn.Module] = {}
        self.clip = ClipEmbedder.of(bundle, self.device, self.precision)
        self._prior = cast(DiffusionPrior, self._model(PRIOR))
        self._decoder = cast(Decoder, self._model(DECODER))
        self._chain = _upsampler_chain(bundle, self._decoder.config.image_size)
        caption = self._decoder.config.caption
        contexts = [self.clip.context, self._prior.config.context, *([caption.context] if caption else [])]
        self._context = min(contexts)

    @classmethod
    def load(cls, source: str | Path | None = None, **options: str | None) -> UnCLIP:
        """The same as `unclip.load`."""
        return load(source, **options)

    @property
    def sizes(self) -> tuple[int, ...]:
        drawn = [self._decoder.config.image_size, *self._chain]
        halves = [size // 2 for size in drawn if size // 4 in drawn]
        return tuple(sorted({*drawn, *(half for half in halves if half > 256)}))

    def generate(self, prompt: str | Sequence[str], **settings: Unpack[Settings]) -> list[Picture]:
        """Draw pictures.

        Args:
            prompt: what to draw, or several prompts that each get `n` pictures.
            settings: see `Options`.

        Returns:
            The pictures of the first prompt, then of the second, ...; of one prompt by index, or with
            `rerank` the best first.

        Raises:
            InputError: an empty prompt, or a setting outside its range.
        """
        return [picture for event in self.stream(prompt, **settings) for picture in event.pictures]

    def stream(self, prompt: str | Sequence[str], **settings: Unpack[Settings]) -> Iterator[Event]:
        """As `generate`, telling of every step; pictures come with the event that finishes them.

        Input is checked when this is called, the drawing happens while the events are read. Stopping to read
        them stops the drawing.
        """
        options = Options(**settings)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seed = secrets.randbelow(2**32) if options.seed is None else options.seed
        count = options.rerank or options.n
        jobs = [Job(text, seed, index) for text in prompts for index in range(count)]
        return self.draw(jobs, options)

    def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
        """As `stream`, for any mixture of prompts, seeds and indices (a server's requests, for example).

        The options' `seed` is not used, and `n` only with `rerank`: the best `n` jobs of each prompt and seed
        are kept.
        """
        for job in jobs:
            _check_prompt(job.prompt)
        if not jobs:
            raise InputError("no prompt given: say what to draw")
        plan = self._plan(options)
        self._warn_of_long_prompts(list(dict.fromkeys(job.prompt for job in jobs)))
        return self._timed(jobs, plan)

    # --- plan ---

    def _plan(self, options: Options) -> _Plan:
        if options.size not in self.sizes:
            raise InputError(f"size {options.size} is not drawn: choose {_listed(self.sizes)}")
        prior = _changed(
            self._sampling(PRIOR), guidance=options.prior_guidance, candidates=options.candidates
        )
        decoder = _changed(self._sampling(DECODER), guidance=options.guidance, steps=options.steps)
        if options.sampler is not None and options.sampler != decoder.sampler:
            decoder = replace(decoder, sampler=options.sampler, spacing=None, eta=0.0)
        below = [self._decoder.config.image_size, *self._chain]
        upsamplers = tuple(
            name for low, name in zip(below, self._chain.values(), strict=False) if low < options.size
        )
        for name, sampling in ((PRIOR, prior), (DECODER, decoder)):
            self._schedule(name, sampling)  # refuses steps that cannot be taken
        for name in upsamplers:
            self._model(name)  # is its file there and whole? Now, and not after the drawing
        settings = {
            "size": str(options.size),
            "steps": str(decoder.steps),
            "sampler": decoder.sampler,
            "guidance": f"{decoder.guidance:g}",
            "prior_guidance": f"{prior.guidance:g}",
            "candidates": str(prior.candidates),
        }
        return _Plan(options, prior, decoder, upsamplers, settings)

    def _sampling(self, name: str) -> Sampling:
        sampling = self.bundle.component(name).sampling
        if sampling is None:
            raise BundleError(f"bundle {self.bundle.name} does not say how to sample its {name}")
        return sampling

    def _schedule(self, name: str, sampling: Sampling) -> Schedule:
        diffusion = self.bundle.component(name).diffusion
        if diffusion is None:
            raise BundleError(f"bundle {self.bundle.name} does not say which diffusion its {name} is")
        schedule = diffusion.build()
        spacing = sampling.spacing or SPACINGS.get(sampling.sampler, Spacing.EVEN)
        if spacing is Spacing.EVEN:
            return schedule[respace(len(schedule), sampling.steps)]
        if isinstance(sampling.steps, str):
            raise InputError(f"steps {sampling.steps!r}: the sampler {sampling.sampler} takes a plain count")
        if spacing is Spacing.LOG_SNR:
            return schedule[respace_by_log_snr(schedule, sampling.steps)]
        return schedule[respace_karras(schedule, sampling.steps, max_noise=LARGEST_NOISE)]

    def _warn_of_long_prompts(self, prompts: Sequence[str]) -> None:
        for rest in self.clip.truncated(prompts, self._context):
            if rest is not None:
                message = f"the prompt is longer than the {self._context} tokens that are read: left out is "
                warnings.warn(f"{message}{_shortened(rest)!r}", UnclipWarning, stacklevel=4)

    # --- work ---

    def _timed(self, jobs: Sequence[Job], plan: _Plan) -> Iterator[Event]:
        """Count and time the pieces of work."""
        groups = _groups(jobs, plan.options.rerank is not None)
        totals = self._totals(groups, plan)
        done: Counter[str] = Counter()
        started = time.perf_counter()
        for piece in self._work(groups, plan):
            done[piece.stage] += max(1, len(piece.pictures))
            seconds = time.perf_counter() - started
            yield Event(
                piece.stage, done[piece.stage], totals[piece.stage], seconds, piece.pictures, piece.estimate
            )
            started = time.perf_counter()

    def _totals(self, groups: Sequence[Sequence[Job]], plan: _Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        prior_steps = len(self._schedule(PRIOR, plan.prior))
        decoder_steps = len(self._schedule(DECODER, plan.decoder))
        small = self._chunk(self._decoder.config.image_size)
        for group in groups:
            kept = plan.options.n if plan.options.rerank else len(group)
            lengths = self.clip.lengths([job.prompt for job in group], self._context)
            totals[PROMPT] += 1
            totals[PRIOR] += prior_steps * len(_alike(lengths, PRIOR_ROWS // plan.prior.candidates))
            totals[DECODER] += decoder_steps * len(_alike(lengths, small))
            for name in plan.upsamplers:
                steps = len(self._schedule(name, self._sampling(name)))
                totals[name] += steps * len(_chunks(range(kept), self._last_chunk(plan)))
            totals[PICTURES] += kept
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: _Plan) -> Iterator[_Done]:
        for group in groups:
            text = self.clip.read([job.prompt for job in group], self._context)
            yield _Done(PROMPT)
            embeddings = yield from self._imagine(group, text, plan.prior)  # (B, E)
            small = yield from self._paint(group, text, embeddings, plan.decoder)  # (B, 3, S, S)
            scores = self.clip.scores(small, text.embedding)  # (B,)
            order = list(range(len(group)))
            if plan.options.rerank is not None:
                order = scores.argsort(descending=True, stable=True)[: plan.options.n].tolist()
            for chunk in _chunks(order, self._last_chunk(plan)):
                jobs = [group[i] for i in chunk]
                images = small[chunk]
                for name in plan.upsamplers:
                    images = yield from self._enlarge(name, jobs, images)
                pictures = self._finish(jobs, images, scores[chunk], plan)
                yield _Done(PICTURES, images, pictures)

    def _imagine(
        self, jobs: Sequence[Job], text: TextRows, sampling: Sampling
    ) -> Generator[_Done, None, Tensor]:
        """Draw CLIP image embeddings with the prior and keep each picture's best candidate, (B, E)."""
        candidates = sampling.candidates
        chosen = torch.empty_like(text.embedding)
        for rows in _alike(text.lengths, PRIOR_ROWS // candidates):
            several = text.rows([row for row in rows for _ in range(candidates)])
            keep = torch.ones(len(several), dtype=torch.bool, device=self.device)
            condition = PriorCondition(several.embedding, several.sequence, several.mask, keep)
            guided = self._guided(PRIOR, self._prior, condition, sampling)
            streams = [(jobs[row], f"{PRIOR}-{k}") for row in rows for k in range(candidates)]
            noise = self._noise(streams, (self._prior.config.embedding,))
            x = yield from _sampled(PRIOR, guided, sampling, noise, show=False)
            drawn = F.normalize(self._prior.whitening.unwhiten(x), dim=-1)
            drawn = drawn.view(len(rows), candidates, -1)  # (B, C, E)
            wanted = several.embedding.view(len(rows), candidates, -1)
            best = (drawn * wanted).sum(-1).argmax(1)  # (B,)
            chosen[rows] = drawn[torch.arange(len(rows)), best]
        return chosen

    def _paint(
        self, jobs: Sequence[Job], text: TextRows, embeddings: Tensor, sampling: Sampling
    ) -> Generator[_Done, None, Tensor]:
        """Draw small pictures from CLIP image embeddings (B, E), (B, 3, S, S)."""
        config = self._decoder.config
        whitened = self._decoder.whitening.whiten(embeddings)  # (B, E)
        shape = (3, config.image_size, config.image_size)
        drawn = torch.empty(len(jobs), *shape, device=self.device)
        for rows in _alike(text.lengths, self._chunk(config.image_size)):
            embedding, level = whitened[rows], None
            if config.noisy_embedding:
                level = torch.full((len(rows),), sampling.noise_level, device=self.device)
                noise = self._noise([(jobs[row], "embedding") for row in rows], (config.embedding,))
                embedding = noise_embedding(embedding, noise(), level)
            keep = torch.ones(len(rows), dtype=torch.bool, device=self.device)
            condition = DecoderCondition(embedding, keep, noise_level=level)
            read = text.rows(rows)
            if config.caption is not None:
                condition = replace(condition, ids=read.ids, mask=read.mask, keep_text=keep)
            elif config.text_width is not None:
                condition = replace(condition, sequence=read.sequence, mask=read.mask, keep_text=keep)
            guided = self._guided(DECODER, self._decoder, condition, sampling)
            noise = self._noise([(jobs[row], DECODER) for row in rows], shape)
            x = yield from _sampled(DECODER, guided, sampling, noise)
            drawn[rows] = x.clamp(-1, 1)
        return drawn

    def _enlarge(self, name: str, jobs: Sequence[Job], low: Tensor) -> Generator[_Done, None, Tensor]:
        """Draw the pictures (B, 3, H, W) larger with an upsampler."""
        model, sampling = cast(Upsampler, self._model(name)), self._sampling(name)
        size = low.shape[-1] * model.config.scale
        inner = self._denoiser(name, self._schedule(name, sampling), partial(model, low=low))
        limited = threshold(inner, sampling.threshold, sampling.limit, sampling.percentile)
        noise = self._noise([(job, name) for job in jobs], (3, size, size))
        x = yield from _sampled(name, limited, sampling, noise)
        return x.clamp(-1, 1)

    def _finish(
        self, jobs: Sequence[Job], images: Tensor, scores: Tensor, plan: _Plan
    ) -> tuple[Picture, ...]:
        images = resize(images, plan.options.size)
        return tuple(
            Picture(
                image=to_pil(image),
                prompt=job.prompt,
                seed=job.seed,
                index=job.index,
                score=score,
                model=self.bundle.name,
                identity=self.bundle.identity,
                settings=plan.settings,
            )
            for job, image, score in zip(jobs, images, scores.tolist(), strict=True)
        )

    # --- networks ---

    def _model(self, name: str) -> nn.Module:
        if name not in self._models:
            self._models[name] = self.bundle.model(name, dtype=self.precision, device=self.device)
        return self._models[name]

    def _chunk(self, size: int) -> int:
        pixels = PIXELS if self.device.type == "cpu" else PIXELS * ACCELERATOR
        return max(1, min(GROUP, pixels // size**2))

    def _last_chunk(self, plan: _Plan) -> int:
        """Pictures that go through all upsamplers together: at 1024 px each holds 13 MB between them."""
        largest = [size for size, name in self._chain.items() if name in plan.upsamplers][-1:]
        return self._chunk(*largest or [self._decoder.config.image_size])

    def _guided(self, name: str, model: nn.Module, condition: Condition, sampling: Sampling) -> Denoiser:
        schedule = self._schedule(name, sampling)

        def given(condition: Condition) -> Denoiser:
            return self._denoiser(name, schedule, partial(model, condition=condition))

        dropped = condition.dropped()
        guided = classifier_free(
            given(condition),
            given(dropped),
            sampling.guidance,
            interval=sampling.interval,
            both=given(_joined(condition, dropped)),
        )
        return threshold(guided, sampling.threshold, sampling.limit, sampling.percentile)

    def _denoiser(self, name: str, schedule: Schedule, model: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
        diffusion = self.bundle.component(name).diffusion
        assert diffusion is not None  # `_schedule` was made from it

        # inference mode must not span a `yield`: it would hold for whoever reads the events
        def network(x: Tensor, label: Tensor) -> Tensor:
            with torch.inference_mode(), autocast(self.device, self.precision):
                return model(x, label).float()

        return denoiser(network, schedule, diffusion.prediction, diffusion.learned_range)

    def _noise(self, streams: Sequence[tuple[Job, str]], shape: tuple[int, ...]) -> Callable[[], Tensor]:
        """Standard normal noise (B, *shape), each row from its job's own stream."""
        generators = [noise_generator(job.seed, job.index, stage) for job, stage in streams]

        def noise() -> Tensor:
            rows = [torch.randn(shape, generator=generator) for generator in generators]
            return torch.stack(rows).to(self.device)

        return noise


def _sampled(
    stage: str, inner: Denoiser, sampling: Sampling, noise: Callable[[], Tensor], show: bool = True
) -> Generator[_Done, None, Tensor]:
    """Run a sampler from noise to its result, telling of every step."""
    sampler: Any = find_sampler(sampling.sampler)
    if sampler is ddim:
        sampler = partial(ddim, eta=sampling.eta)
    x = start = noise() * inner.schedule.initial_std
    for step in sampler(inner, start, noise):
        yield _Done(stage, step.x0 if show else None)
        x = step.x
    return x


def _joined(first: Condition, second: Condition) -> Condition:
    """Two conditions of B as one of 2B."""
    joined: dict[str, Any] = {}
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        joined[item.name] = None if a is None else torch.cat([a, b])
    return replace(first, **joined)


def _changed(sampling: Sampling, **changes: Any) -> Sampling:
    return replace(sampling, **{name: value for name, value in changes.items() if value is not None})


def _upsampler_chain(bundle: Bundle, size: int) -> dict[int, str]:
    """The upsamplers that lead from the decoder's size upwards, by the size that each one draws."""
    found = {
        component.config["low_size"]: (component.config["high_size"], name)
        for name, component in bundle.components.items()
        if component.kind == "upsampler"
    }
    chain = {}
    while size in found:
        size, name = found.pop(size)
        chain[size] = name
    if found:
        names = _listed([name for _, name in found.values()])
        raise BundleError(f"bundle {bundle.name}: {names} fits neither the decoder nor another upsampler")
    return chain


def _groups(jobs: Sequence[Job], rerank: bool) -> list[list[Job]]:
    """Jobs that go through the stages together: with `rerank` those that compete, else `GROUP` at a time."""
    if not rerank:
        return _chunks(jobs, GROUP)
    competing: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        competing.setdefault((job.prompt, job.seed), []).append(job)
    return list(competing.values())


Item = TypeVar("Item")


def _chunks(items: Sequence[Item], size: int) -> list[list[Item]]:
    size = max(1, size)
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _alike(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions of texts in batches of at most `size` of one length each; see `embedding.PADDED_TO`."""
    positions: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        positions.setdefault(length, []).append(position)
    return [chunk for alike in positions.values() for chunk in _chunks(alike, size)]


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise InputError("the prompt is empty: say what to draw")
    if len(prompt) > Options.LONGEST_PROMPT:
        raise InputError(
            f"the prompt has {len(prompt)} characters: at most {Options.LONGEST_PROMPT} are allowed"
        )
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the prompt is not text: it has a stray {prompt[error.start]!r}") from error


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
