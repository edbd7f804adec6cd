"""DALL-E mini and mega: prompt -> codes, one after the other -> picture.

The prompt is read once, for all its pictures; with guidance every step computes the codes' logits with and
without it in one batch. Only glue.

A code is drawn from what rounding leaves of the logits. In float32 a picture is the same alone and in a batch
but for ties; in bfloat16 batches of different sizes round so differently that now and then another code is
drawn, and all that follow it are others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from unclip.bundle import Bundle
from unclip.checkpoints.native import config_from_dict
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.models.code_sampling import CodeSampling, exponential_noise, write_codes
from unclip.models.dalle_mini import DalleMini as Transformer
from unclip.models.dalle_mini import DalleMiniConfig
from unclip.models.vqgan import VQGAN
from unclip.models.vqvae import VQVAE
from unclip.pipeline import ACCELERATOR, PICTURES, Done, Pipeline, Plan, chunks
from unclip.runtime import autocast, noise_generator

PROMPT, CODES = "prompt", "codes"
TRANSFORMER, CODEC = "transformer", "codec"
CACHE_BYTES = 2**30  # of keys and values at a time on a CPU


class DalleMini(Pipeline):
    """A loaded bundle of the family "dalle-mini"."""

    family = "dalle-mini"
    honours = frozenset({"guidance", "temperature", "top_k", "top_p"})
    offloads = True

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=precision)
        self._tokenizer = bundle.tokenizer()
        self._config: DalleMiniConfig = _config(bundle, TRANSFORMER)
        self._context = self._config.text_context
        codec = _config(bundle, CODEC)
        if self._config.vocabulary > codec.vocabulary:
            raise BundleError(
                f"bundle {bundle.name}: its transformer draws {self._config.vocabulary} codes, its codec has "
                f"{codec.vocabulary}"
            )
        self._size: int = self._config.grid * codec.factor

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self._size,)

    # --- plan ---

    def _plan(self, options: Options) -> Plan:
        codes = self.bundle.component(TRANSFORMER).codes
        if codes is None:
            raise BundleError(f"bundle {self.bundle.name} does not say how to draw codes")
        asked = {name: getattr(options, name) for name in self.honours}
        codes = replace(codes, **{name: value for name, value in asked.items() if value is not None})
        if codes.top_k is not None and codes.top_k > self._config.vocabulary:
            raise InputError(f"top_k is {codes.top_k}: there are {self._config.vocabulary} codes")
        settings = {
            "size": str(options.size),
            "guidance": f"{codes.guidance:g}",
            "temperature": f"{codes.temperature:g}",
            "top_k": "all" if codes.top_k is None else str(codes.top_k),
            "top_p": f"{codes.top_p:g}",
        }
        return Plan(options, settings=settings, codes=codes)

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        rests = self._tokenizer.batch(prompts, self._context).truncated
        # of a prompt without a letter that the tokenizer knows, nothing is read at all
        return [
            rest if self._tokenizer.encode(prompt) else prompt
            for prompt, rest in zip(prompts, rests, strict=True)
        ]

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
        budget = CACHE_BYTES if self.device.type == "cpu" else CACHE_BYTES * ACCELERATOR
        return max(1, budget // (2 * values * self.precision.itemsize))  # twice: with and without the prompt

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
        """Draw codes (B, grid, grid). `text` and `mask` are B rows, or B without the prompt before them."""
        model, config = cast(Transformer, self._model(TRANSFORMER)), self._config
        generators = [noise_generator(job.seed, job.index, CODES) for job in jobs]
        noise = exponential_noise(generators, config.vocabulary, self.device)
        drawn = torch.empty(len(jobs), config.codes, dtype=torch.int64, device=self.device)
        with torch.inference_mode(), autocast(self.device, self.precision):
            writing = model.begin(text, mask)

        # inference mode must not span a `yield`: it would hold for whoever reads the events
        def step(last: Tensor | None) -> Tensor:
            with torch.inference_mode(), autocast(self.device, self.precision):
                return model.step(writing, last)

        for i, codes in enumerate(write_codes(step, config.codes, noise, sampling)):
            drawn[:, i] = codes
            yield Done(CODES)
        return drawn.view(-1, config.grid, config.grid)

    def _show(self, codes: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] of codes (B, grid, grid)."""
        codec = cast(VQGAN | VQVAE, self._model(CODEC))
        with torch.inference_mode(), autocast(self.device, self.precision):
            return codec.decode(codes).float().clamp(-1, 1)


def _config(bundle: Bundle, name: str) -> Any:
    """A component's config, without its weights."""
    component = bundle.component(name)
    return config_from_dict(component.kind, component.config, name)
