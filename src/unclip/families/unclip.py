"""unCLIP: caption -> CLIP text embedding -> prior -> CLIP image embedding -> small picture -> larger ones.

Section 2 of 2204.06125. Only glue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.bundle import LAST_STEP, Bundle, Sampling, Spacing
from unclip.drawing import Event, Job, Options
from unclip.embedding import TextRows
from unclip.errors import InputError
from unclip.families.decoding import CLIP, DECODER, Decoding, alike
from unclip.families.diffusion import changed, sampled
from unclip.manipulate.latents import Latents
from unclip.manipulate.methods import Editing
from unclip.models.caption import Unconditional
from unclip.models.prior import DiffusionPrior, PriorCondition, PriorConfig
from unclip.pipeline import PICTURES, Done, Plan, chunks

PRIOR_ROWS = 128  # embeddings in one call of the prior

PROMPT, PRIOR = "prompt", "prior"


@dataclass(frozen=True)
class UnCLIPPlan(Plan):
    """A plan that may come with what would be drawn before.

    Attributes:
        embeddings: of each job's picture, (E,), in place of the prior's; None where the prior is to draw.
        starts: what the decoder starts from, (3, S, S) of each job, in place of noise; by DDIM.
    """

    embeddings: Mapping[Job, Tensor] | None = field(default=None)
    starts: Mapping[Job, Tensor] | None = field(default=None)


class UnCLIP(Editing, Decoding):
    """A loaded bundle of the family "unclip".

    A bundle without a prior draws from image embeddings alone (`draw_embeddings`).
    """

    family = "unclip"
    honours = frozenset({"steps", "guidance", "prior_guidance", "sampler", "candidates", "rerank"})
    offloads = True

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self._prior: PriorConfig | None = bundle.config(PRIOR) if PRIOR in bundle.components else None
        contexts = [
            self.clip.context,
            *(part.context for part in (self._prior, self._decoder.caption) if part),
        ]
        self._context = min(contexts)

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
                totals[PRIOR] += prior_steps * len(alike(lengths, PRIOR_ROWS // prior.candidates))
            totals[DECODER] += decoder_steps * len(alike(lengths, small))
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
        for rows in alike(text.lengths, PRIOR_ROWS // candidates):
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
