"""Priors: captions to CLIP image embeddings (section 2.2 of 2204.06125)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.diffusion.defaults import PriorSampling
from unclip.drawing import Job, Prior
from unclip.embedding import TextRows
from unclip.models.ar_prior import ArPrior, ArPriorConfig
from unclip.models.caption import Unconditional
from unclip.models.code_sampling import CodeSampling, draw_ordered, uniform_noise, write_codes
from unclip.models.prior import DiffusionPrior, PriorCondition
from unclip.stages.clip import Captions
from unclip.stages.denoising import Denoising, joined
from unclip.stages.networks import Networks, generators_of
from unclip.stages.stage import Batch, Estimate, Stage, alike

PRIOR = "prior"  # the stage, and the component that is a diffusion prior
AR_PRIOR = "ar-prior"
COMPONENTS = {Prior.DIFFUSION: PRIOR, Prior.AR: AR_PRIOR}
AR_CANDIDATES = 2  # where nothing else is asked for
ROWS = 128  # embeddings in one call of a prior


@dataclass(frozen=True)
class Diffused:
    """A diffusion prior: it draws embeddings from noise."""

    networks: Networks
    captions: Captions
    sampling: PriorSampling
    prior = Prior.DIFFUSION

    @cached_property
    def denoising(self) -> Denoising:  # its schedule is asked for at every turn
        return Denoising(self.networks, PRIOR, self.sampling)

    @property
    def steps(self) -> int:
        return self.denoising.steps

    def draw(self, streams: Sequence[tuple[Job, str]], text: TextRows) -> Generator[Estimate, None, Tensor]:
        """Embeddings (B, E), not normalised, each of a job and the name of its candidate."""
        prior = cast(DiffusionPrior, self.networks[PRIOR])
        config = prior.config
        condition, nothing = _condition(text, config.unit_embeddings), None
        if config.unconditional is Unconditional.EMPTY_CAPTION:
            empty = self.captions.nothing.repeated(len(text), text.ids.shape[1])
            nothing = _condition(empty, config.unit_embeddings)
        guided = self.denoising.guided(prior, condition, unconditional=nothing, read=prior.read)
        noise = self.networks.noise([(job, f"{PRIOR}{k}") for job, k in streams], (config.embedding,))
        return prior.whitening.unwhiten((yield from self.denoising.drawn(guided, noise)))


@dataclass(frozen=True)
class Written:
    """An autoregressive prior: it draws embeddings code by code."""

    networks: Networks
    sampling: CodeSampling
    prior = Prior.AR

    @property
    def steps(self) -> int:
        config: ArPriorConfig = self.networks.bundle.config(AR_PRIOR)
        return config.components

    def draw(self, streams: Sequence[tuple[Job, str]], text: TextRows) -> Generator[Estimate, None, Tensor]:
        """Embeddings (B, E), not normalised."""
        prior = cast(ArPrior, self.networks[AR_PRIOR])
        generators = generators_of([(job, f"{AR_PRIOR}{k}") for job, k in streams])
        noise = uniform_noise(generators, self.networks.device)
        condition = _condition(text, unit=True)
        dot = prior.dot_products.top_half(noise()[:, 0])  # (B,)
        if self.sampling.guidance != 1:
            condition, dot = joined(condition.dropped(), condition), dot.repeat(2)
        with self.networks.computing():
            writing = prior.begin(condition, dot)
        step, codes = self.networks.computing()(partial(prior.step, writing)), []
        for drawn in write_codes(step, prior.config.components, noise, self.sampling, draw_ordered):
            codes.append(drawn)
            yield None
        return prior.codes.decode(torch.stack(codes, dim=1))


@dataclass(frozen=True)
class Embeddings(Stage):
    """Image embeddings: those that are given with the jobs, and of the others a prior's.

    Attributes:
        captions: read the prompts.
        unit: whether the decoder knows embeddings by their direction alone (Karlo's does not).
        how: what draws them; None where the texts' embeddings stand for the pictures'.
        candidates: embeddings that are drawn for each picture; the one nearest to the text is kept.
    """

    captions: Captions
    unit: bool
    how: Diffused | Written | None = None
    candidates: int = 1
    name, shows = PRIOR, False

    @property
    def components(self) -> tuple[str, ...]:
        return () if self.how is None else (COMPONENTS[self.how.prior],)

    def settings(self, job: Job) -> dict[str, str]:
        if job.given.embedding is not None:
            return {}
        if self.how is None:
            return {"prior": Prior.NONE.value}
        guidance = f"{self.how.sampling.guidance:g}"
        return {
            "prior": self.how.prior.value,
            "prior_guidance": guidance,
            "candidates": str(self.candidates),
        }

    def steps(self, jobs: Sequence[Job]) -> int:
        return 0 if self.how is None else self.how.steps * len(self._drawn_together(jobs))

    def calls(self, jobs: Sequence[Job]) -> list[list[int]]:
        given = [row for row, job in enumerate(jobs) if job.given.embedding is not None]
        if self.how is None:
            return super().calls(jobs)
        return [*self._drawn_together(jobs), *([given] if given else [])]

    def _drawn_together(self, jobs: Sequence[Job]) -> list[list[int]]:
        """The rows of each call of the prior."""
        wanted = _wanted(jobs)
        lengths = self.captions.lengths([jobs[row] for row in wanted]) if wanted else ()
        at_once = cast(Diffused | Written, self.how).networks.at_once(ROWS // self.candidates)
        return [[wanted[place] for place in some] for some in alike(lengths, at_once)]

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        text = cast(TextRows, batch.text)
        found = text.embedding if self.unit else text.raw  # (B, E)
        wanted = _wanted(batch.jobs)
        if self.how is not None and wanted:
            found = torch.empty_like(text.embedding)
            for rows in self._drawn_together(batch.jobs):
                found[rows] = yield from self._drawn(batch, rows, self.how)
        if len(wanted) < len(batch):
            found = found.clone()
            for row in set(range(len(batch))) - set(wanted):
                found[row] = cast(Tensor, batch.jobs[row].given.embedding).to(found)
        return replace(batch, embeddings=found)

    def _drawn(
        self, batch: Batch, rows: Sequence[int], how: Diffused | Written
    ) -> Generator[Estimate, None, Tensor]:
        """Embeddings (B, E) of some of the jobs, of each the best candidate."""
        text, count = cast(TextRows, batch.text), self.candidates
        several = text.rows([row for row in rows for _ in range(count)])
        streams = [(batch.jobs[row], f"-{k}") for row in rows for k in range(count)]
        raw = yield from how.draw(streams, several)  # (B C, E)
        directions = F.normalize(raw, dim=-1)
        fit = (directions * several.embedding).sum(-1).view(len(rows), count)
        drawn = (directions if self.unit else raw).view(len(rows), count, -1)  # (B, C, E)
        return drawn[torch.arange(len(rows)), fit.argmax(1)]


def _wanted(jobs: Sequence[Job]) -> list[int]:
    """The jobs that come without an embedding."""
    return [row for row, job in enumerate(jobs) if job.given.embedding is None]


def _condition(text: TextRows, unit: bool) -> PriorCondition:
    keep = torch.ones(len(text), dtype=torch.bool, device=text.embedding.device)
    return PriorCondition(text.embedding if unit else text.raw, text.sequence, text.mask, keep)
