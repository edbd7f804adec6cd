"""Captions as CLIP reads them: a text embedding, and features of every token."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from unclip.drawing import Job
from unclip.embedding import ClipEmbedder, TextRows
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, Estimate, Stage

CLIP, PROMPT = "clip", "prompt"


@dataclass(frozen=True)
class Captions(Stage):
    """Reads the prompts; each distinct one once, on its own.

    Attributes:
        networks: of the bundle.
        clip: reads.
        context: tokens of a prompt that are read, its start and end included.
    """

    networks: Networks
    clip: ClipEmbedder
    context: int
    name = PROMPT

    @property
    def components(self) -> tuple[str, ...]:
        return (CLIP,)

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
