"""DALL-E mini and mega: prompt -> codes, one after the other -> picture.

The prompt is read once, for all its pictures; with guidance every step computes the codes' logits with and
without it in one batch. Only glue.

A code is drawn from what rounding leaves of the logits. In float32 a picture is the same alone and in a batch
but for ties; in bfloat16 batches of different sizes round so differently that now and then another code is
drawn, and all that follow it are others.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import Bundle
from unclip.drawing import Job, Options
from unclip.errors import UnclipWarning
from unclip.families.codes import (
    CODE_OPTIONS,
    CODEC,
    CODES,
    PROMPT,
    TRANSFORMER,
    CodesPipeline,
    code_settings,
)
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle_mini import DalleMini as Transformer
from unclip.models.dalle_mini import DalleMiniConfig
from unclip.pipeline import PICTURES, Done, Plan, chunks
from unclip.runtime import autocast

SHOWN = 60  # letters of a prompt in a warning


class DalleMini(CodesPipeline):
    """A loaded bundle of the family "dalle-mini"."""

    family = "dalle-mini"
    honours = CODE_OPTIONS
    offloads = True

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self._tokenizer = bundle.tokenizer()
        self._config: DalleMiniConfig = bundle.config(TRANSFORMER)
        self._vocabulary, self._grid = self._config.vocabulary, self._config.grid
        self._context = self._config.text_context
        self._size = self._codec_size(bundle)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self._size,)

    # --- plan ---

    def _plan(self, options: Options) -> Plan:
        codes = self._code_sampling(options)
        return Plan(options, settings=code_settings(options.size, codes), codes=codes)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        for prompt in prompts:
            if not self._tokenizer.encode(prompt):
                message = f"nothing of the prompt {prompt[:SHOWN]!r} is read: {self.bundle.name} knows"
                warnings.warn(f"{message} ASCII letters and emoji", UnclipWarning, stacklevel=5)
        return self._tokenizer.batch(prompts, self._context).truncated

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        for group in groups:
            totals[PROMPT] += 1
            totals[CODES] += self._config.codes * len(chunks(group, self._rows()))
            totals[PICTURES] += len(group)
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        assert plan.codes is not None  # `_plan` made it
        for group in groups:
            text, mask = self._read(["", *(job.prompt for job in group)])
            yield Done(PROMPT)
            for rows in chunks(range(1, len(group) + 1), self._rows()):
                both = [0] * len(rows) + rows if plan.codes.guidance != 1 else rows
                jobs = [group[row - 1] for row in rows]
                codes = yield from self._write(jobs, text[both], mask[both], plan.codes)
                if rows[-1] == len(group):
                    self._let_go(TRANSFORMER)
                for some in chunks(range(len(jobs)), self._chunk(self._size)):
                    images = self._show(codes[some])
                    finished = self._finish([jobs[i] for i in some], images, [None] * len(some), plan)
                    yield Done(PICTURES, images, finished)
            self._let_go(CODEC)

    def _rows(self) -> int:
        """Pictures whose keys and values are held at a time."""
        config = self._config
        values = 2 * config.layers * config.width * (config.codes + config.text_context)
        return self._cache_rows(2 * values * self.precision.itemsize)  # twice: with and without the prompt

    def _read(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features (B, L, D) of prompts, and their masks (B, L). The same prompt is read once."""
        distinct = list(dict.fromkeys(prompts))
        tokens = self._tokenizer.batch(distinct, self._context, full=True).to(self.device)
        with torch.inference_mode(), autocast(self.device, self.precision):
            text = cast(Transformer, self._model(TRANSFORMER)).read(tokens.ids, tokens.mask)
        rows = [distinct.index(prompt) for prompt in prompts]
        return text[rows], tokens.mask[rows]

    def _write(
        self, jobs: Sequence[Job], text: Tensor, mask: Tensor, sampling: CodeSampling
    ) -> Generator[Done, None, Tensor]:
        """Draw codes (B, grid^2). `text` and `mask` are B rows, or B without the prompt before them."""
        model = cast(Transformer, self._model(TRANSFORMER))
        with torch.inference_mode(), autocast(self.device, self.precision):
            writing = model.begin(text, mask)
        return (yield from self._written(jobs, partial(model.step, writing), self._config.codes, sampling))
