"""unCLIP: caption -> CLIP text embedding -> prior -> CLIP image embedding -> small picture -> larger ones.

Section 2 of 2204.06125.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor

from unclip.drawing import Job, Options, Prior
from unclip.embedding import ClipEmbedder
from unclip.errors import BundleError, InputError, listed
from unclip.families import Family
from unclip.given import Inversion, Kind
from unclip.models.ar_prior import ArPrior, ArPriorConfig
from unclip.models.decoder import DecoderConfig
from unclip.models.prior import PriorConfig
from unclip.stages.clip import CLIP, Captions, Scoring
from unclip.stages.decoder import DECODER, Decoder, Inverting
from unclip.stages.denoising import Denoising, asked_sampling, changed, default_sampling
from unclip.stages.networks import Networks
from unclip.stages.prior import AR_CANDIDATES, AR_PRIOR, COMPONENTS, PRIOR, Diffused, Embeddings, Written
from unclip.stages.stage import Stage
from unclip.stages.upsampler import Chain


class UnCLIP(Family):
    """A bundle without a prior draws from image embeddings alone."""

    honours = frozenset(
        {
            *("steps", "guidance", "prior", "prior_guidance", "sampler", "candidates", "rerank"),
            *("init", "strength", "fit", "style"),
        }
    )
    takes = frozenset({Kind.EMBEDDING, Kind.PICTURE, Kind.NOISE, Kind.KNOWN})

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        bundle = self.bundle
        self.clip = ClipEmbedder.of(
            bundle, networks.device, networks.precision, lambda: networks[CLIP], exact=networks.exact
        )
        self.config: DecoderConfig = bundle.config(DECODER)
        self.fills_in = self.config.inpainting
        self.chain = Chain.of(networks, self.config.image_size)
        self.sizes = self.chain.sizes
        self.priors = tuple(prior for prior, name in COMPONENTS.items() if name in bundle.components)
        if Prior.AR in self.priors and not self.config.unit_embeddings:
            raise BundleError(
                f"bundle {bundle.name}: its {AR_PRIOR} draws directions alone, its decoder wants lengths"
            )
        configs: list[PriorConfig | ArPriorConfig] = [
            bundle.config(COMPONENTS[prior]) for prior in self.priors
        ]
        contexts = [part.context for part in (*configs, self.config.caption) if part is not None]
        self.context = min([self.clip.context, *contexts])
        self.captions = Captions(self.clip, self.context)

    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        scoring = Scoring.of(self.clip, options, self.bundle.name)
        embeddings = Embeddings(self.captions, self.config.unit_embeddings)
        if any(job.given.embedding is None for job in jobs):
            embeddings = self.prior(options)
        larger = self.chain.stages(options.size)
        return (self.captions, embeddings, self.decoder(options), scoring, *larger)

    def prior(self, options: Options) -> Embeddings:
        """The stage that makes embeddings. Raises InputError for an unknown prior, or wrong options of it."""
        if options.prior is None and not self.priors:
            raise InputError(
                f"{self.bundle.name} has no prior, so it draws no text: it makes variations of pictures, or "
                "draws from the text's own embedding with prior 'none'"
            )
        prior, unit = Prior(options.prior or self.priors[0]), self.config.unit_embeddings
        if prior is Prior.NONE:
            if options.prior_guidance is not None or options.candidates is not None:
                raise InputError(
                    "prior_guidance and candidates mean nothing with prior 'none': leave them out"
                )
            return Embeddings(self.captions, unit)
        if prior not in self.priors:
            known = listed((*self.priors, Prior.NONE))
            raise InputError(f"prior {prior.value!r}: {self.bundle.name} has none, choose {known}")
        if prior is Prior.AR:
            codes = self.bundle.component(AR_PRIOR).codes
            if codes is None:
                raise BundleError(f"bundle {self.bundle.name} does not say how its {AR_PRIOR} draws codes")
            written = Written(self.networks, changed(codes, guidance=options.prior_guidance))
            return Embeddings(self.captions, unit, written, options.candidates or AR_CANDIDATES)
        own = default_sampling(self.bundle, PRIOR)
        sampling = changed(own, guidance=options.prior_guidance, candidates=options.candidates)
        diffused = Diffused(self.networks, self.captions, sampling)
        _ = diffused.steps  # refuses steps that cannot be taken
        return Embeddings(self.captions, unit, diffused, sampling.candidates)

    def decoder(self, options: Options) -> Decoder:
        """The stage that paints; a decoder that was not trained to fill in takes every step several times."""
        sampling = asked_sampling(self.bundle, DECODER, options, options.guidance)
        how = Denoising(self.networks, DECODER, sampling)
        repeating = how.repeating(sampling.steps if self.fills_in else options.steps)
        return Decoder(denoising=how, repeating=repeating, fills_in=self.fills_in, captions=self.captions)

    # --- what can be given, and found ---

    def check(self, options: Options, jobs: Sequence[Job]) -> None:
        width = self.config.embedding
        given = [job.given.embedding for job in jobs if job.given.embedding is not None]
        if wrong := [tuple(one.shape) for one in given if one.shape != (width,)]:
            raise InputError(f"embeddings {wrong}: give one of shape ({width},) for each picture")

    def truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self.captions.clip.truncated(prompts, self.context)

    def lengths(self, prompts: Sequence[str]) -> Sequence[int]:
        return self.captions.clip.lengths(prompts, self.context)

    def inverting(self, inversion: Inversion) -> Inverting:
        decoder = self.decoder(Options())
        _ = decoder.inverting(inversion).steps  # refuses steps that cannot be taken
        return Inverting(decoder, inversion)

    @property
    def principal_components(self) -> tuple[Tensor, Tensor] | None:
        if Prior.AR not in self.priors:
            return None
        codes = cast(ArPrior, self.networks[AR_PRIOR]).codes
        self.networks.let_go(AR_PRIOR)
        return codes.mean, codes.basis
