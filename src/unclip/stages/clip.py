"""CLIP at both ends of a drawing: it reads the captions, and says how well the pictures fit them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from torch import Tensor

from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder, TextRows
from unclip.errors import InputError
from unclip.stages.stage import Batch, Estimate, Stage

CLIP, PROMPT = "clip", "prompt"


@dataclass(frozen=True)
class Captions(Stage):
    """Reads the prompts; each distinct one once, on its own.

    Attributes:
        clip: reads.
        context: tokens of a prompt that are read, its start and end included.
    """

    clip: ClipEmbedder
    context: int
    name, components = PROMPT, (CLIP,)

    def steps(self, jobs: Sequence[Job]) -> int:
        return 1

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        text = self.read([job.text for job in batch.jobs])
        _ = self.nothing  # read while CLIP is there
        yield None
        return replace(batch, text=text)

    def read(self, prompts: Sequence[str]) -> TextRows:
        return self.clip.read(prompts, self.context)

    def lengths(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """The values of `TextRows.lengths`: texts of different lengths are not drawn in one batch."""
        return self.clip.lengths([job.text for job in jobs], self.context)

    @cached_property
    def nothing(self) -> TextRows:
        """The empty caption, which stands for none where a network wants it so."""
        return self.read([""])


@dataclass(frozen=True)
class Scoring(Stage):
    """Scores each picture by its prompt, where it has one, and chooses the best (section 2.6 of 2102.12092).

    Attributes:
        clip: judges; None where the bundle has none that sees pictures.
        best: so many pictures go on, the best first; None is all, in their order.
    """

    clip: ClipEmbedder | None
    best: int | None = None
    name = "scoring"

    @classmethod
    def of(cls, clip: ClipEmbedder | None, options: Options, model: str) -> Scoring:
        """As options ask for. Raises InputError where nothing can choose."""
        sees = clip is not None and clip.sees
        if options.rerank is not None and clip is None:
            raise InputError(f"rerank: {model} has no CLIP that could judge pictures")
        if options.rerank is not None and not sees:
            raise InputError(f"rerank: the CLIP of {model} reads texts alone and cannot judge pictures")
        return cls(clip if sees else None, None if options.rerank is None else options.n)

    @property
    def components(self) -> tuple[str, ...]:
        return () if self.clip is None else (CLIP,)

    def left(self, jobs: Sequence[Job]) -> Sequence[Job]:
        return jobs[: self.best]

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        yield from ()
        scores: list[float | None] = [None] * len(batch)
        if self.clip is not None:
            if batch.text is not None:
                texts = batch.text.embedding  # (B, E)
            else:
                captions = [job.text for job in batch.jobs]
                distinct = list(dict.fromkeys(captions))
                texts = self.clip.embed_texts(distinct)[[distinct.index(caption) for caption in captions]]
            found = self.clip.scores(cast(Tensor, batch.images), texts).tolist()
            scores = [score if job.prompt else None for job, score in zip(batch.jobs, found, strict=True)]
        scored = replace(batch, scores=tuple(scores))
        if self.best is None:
            return scored
        order = sorted(range(len(batch)), key=lambda row: scores[row] or 0.0, reverse=True)
        return scored.rows(order[: self.best])
