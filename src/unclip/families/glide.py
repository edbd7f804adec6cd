"""GLIDE: a caption -> a small picture -> a larger one, guided by the empty caption or by a noised CLIP.

Section 2 of 2112.10741, drawn as glide-text2im's notebooks draw; trained here, unCLIP's upsamplers may
follow. Only glue.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.bundle import Bundle
from unclip.diffusion.defaults import GuidedSampling, Sampling
from unclip.diffusion.denoiser import Denoiser
from unclip.diffusion.guidance import clip_guidance, mean_shifted, with_known
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.families.diffusion import sampled, upsampler_chain
from unclip.families.initial import FromPicture, Initial
from unclip.images import resize
from unclip.models.glide import Glide as Network
from unclip.models.glide import GlideCondition, GlideConfig
from unclip.models.noised_clip import NoisedCLIP
from unclip.pipeline import PICTURES, Done, Plan, chunks, listed
from unclip.runtime import autocast

PROMPT, BASE, CLIP, CLIP_TOKENIZER = "prompt", "glide", "noised-clip", "clip-tokenizer"
INPAINT = "-inpaint"  # follows a component's name in that of the one trained to fill in


@dataclass(frozen=True)
class GlidePlan(Plan):
    """A plan with the scale of guidance by the noised CLIP, 0 for none, and the picture it starts from."""

    clip_guidance: float = 0.0
    initial: Initial | None = None


class Filling(NamedTuple):
    """A picture to fill in: (3, H, W) in [-1, 1], and (1, H, W), 1 where it stays and 0 where it is drawn."""

    picture: Tensor
    keep: Tensor


class Glide(FromPicture):
    """A loaded bundle of the family "glide"."""

    family = "glide"
    honours = frozenset({"steps", "guidance", "sampler", "clip_guidance", "init", "strength", "fit"})
    guides = frozenset({CLIP})
    offloads = True

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self._tokenizer = bundle.tokenizer()
        self._config: GlideConfig = bundle.config(BASE)
        self._context = self._config.caption.context
        if self._tokenizer.vocabulary != self._config.caption.vocabulary:
            raise BundleError(f"bundle {bundle.name}: tokenizer and model do not fit each other")
        self._first = self._config.image_size
        self._chain = self._find_chain()
        self._filling: Filling | None = None

    @property
    def fills_in(self) -> bool:
        """Whether its base model, or one beside it, was trained to fill in."""
        return self._config.fills_in or f"{BASE}{INPAINT}" in self.bundle.components

    def filling_in(self, picture: Tensor, keep: Tensor) -> Self:
        """The same bundle, drawing into a picture: `generate` and `stream` then keep what is to stay.

        Args:
            picture: (3, S, S) in [-1, 1], as large as what will be drawn; each stage sees it at its own size.
            keep: (1, S, S), 1 where it stays, bit for bit at size S, and 0 where something is drawn.

        Raises:
            InputError: no component was trained to fill in, a mask that is neither 0 nor 1 somewhere, or
                shapes that do not fit.
        """
        if not self.fills_in:
            raise InputError(
                f"{self.bundle.name} has no component that was trained to fill in: convert GLIDE's "
                "base_inpaint.pt and upsample_inpaint.pt with the others"
            )
        side, drawn = picture.shape[-1], (self._first, *self._chain)
        if picture.shape != (3, side, side) or keep.shape != (1, side, side) or side not in drawn:
            raise InputError(
                f"picture {tuple(picture.shape)} and mask {tuple(keep.shape)}: give (3, S, S) and (1, S, S) "
                f"with S one of {listed(drawn)}"
            )
        if not bool(((keep == 0) | (keep == 1)).all()):
            raise InputError("a mask is 1 where the picture stays and 0 where it is drawn, never between")
        other = copy.copy(self)
        other._filling = Filling(picture.float().clamp(-1, 1), keep.float())
        return other

    # --- plan ---

    def _find_chain(self) -> dict[int, str]:
        """The upsamplers that lead from the base's size upwards, by the size that each one draws."""
        others: dict[str, GlideConfig] = {
            name: self.bundle.config(name)
            for name, component in self.bundle.components.items()
            if component.kind == "glide" and name != BASE and not name.endswith(INPAINT)
        }
        sizes = {name: (config.low_size or 0, config.image_size) for name, config in others.items()}
        return upsampler_chain(self.bundle, self._first, sizes)

    @property
    def _clip_tokenizer(self) -> str:
        """The component that cuts captions for the noised CLIP: one of its own, or the one there is."""
        return CLIP_TOKENIZER if CLIP_TOKENIZER in self.bundle.components else "tokenizer"

    def _named(self, name: str) -> str:
        """The component that does a stage: to fill in, the one trained for it where there are both."""
        filling = f"{name}{INPAINT}"
        return filling if self._filling is not None and filling in self.bundle.components else name

    def _plan(self, options: Options) -> GlidePlan:
        clip_scale = options.clip_guidance or 0.0
        if clip_scale and CLIP not in self.bundle.components:
            raise InputError(
                f"clip_guidance needs a noised CLIP, which {self.bundle.name} lacks: leave it out"
            )
        side = options.size if self._filling is None else self._filling.picture.shape[-1]
        if options.size != side:
            raise InputError(f"size {options.size}: the picture to fill in has {side} pixels a side")
        base = self._named(BASE)
        # GLIDE guides by one or the other: with CLIP the empty caption comes in only if it is asked for
        guidance = 1.0 if clip_scale and options.guidance is None else options.guidance
        sampling = cast(GuidedSampling, self._asked(base, options, guidance))
        self._schedule(base, sampling)  # refuses steps that cannot be taken
        upsamplers = tuple(self._named(name) for name in self._upsamplers(options.size))
        self.bundle.verify(base, *upsamplers, *([CLIP, self._clip_tokenizer] if clip_scale else []))
        settings = {
            "size": str(options.size),
            "steps": str(sampling.steps),
            "sampler": sampling.sampler,
            "guidance": f"{sampling.guidance:g}",
            "clip_guidance": f"{clip_scale:g}",
        }
        initial = Initial.of(options)
        if initial is not None:
            settings |= initial.settings
        return GlidePlan(options, {base: sampling}, upsamplers, settings, None, clip_scale, initial)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self._tokenizer.batch(prompts, self._context).truncated

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        (base,) = plan.sampling
        steps = self._taken(base, plan.sampling[base], cast(GlidePlan, plan).initial)
        for group in groups:
            totals[PICTURES] += len(group)
            if not steps:
                continue
            totals[PROMPT] += 1
            totals[base] += steps * len(chunks(group, self._chunk(self._config.image_size)))
            for name in plan.upsamplers:
                larger = self._steps(name, self._sampling(name))
                totals[name] += larger * len(chunks(group, self._last_chunk(plan)))
        return totals

    def _last_chunk(self, plan: Plan) -> int:
        return self._chunk(min(size for size in (self._first, *self._chain) if size >= plan.options.size))

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        (base,) = plan.sampling
        full, sampling = cast(GlidePlan, plan), plan.sampling[base]
        if full.initial is not None and not self._taken(base, sampling, full.initial):
            yield from self._unchanged(groups, plan, full.initial)
            return
        for group in groups:
            text, empty = self._read(base, group)
            yield Done(PROMPT)
            drawn = []
            for rows in chunks(range(len(group)), self._chunk(self._config.image_size)):
                condition = GlideCondition(text[rows], empty[rows])
                inner = self._given(base, condition, sampling, self._config.image_size)
                jobs = [group[row] for row in rows]
                drawn.append((yield from self._paint(base, jobs, inner, full)))
            self._let_go(base)
            self._let_go(CLIP)
            small = torch.cat(drawn)  # (B, 3, S, S)
            for rows in chunks(range(len(group)), self._last_chunk(plan)):
                jobs, images = [group[row] for row in rows], small[rows]
                for name in plan.upsamplers:
                    images = yield from self._draw_larger(name, jobs, images)
                yield Done(PICTURES, images, self._finish(jobs, images, [None] * len(jobs), plan))

    def _read(self, name: str, jobs: Sequence[Job]) -> tuple[Tensor, Tensor]:
        """The jobs' captions, and the empty one, as a component reads them, (B, context, W) each.

        Each distinct caption is read on its own, so that nothing depends on the captions beside it.
        """
        network = cast(Network, self._model(name))

        def read(caption: str) -> Tensor:
            tokens = self._tokenizer.batch([caption], self._context).to(self.device)
            return network.read(tokens.ids, tokens.mask)[0]

        with torch.no_grad(), autocast(self.device, self.precision):
            known = {caption: read(caption) for caption in {"", *(job.prompt for job in jobs)}}
        captions = torch.stack([known[job.prompt] for job in jobs])
        return captions, known[""].expand_as(captions)

    def _paint(
        self, name: str, jobs: Sequence[Job], inner: Denoiser, plan: GlidePlan
    ) -> Generator[Done, None, Tensor]:
        """Draw small pictures, (B, 3, S, S)."""
        sampling, size = plan.sampling[name], self._config.image_size
        if plan.clip_guidance:
            inner = self._guided_by_clip(inner, jobs, plan.clip_guidance, sampling.sampler)
        noise = self._noise([(job, BASE) for job in jobs], (3, size, size))
        x = yield from self._started(name, inner, sampling, noise, plan.initial)
        return x.clamp(-1, 1)

    def _draw_larger(self, name: str, jobs: Sequence[Job], low: Tensor) -> Generator[Done, None, Tensor]:
        """The pictures (B, 3, h, h) as the upsampler `name` draws them larger.

        One of GLIDE's own is given the captions again, and the pictures' 8-bit form, as published.
        """
        if self.bundle.component(name).kind == "upsampler":
            return (yield from self._enlarge(name, jobs, low))
        sampling, size = self._sampling(name), self.bundle.config(name).image_size
        text, empty = self._read(name, jobs)
        levels = ((low + 1) * 127.5).round()
        condition = GlideCondition(text, empty, low=levels / 127.5 - 1)
        inner = self._given(name, condition, sampling, size)
        noise = self._noise([(job, name.removesuffix(INPAINT)) for job in jobs], (3, size, size))
        x = yield from sampled(name, inner, sampling, noise)
        self._let_go(name)
        return x.clamp(-1, 1)

    def _given(self, name: str, condition: GlideCondition, sampling: Sampling, size: int) -> Denoiser:
        """A component, given its captions, with guidance and threshold; it keeps what is to stay."""
        network, sampling = cast(Network, self._model(name)), cast(GuidedSampling, sampling)
        if self._filling is None:
            return self._guided(name, network, condition, sampling, read=network.prepared)
        known, keep = self._seen(self._filling, size, len(condition.text))
        if network.config.fills_in:
            condition = replace(condition, known=known, keep=keep)
        guided = self._guided(name, network, condition, sampling, read=network.prepared)
        return with_known(guided, known, keep)

    def _seen(self, filling: Filling, size: int, count: int) -> tuple[Tensor, Tensor]:
        """The picture and its mask at a side of `size`, for a batch; kept is what is kept all over."""
        picture, keep = (part[None].to(self.device) for part in filling)
        if size < picture.shape[-1]:
            picture = resize(picture, size)
            keep = -F.max_pool2d(-keep, keep.shape[-1] // size)
        return picture.expand(count, -1, -1, -1), keep.expand(count, -1, -1, -1)

    def _guided_by_clip(self, inner: Denoiser, jobs: Sequence[Job], scale: float, sampler: str) -> Denoiser:
        network = cast(NoisedCLIP, self._model(CLIP))
        tokenizer = self.bundle.tokenizer(self._clip_tokenizer)
        tokens = tokenizer.batch([job.prompt for job in jobs], network.config.text.context).to(self.device)
        with torch.no_grad(), autocast(self.device, self.precision):
            texts = network.encode_text(tokens.ids, tokens.mask).float()  # (B, E)

        def similarity(x: Tensor, label: Tensor) -> Tensor:
            with autocast(self.device, self.precision):
                return network.similarity(x, label, texts)

        def steer(denoiser: Denoiser) -> Denoiser:
            return clip_guidance(denoiser, similarity, scale)

        return mean_shifted(inner, steer) if sampler == "ancestral" else steer(inner)
