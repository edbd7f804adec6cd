"""DALL-E 1: prompt -> codes, one after the other -> picture -> (with upsamplers) larger ones.

A prompt is read once for all its pictures; with guidance every step computes the codes' logits with and
without it in one batch. CLIP scores the pictures and, asked to, picks the best (section 2.6 of 2102.12092).

A code is drawn from what rounding leaves of the logits. In float32 a picture is the same alone and in a batch
but for ties; in bfloat16 batches of different sizes round so differently that now and then another code is
drawn, and all that follow it are others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder
from unclip.errors import BundleError, InputError
from unclip.families.codes import (
    CODE_OPTIONS,
    CODEC,
    CODES,
    PROMPT,
    TRANSFORMER,
    CodesPipeline,
    code_settings,
)
from unclip.families.diffusion import DiffusionPipeline, upsampler_chain
from unclip.images import fit_square, to_tensor
from unclip.models.code_sampling import CodeSampling, exponential_noise, write_codes
from unclip.models.dalle1 import Dalle1 as Transformer
from unclip.models.dalle1 import Dalle1Config, Writing
from unclip.models.vqgan import VQGAN
from unclip.models.vqvae import VQVAE
from unclip.nn.attention import kept_dtype
from unclip.nn.grid_attention import RasterCache
from unclip.nn.int8 import with_int8_weights
from unclip.pipeline import ACCELERATOR, PICTURES, Done, Plan, chunks
from unclip.runtime import autocast, noise_generator
from unclip.tokenizer import BytePairTokenizer

ROWS = 64  # pictures that a CPU draws together: more of them are no faster
INT8 = "int8"
CAPTION = "caption"  # the stream of noise of written captions


@dataclass(frozen=True, kw_only=True)
class Dalle1Plan(Plan):
    """With `given`, the codes (n,) that every picture begins with."""

    given: Tensor | None = None


class Dalle1(CodesPipeline, DiffusionPipeline):
    """A loaded bundle of the family "dalle1".

    Beside the precisions of all families there is "int8": the transformer's weights in eight bits, for fewer
    bytes a code; products are in the device's own precision.

    Attributes:
        clip: scores pictures; None where the bundle has none.
    """

    family = "dalle1"
    honours = CODE_OPTIONS | {"rerank", "start", "keep_rows"}

    def __init__(self, bundle: Bundle, *, device: str | None = None, precision: str | None = None) -> None:
        super().__init__(bundle, device=device, precision=None if precision == INT8 else precision)
        self._int8 = precision == INT8
        scored = "clip" in bundle.components
        self.clip = ClipEmbedder.of(bundle, self.device, self.precision) if scored else None
        self._tokenizer = bundle.tokenizer()
        config: Dalle1Config = bundle.config(TRANSFORMER)
        if self._tokenizer.vocabulary > config.text_vocabulary:
            raise BundleError(f"bundle {bundle.name}: tokenizer and transformer do not fit each other")
        self._config = config
        self._vocabulary, self._grid = config.vocabulary, config.grid
        self._context = config.text_context
        self._first = self._codec_size(bundle)
        self._chain = upsampler_chain(bundle, self._first)

    def _ready(self, name: str, model: nn.Module) -> nn.Module:
        return with_int8_weights(model) if name == TRANSFORMER and self._int8 else super()._ready(name, model)

    # --- plan ---

    def _plan(self, options: Options) -> Dalle1Plan:
        if options.rerank is not None and self.clip is None:
            raise InputError(f"rerank: {self.bundle.name} has no CLIP that could judge pictures")
        codes = self._code_sampling(options)
        upsamplers = self._upsamplers(options.size)
        for name in (TRANSFORMER, CODEC, *upsamplers):
            self._model(name)  # is its file there and whole? Now, and not after the drawing
        settings = code_settings(options.size, codes)
        given = None
        if options.start is not None:
            assert options.keep_rows is not None  # `Options` wants both or none
            given = self._first_rows(options.start, options.keep_rows)
            settings["keep_rows"] = str(options.keep_rows)
        return Dalle1Plan(options, upsamplers=upsamplers, settings=settings, codes=codes, given=given)

    def _first_rows(self, start: Image.Image, rows: int) -> Tensor:
        """The codes (rows * grid,) of the upper part of a picture."""
        if rows >= self._grid:
            raise InputError(f"keep_rows is {rows}: the picture has {self._grid} rows of codes, keep fewer")
        codec = cast(VQGAN | VQVAE, self._model(CODEC))
        image = to_tensor(fit_square(start, self._first))[None].to(self.device)  # (1, 3, S, S)
        with torch.inference_mode(), autocast(self.device, self.precision):
            codes: Tensor = codec.encode(image)[0, :rows]  # (rows, grid)
        return codes.flatten()

    def _truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self._tokenizer.batch(prompts, self._context).truncated

    # --- work ---

    def _totals(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Counter[str]:
        totals: Counter[str] = Counter()
        given = cast(Dalle1Plan, plan).given
        count = self._config.codes - (0 if given is None else len(given))
        for group in groups:
            kept = plan.options.n if plan.options.rerank else len(group)
            totals[PROMPT] += 1
            totals[CODES] += count * len(chunks(group, self._rows()))
            for name in plan.upsamplers:
                steps = len(self._schedule(name, self._sampling(name)))
                totals[name] += steps * len(chunks(range(kept), self._last_chunk(plan)))
            totals[PICTURES] += kept
        return totals

    def _work(self, groups: Sequence[Sequence[Job]], plan: Plan) -> Iterator[Done]:
        for group in groups:
            small = yield from self._paint(group, cast(Dalle1Plan, plan))  # (B, 3, S, S) on the CPU
            scores: list[float | None] = [None] * len(group)
            if self.clip is not None:
                distinct = list(dict.fromkeys(job.prompt for job in group))
                texts = self.clip.embed_texts(distinct)[[distinct.index(job.prompt) for job in group]]
                scores = self.clip.scores(small, texts).tolist()
            order = list(range(len(group)))
            if plan.options.rerank is not None:
                order = sorted(order, key=lambda i: scores[i] or 0.0, reverse=True)[: plan.options.n]
            for chunk in chunks(order, self._last_chunk(plan)):
                jobs = [group[i] for i in chunk]
                images = small[chunk].to(self.device)
                for name in plan.upsamplers:
                    images = yield from self._enlarge(name, jobs, images)
                finished = self._finish(jobs, images, [scores[i] for i in chunk], plan)
                yield Done(PICTURES, images, finished)

    def _rows(self) -> int:
        """Pictures that are drawn together."""
        config = self._config
        row = RasterCache(
            config.transformer,
            config.patterns,
            2,  # with and without the prompt
            config.text_context,
            config.grid,
            config.kernel,
            device="meta",
            dtype=kept_dtype(self.device, self.precision),
        )
        most = ROWS if self.device.type == "cpu" else ROWS * ACCELERATOR
        return min(most, self._cache_rows(row.bytes))

    def _paint(self, group: Sequence[Job], plan: Dalle1Plan) -> Generator[Done, None, Tensor]:
        """Draw a group's small pictures. Chunks of the same prompts share one reading of them."""
        assert plan.codes is not None  # `_plan` made it
        model = cast(Transformer, self._model(TRANSFORMER))
        given = plan.given
        count = self._config.codes - (0 if given is None else len(given))
        prompts: list[str] = []
        writing: Writing | None = None
        images: list[Tensor] = []
        for jobs in chunks(group, self._rows()):
            if writing is not None and given is None and prompts == [job.prompt for job in jobs]:
                writing.again()
            else:
                prompts = [job.prompt for job in jobs]
                writing = self._begin(model, prompts, plan.codes, given)
            if not images:
                yield Done(PROMPT)
            codes = yield from self._written(jobs, partial(model.step, writing), count, plan.codes)
            if given is not None:
                codes = torch.cat([given.expand(len(jobs), -1), codes], dim=1)
            images += [self._show(some).cpu() for some in codes.split(self._chunk(self._first))]
        return torch.cat(images)

    def _begin(
        self, model: Transformer, prompts: Sequence[str], sampling: CodeSampling, given: Tensor | None
    ) -> Writing:
        """Read each distinct prompt, and with guidance none at all, once."""
        distinct = list(dict.fromkeys(prompts))
        rows = [distinct.index(prompt) for prompt in prompts]
        if sampling.guidance != 1:
            distinct.append("")
            rows = [len(distinct) - 1] * len(rows) + rows
        tokens = self._tokenizer.batch(distinct, self._context, full=True).to(self.device)
        codes = None if given is None else given.expand(len(distinct), -1)
        with torch.inference_mode(), autocast(self.device, self.precision):
            return model.begin(tokens.ids, tokens.mask, torch.tensor(rows, device=self.device), codes)

    # --- captions ---

    def complete_caption(
        self, beginning: str = "", n: int = 1, seed: int = 0, sampling: CodeSampling | None = None
    ) -> list[str]:
        """Write captions on: the model knows texts as well as pictures (section 2 of 2102.12092).

        Args:
            beginning: what all captions begin with.
            n: captions, 1 to 100.
            seed: caption k of a seed is the same whatever n is, in float32.
            sampling: temperature, top_k and top_p; guidance is none.

        Raises:
            InputError: a number outside its range, guidance, or a beginning that leaves no room.
        """
        options = Options(n=n, seed=seed)
        sampling = sampling or CodeSampling()
        if sampling.guidance != 1:
            raise InputError(f"guidance {sampling.guidance}: captions are written without")
        tokenizer, model = self._tokenizer, cast(Transformer, self._model(TRANSFORMER))
        if not isinstance(tokenizer, BytePairTokenizer):
            raise InputError(f"{self.bundle.name}: its tokenizer cannot turn tokens into text")
        begun = [tokenizer.start, *tokenizer.encode(beginning)]
        room = self._context - len(begun) - 1
        if room < 1:
            raise InputError(f"the beginning has {len(begun)} tokens: at most {self._context - 2} leave room")
        generators = [noise_generator(seed, index, CAPTION) for index in range(options.n)]
        noise = exponential_noise(generators, self._config.text_vocabulary, self.device)
        with torch.inference_mode(), autocast(self.device, self.precision):
            writing = model.begin_text(torch.tensor([begun], device=self.device), options.n)
            impossible = torch.zeros_like(writing.first)
            impossible[:, [tokenizer.pad, tokenizer.start]] = -torch.inf

            def step(last: Tensor | None) -> Tensor:
                return impossible + model.step_text(writing, last)

            ends = torch.stack(list(write_codes(step, room, noise, sampling)), dim=1).tolist()
        return [tokenizer.decode(begun[1:] + _before(end, tokenizer.end)) for end in ends]


def _before(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
