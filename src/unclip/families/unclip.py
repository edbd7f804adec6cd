"""unCLIP: caption -> CLIP text embedding -> prior -> CLIP image embedding -> small picture -> larger ones.

Section 2 of 2204.06125. Only glue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import LAST_STEP
from unclip.diffusion.defaults import DecoderSampling, Spacing
from unclip.drawing import Event, Job, Options, Prior
from unclip.embedding import TextRows
from unclip.errors import InputError
from unclip.families.decoding import CLIP, DECODER, alike
from unclip.families.imagining import (
    AR_PRIOR,
    COMPONENTS,
    PRIOR,
    Imagining,
    PriorSampling,
    prior_of,
    prior_settings,
)
from unclip.families.initial import Initial
from unclip.manipulate.latents import Latents
from unclip.manipulate.methods import Editing
from unclip.manipulate.principal_components import Basis
from unclip.models.ar_prior import ArPrior
from unclip.pipeline import PICTURES, Done, Plan, chunks

PROMPT = "prompt"


@dataclass(frozen=True)
class UnCLIPPlan(Plan):
    """A plan that may come with what would be drawn before.

    Attributes:
        imagining: how embeddings come about that are not given.
        embeddings: of each job's picture, (E,), in place of the prior's; None where the prior is to draw.
        starts: what the decoder starts from, (3, S, S) of each job, in place of noise; by DDIM.
        initial: the picture that it starts from, with noise.
    """

    imagining: PriorSampling = field(default=None)
    embeddings: Mapping[Job, Tensor] | None = field(default=None)
    starts: Mapping[Job, Tensor] | None = field(default=None)
    initial: Initial | None = field(default=None)


class UnCLIP(Editing, Imagining):
    """A loaded bundle of the family "unclip".

    A bundle without a prior draws from image embeddings alone (`draw_embeddings`).
    """

    family = "unclip"
    honours = frozenset(
        {
            *("steps", "guidance", "prior", "prior_guidance", "sampler", "candidates", "rerank"),
            *("init", "strength", "fit"),
        }
    )
    offloads = True

    def own_basis(self) -> Basis | None:
        """The principal components that the autoregressive prior writes embeddings in; None without one."""
        if Prior.AR not in self.priors:
            return None
        codes = cast(ArPrior, self._model(AR_PRIOR)).codes
        self._let_go(AR_PRIOR)
        return Basis(codes.mean, codes.basis, f"the {AR_PRIOR} of {self.bundle.name}")

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
        idle = options.given & {"prior", "prior_guidance", "candidates", "rerank"}
        if idle:
            raise InputError(f"{', '.join(sorted(idle))}: no prior draws where embeddings are given")
        if options.size not in self.sizes:
            raise InputError(f"size {options.size} is not drawn: choose {', '.join(map(str, self.sizes))}")
        return replace(self._plan_from(options), embeddings=embeddings)

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
        imagining = self.prior_sampling(options)
        if options.rerank is not None and not self.clip.sees:
            raise InputError(
                f"rerank: the CLIP of {self.bundle.name} reads texts alone and cannot judge pictures"
            )
        prior = prior_of(imagining)
        names = [] if prior is Prior.NONE else [COMPONENTS[prior]]
        plan = self._plan_from(options, *names)
        return replace(plan, imagining=imagining, settings={**plan.settings, **prior_settings(imagining)})

    def _plan_from(self, options: Options, *priors: str) -> UnCLIPPlan:
        """The plan, with the components that draw before the decoder."""
        decoder = cast(DecoderSampling, self._asked(DECODER, options, options.guidance))
        if self._resamples:
            decoder = replace(decoder, sampler="ancestral", spacing=Spacing.EVEN, eta=0.0)
        upsamplers = self._upsamplers(options.size)
        self._schedule(DECODER, decoder)  # refuses steps that cannot be taken
        lasts = (f"{name}{LAST_STEP}" for name in upsamplers)
        names = (*priors, DECODER, *upsamplers, *(name for name in lasts if name in self.bundle.components))
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
        if self._filling is not None:
            settings |= self._filling.settings
        initial = Initial.of(options)
        if initial is not None:
            settings |= initial.settings
        return UnCLIPPlan(options, {DECODER: decoder}, upsamplers, settings, initial=initial)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self.clip.truncated(prompts, self._context)

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        full = cast(UnCLIPPlan, plan)
        decoder_steps = self._taken(DECODER, plan.sampling[DECODER], full.initial)
        small = self._chunk(self._decoder.image_size)
        for group in groups:
            kept = plan.options.n if plan.options.rerank else len(group)
            totals[PICTURES] += kept
            if not decoder_steps:
                continue
            lengths = self.clip.lengths([job.prompt for job in group], self._context)
            totals[PROMPT] += 1
            if full.embeddings is None:
                totals[PRIOR] += self._prior_pieces(lengths, full.imagining)
            totals[DECODER] += decoder_steps * len(alike(lengths, small))
            for name in plan.upsamplers:
                steps = len(self._schedule(name, self._sampling(name)))
                totals[name] += steps * len(chunks(range(kept), self._last_chunk(plan)))
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        full = cast(UnCLIPPlan, plan)
        if full.initial is not None and not self._taken(DECODER, plan.sampling[DECODER], full.initial):
            yield from self._unchanged(groups, plan, full.initial)
            return
        for group in groups:
            text = self.clip.read([job.prompt for job in group], self._context)
            _ = self._no_caption  # read while CLIP is there
            self._let_go(CLIP)
            yield Done(PROMPT)
            if full.embeddings is None:
                embeddings = yield from self._imagine(group, text, full.imagining)  # (B, E)
            else:
                given = torch.stack([full.embeddings[job] for job in group])
                embeddings = given.to(self.device, torch.float32)
            sampling = plan.sampling[DECODER]
            small = yield from self._paint(
                group, text, embeddings, sampling, full.starts, full.initial
            )  # (B, 3, S, S)
            scores = self._scores(group, small, text)
            order = list(range(len(group)))
            if plan.options.rerank is not None:
                order = sorted(order, key=lambda i: scores[i] or 0.0, reverse=True)[: plan.options.n]
            for chunk in chunks(order, self._last_chunk(plan)):
                jobs = [group[i] for i in chunk]
                images = small[chunk]
                for name in plan.upsamplers:
                    images = yield from self._enlarge(name, jobs, self._kept(images), self._keeping(name))
                pictures = self._finish(jobs, images, [scores[i] for i in chunk], plan)
                if self._filling is not None:
                    pictures = tuple(map(self._filling.finished, pictures))
                yield Done(PICTURES, images, pictures)

    def _scores(self, jobs: Sequence[Job], images: Tensor, text: TextRows) -> list[float | None]:
        """How well each picture fits its prompt; None where there is no prompt, or CLIP sees no pictures."""
        if not self.clip.sees:
            return [None] * len(jobs)
        scores: list[float] = self.clip.scores(images, text.embedding).tolist()
        self._let_go(CLIP)
        return [score if job.prompt else None for job, score in zip(jobs, scores, strict=True)]
