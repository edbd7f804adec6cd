"""The prior's half of unCLIP: captions to CLIP image embeddings (section 2.2 of 2204.06125). Only glue."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.bundle import Bundle
from unclip.diffusion import defaults
from unclip.drawing import Job, Options, Prior
from unclip.embedding import TextRows
from unclip.errors import BundleError, InputError
from unclip.families.decoding import Decoding, alike
from unclip.families.diffusion import joined, sampled
from unclip.models.ar_prior import ArPrior, ArPriorConfig
from unclip.models.caption import Unconditional
from unclip.models.code_sampling import CodeSampling, draw_ordered, uniform_noise, write_codes
from unclip.models.prior import DiffusionPrior, PriorCondition, PriorConfig
from unclip.pipeline import Done, listed
from unclip.runtime import autocast, noise_generator

PRIOR = "prior"  # the stage, and the component that is a diffusion prior
AR_PRIOR = "ar-prior"
COMPONENTS = {Prior.DIFFUSION: PRIOR, Prior.AR: AR_PRIOR}
PRIOR_ROWS = 128  # embeddings in one call of a prior


@dataclass(frozen=True)
class ArSampling(CodeSampling):
    """How an autoregressive prior draws; of so many `candidates` the one nearest to the text is kept."""

    candidates: int = 2


PriorSampling = (
    defaults.PriorSampling | ArSampling | None
)  # None: the text's embedding stands for the picture's


def prior_of(how: PriorSampling) -> Prior:
    """Which prior draws so."""
    if how is None:
        return Prior.NONE
    return Prior.AR if isinstance(how, ArSampling) else Prior.DIFFUSION


def prior_settings(how: PriorSampling) -> dict[str, str]:
    """What the pictures' metadata say of it."""
    settings = {"prior": str(prior_of(how))}
    if how is not None:
        settings |= {"prior_guidance": f"{how.guidance:g}", "candidates": str(how.candidates)}
    return settings


