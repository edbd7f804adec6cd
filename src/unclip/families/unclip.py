"""unCLIP: caption -> CLIP text embedding -> prior -> CLIP image embedding -> small picture -> larger ones.

Section 2 of 2204.06125. Only glue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.bundle import Bundle, Sampling
from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder, TextRows
from unclip.families.diffusion import DiffusionPipeline, changed, sampled, upsampler_chain
from unclip.models.decoder import Decoder, DecoderCondition, noise_embedding
from unclip.models.prior import DiffusionPrior, PriorCondition
from unclip.pipeline import PICTURES, Done, Plan, chunks

PRIOR_ROWS = 128  # embeddings in one call of the prior

PROMPT, PRIOR, DECODER = "prompt", "prior", "decoder"


class UnCLIP(DiffusionPipeline):
    """A loaded bundle of the family "unclip".

    Attributes:
        clip: CLIP's two encoders, for embeddings and similarities.
    """

    family = "unclip"
    honours = frozenset({"steps", "guidance", "prior_guidance", "sampler", "candidates", "rerank"})

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self.clip = ClipEmbedder.of(bundle, self.device, self.precision)
        self._prior = cast(DiffusionPrior, self._model(PRIOR))
        self._decoder = cast(Decoder, self._model(DECODER))
        self._chain = upsampler_chain(bundle, self._decoder.config.image_size)
        caption = self._decoder.config.caption
        contexts = [self.clip.context, self._prior.config.context, *([caption.context] if caption else [])]
        self._context = min(contexts)

    @property
    def sizes(self) -> tuple[int, ...]:
        drawn = [self._decoder.config.image_size, *self._chain]
        halves = [size // 2 for size in drawn if size // 4 in drawn]
        return tuple(sorted({*drawn, *(half for half in halves if half > 256)}))

    # --- plan ---

    def _plan(self, options: Options) -> Plan:
        prior = changed(self._sampling(PRIOR), guidance=options.prior_guidance, candidates=options.candidates)
        decoder = changed(self._sampling(DECODER), guidance=options.guidance, steps=options.steps)
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
        return Plan(options, {PRIOR: prior, DECODER: decoder}, upsamplers, settings)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self.clip.truncated(prompts, self._context)

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        prior_steps = len(self._schedule(PRIOR, plan.sampling[PRIOR]))
        decoder_steps = len(self._schedule(DECODER, plan.sampling[DECODER]))
        small = self._chunk(self._decoder.config.image_size)
        for group in groups:
            kept = plan.options.n if plan.options.rerank else len(group)
            lengths = self.clip.lengths([job.prompt for job in group], self._context)
            totals[PROMPT] += 1
            totals[PRIOR] += prior_steps * len(_alike(lengths, PRIOR_ROWS // plan.sampling[PRIOR].candidates))
            totals[DECODER] += decoder_steps * len(_alike(lengths, small))
            for name in plan.upsamplers:
                steps = len(self._schedule(name, self._sampling(name)))
                totals[name] += steps * len(chunks(range(kept), self._last_chunk(plan)))
            totals[PICTURES] += kept
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        for group in groups:
            text = self.clip.read([job.prompt for job in group], self._context)
            yield Done(PROMPT)
            embeddings = yield from self._imagine(group, text, plan.sampling[PRIOR])  # (B, E)
            small = yield from self._paint(group, text, embeddings, plan.sampling[DECODER])  # (B, 3, S, S)
            scores = self.clip.scores(small, text.embedding)  # (B,)
            order = list(range(len(group)))
            if plan.options.rerank is not None:
                order = scores.argsort(descending=True, stable=True)[: plan.options.n].tolist()
            for chunk in chunks(order, self._last_chunk(plan)):
                jobs = [group[i] for i in chunk]
                images = small[chunk]
                for name in plan.upsamplers:
                    images = yield from self._enlarge(name, jobs, images)
                pictures = self._finish(jobs, images, scores[chunk].tolist(), plan)
                yield Done(PICTURES, images, pictures)

    def _imagine(
        self, jobs: Sequence[Job], text: TextRows, sampling: Sampling
    ) -> Generator[Done, None, Tensor]:
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
            x = yield from sampled(PRIOR, guided, sampling, noise, show=False)
            drawn = F.normalize(self._prior.whitening.unwhiten(x), dim=-1)
            drawn = drawn.view(len(rows), candidates, -1)  # (B, C, E)
            wanted = several.embedding.view(len(rows), candidates, -1)
            best = (drawn * wanted).sum(-1).argmax(1)  # (B,)
            chosen[rows] = drawn[torch.arange(len(rows)), best]
        return chosen

    def _paint(
        self, jobs: Sequence[Job], text: TextRows, embeddings: Tensor, sampling: Sampling
    ) -> Generator[Done, None, Tensor]:
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
            x = yield from sampled(DECODER, guided, sampling, noise)
            drawn[rows] = x.clamp(-1, 1)
        return drawn


def _alike(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions of texts in batches of at most `size` of one length each; see `embedding.PADDED_TO`."""
    positions: dict[int, list[int]] = {}
    for position, length in enumerate(lengths):
        positions.setdefault(length, []).append(position)
    return [chunk for alike in positions.values() for chunk in chunks(alike, size)]
