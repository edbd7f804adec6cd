"""Pictures scored by CLIP, and the best of many chosen (section 2.6 of 2102.12092)."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor

from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder
from unclip.errors import InputError
from unclip.stages.captions import CLIP
from unclip.stages.stage import Batch, Estimate, Stage


@dataclass(frozen=True)
class Scoring(Stage):
    """Says how well each picture fits its prompt, where there is a prompt and a CLIP that sees pictures.

    Attributes:
        clip: judges; None where the bundle has none.
        best: so many pictures go on, the best first; None is all, in their order.
    """

    clip: ClipEmbedder | None
    best: int | None = None
    name = "scoring"

    @classmethod
    def of(cls, clip: ClipEmbedder | None, options: Options, model: str) -> Scoring:
        """As options ask for. Raises InputError where nothing can choose."""
        if options.rerank is not None and clip is None:
            raise InputError(f"rerank: {model} has no CLIP that could judge pictures")
        if options.rerank is not None and clip is not None and not clip.sees:
            raise InputError(f"rerank: the CLIP of {model} reads texts alone and cannot judge pictures")
        return cls(clip, None if options.rerank is None else options.n)

    @property
    def components(self) -> tuple[str, ...]:
        return () if self.clip is None or not self.clip.sees else (CLIP,)

    def left(self, jobs: Sequence[Job]) -> Sequence[Job]:
        return jobs[: self.best]

    def steps(self, jobs: Sequence[Job]) -> int:
        return 0

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        yield from ()
        scores: list[float | None] = [None] * len(batch)
        if self.clip is not None and self.clip.sees:
            found = self.clip.scores(cast(Tensor, batch.images), self._texts(batch)).tolist()
            scores = [score if job.prompt else None for job, score in zip(batch.jobs, found, strict=True)]
        scored = replace(batch, scores=tuple(scores))
        if self.best is None:
            return scored
        order = sorted(range(len(batch)), key=lambda row: scores[row] or 0.0, reverse=True)
        return scored.rows(order[: self.best])

    def _texts(self, batch: Batch) -> Tensor:
        """Embeddings (B, E) of the prompts."""
        if batch.text is not None:
            return batch.text.embedding
        assert self.clip is not None
        prompts = [job.text for job in batch.jobs]
        distinct = list(dict.fromkeys(prompts))
        return self.clip.embed_texts(distinct)[[distinct.index(prompt) for prompt in prompts]]