class Imagining(Decoding):
    """A loaded bundle with a decoder, and perhaps with priors that draw the embeddings it draws from."""

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        configs: list[PriorConfig | ArPriorConfig] = [
            bundle.config(COMPONENTS[prior]) for prior in self.priors
        ]
        if Prior.AR in self.priors and not self._decoder.unit_embeddings:
            raise BundleError(
                f"bundle {bundle.name}: its {AR_PRIOR} draws directions alone, its decoder wants lengths"
            )
        contexts = [part.context for part in (*configs, self._decoder.caption) if part is not None]
        self._context = min([self.clip.context, *contexts])

    @property
    def priors(self) -> tuple[Prior, ...]:
        """The priors that the bundle has, the one first that draws where none is asked for."""
        return tuple(prior for prior, name in COMPONENTS.items() if name in self.bundle.components)

    def prior_sampling(self, options: Options) -> PriorSampling:
        """How embeddings come about. Raises InputError for a prior that there is not, or its options."""
        if options.prior is None and not self.priors:
            raise InputError(
                f"{self.bundle.name} has no prior, so it draws no text: it makes variations of pictures, or "
                "draws from the text's own embedding with prior 'none'"
            )
        prior = Prior(options.prior or self.priors[0])
        if prior is Prior.NONE:
            if options.prior_guidance is not None or options.candidates is not None:
                raise InputError(
                    "prior_guidance and candidates mean nothing with prior 'none': leave them out"
                )
            return None
        if prior not in self.priors:
            raise InputError(
                f"prior {str(prior)!r}: {self.bundle.name} has none, choose "
                f"{listed((*self.priors, Prior.NONE))}"
            )
        asked = {"guidance": options.prior_guidance, "candidates": options.candidates}
        changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        if prior is Prior.AR:
            return replace(self._ar_sampling(), **changes)
        sampling = replace(cast(defaults.PriorSampling, self._sampling(PRIOR)), **changes)
        self._schedule(PRIOR, sampling)  # refuses steps that cannot be taken
        return sampling

    def _ar_sampling(self) -> ArSampling:
        codes = self.bundle.component(AR_PRIOR).codes
        if codes is None:
            raise BundleError(f"bundle {self.bundle.name} does not say how its {AR_PRIOR} draws codes")
        return ArSampling(**asdict(codes))

    def _prior_pieces(self, lengths: Sequence[int], how: PriorSampling) -> int:
        """Pieces of work that the prior has with texts of these lengths."""
        if how is None:
            return 0
        if isinstance(how, ArSampling):
            config: ArPriorConfig = self.bundle.config(AR_PRIOR)
            steps = config.components
        else:
            steps = len(self._schedule(PRIOR, how))
        return steps * len(alike(lengths, PRIOR_ROWS // how.candidates))

    def _imagine(
        self, jobs: Sequence[Job], text: TextRows, how: PriorSampling
    ) -> Generator[Done, None, Tensor]:
        """CLIP image embeddings (B, E): a prior's, of each picture the best candidate, or the texts' own."""
        unit = self._decoder.unit_embeddings
        if how is None:
            return text.embedding if unit else text.raw
        candidates = how.candidates
        chosen = torch.empty_like(text.embedding)
        for rows in alike(text.lengths, PRIOR_ROWS // candidates):
            several = text.rows([row for row in rows for _ in range(candidates)])
            streams = [(jobs[row], f"-{k}") for row in rows for k in range(candidates)]
            if isinstance(how, ArSampling):
                raw = yield from self._write(streams, several, how)  # (B C, E)
            else:
                raw = yield from self._diffuse(streams, several, how)
            directions = F.normalize(raw, dim=-1)
            fit = (directions * several.embedding).sum(-1).view(len(rows), candidates)
            drawn = (directions if unit else raw).view(len(rows), candidates, -1)  # (B, C, E)
            chosen[rows] = drawn[torch.arange(len(rows)), fit.argmax(1)]
        self._let_go(AR_PRIOR if isinstance(how, ArSampling) else PRIOR)
        return chosen

    def _diffuse(
        self, streams: Sequence[tuple[Job, str]], text: TextRows, sampling: defaults.PriorSampling
    ) -> Generator[Done, None, Tensor]:
        """Embeddings (B, E) of the diffusion prior, not normalised."""
        prior = cast(DiffusionPrior, self._model(PRIOR))
        config = prior.config
        condition = self._prior_condition(text, config.unit_embeddings)
        nothing = None
        if config.unconditional is Unconditional.EMPTY_CAPTION:
            empty = self._no_caption.repeated(len(text), text.ids.shape[1])
            nothing = self._prior_condition(empty, config.unit_embeddings)
        guided = self._guided(PRIOR, prior, condition, sampling, unconditional=nothing, read=prior.read)
        noise = self._noise([(job, f"{PRIOR}{k}") for job, k in streams], (config.embedding,))
        x = yield from sampled(PRIOR, guided, sampling, noise, show=False)
        return prior.whitening.unwhiten(x)

    def _write(
        self, streams: Sequence[tuple[Job, str]], text: TextRows, sampling: ArSampling
    ) -> Generator[Done, None, Tensor]:
        """Embeddings (B, E) of the autoregressive prior, not normalised."""
        prior = cast(ArPrior, self._model(AR_PRIOR))
        generators = [noise_generator(job.seed, job.index, f"{AR_PRIOR}{k}") for job, k in streams]
        noise = uniform_noise(generators, self.device)
        condition = self._prior_condition(text, unit=True)
        dot = prior.dot_products.top_half(noise()[:, 0])  # (B,)
        if sampling.guidance != 1:
            condition, dot = joined(condition.dropped(), condition), dot.repeat(2)

        # inference mode must not span a `yield`: it would hold for whoever reads the events
        def step(last: Tensor | None) -> Tensor:
            with torch.inference_mode(), autocast(self.device, self.precision):
                return prior.step(writing, last)

        with torch.inference_mode(), autocast(self.device, self.precision):
            writing = prior.begin(condition, dot)
        codes = []
        for drawn in write_codes(step, prior.config.components, noise, sampling, draw_ordered):
            codes.append(drawn)
            yield Done(PRIOR)
        return prior.codes.decode(torch.stack(codes, dim=1))

    def _prior_condition(self, text: TextRows, unit: bool) -> PriorCondition:
        keep = torch.ones(len(text), dtype=torch.bool, device=self.device)
        return PriorCondition(text.embedding if unit else text.raw, text.sequence, text.mask, keep)
