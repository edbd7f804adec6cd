"""Pictures written as codes, one after the other, and shown by a codec.

A code is drawn from what rounding leaves of the logits. In float32 a picture is the same alone and in a batch
but for ties; in bfloat16 batches of different sizes round so differently that now and then another code is
drawn, and all that follow it are others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import Bundle
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.given import Upper
from unclip.images import fit_square, to_tensor
from unclip.models.code_sampling import CodeSampling, exponential_noise, write_codes
from unclip.models.dalle1 import Dalle1, Dalle1Config, Writing
from unclip.models.dalle_mini import DalleMini, DalleMiniConfig
from unclip.models.vqgan import VQGAN, VQGANConfig
from unclip.models.vqvae import VQVAE, VQVAEConfig
from unclip.nn.attention import kept_dtype
from unclip.nn.grid_attention import RasterCache
from unclip.runtime import noise_generator
from unclip.stages.clip import PROMPT
from unclip.stages.denoising import changed
from unclip.stages.networks import ACCELERATOR, Networks, generators_of
from unclip.stages.stage import Batch, Estimate, Stage, alike, chunks
from unclip.tokenizer import BytePairTokenizer, Tokenizer

CODES, TRANSFORMER, CODEC = "codes", "transformer", "codec"
CACHE_BYTES = 2**30  # of keys and values at a time on a CPU
ROWS = 64  # pictures that a CPU draws together: more of them are no faster
CAPTION = "caption"  # the stream of noise of written captions
OPTIONS = ("guidance", "temperature", "top_k", "top_p")

Read = dict[tuple[str, ...], Writing]
"""DALL-E 1's begun pictures, by their prompts: chunks of the same prompts share one reading of them."""

Step = Callable[[Tensor | None], Tensor]
"""Logits of the next code from the codes that were drawn last: see `write_codes`."""


@dataclass(frozen=True)
class Dalle1Writer:
    """DALL-E 1's transformer: a prompt is read once for all its pictures.

    With guidance every step computes the codes' logits with and without the prompt in one batch.
    """

    networks: Networks
    tokenizer: Tokenizer
    config: Dalle1Config
    sampling: CodeSampling

    @property
    def model(self) -> Dalle1:
        return cast(Dalle1, self.networks[TRANSFORMER])

    @property
    def at_once(self) -> int:
        config, device = self.config, self.networks.device
        row = RasterCache(
            config.transformer,
            config.patterns,
            2,  # with and without the prompt
            config.text_context,
            config.grid,
            config.kernel,
            device="meta",
            dtype=kept_dtype(device, self.networks.precision),
        )
        most = ROWS if device.type == "cpu" else ROWS * ACCELERATOR
        return self.networks.at_once(min(most, _cached(self.networks, row.bytes)))

    def read(self, jobs: Sequence[Job]) -> Read:
        prompts = tuple(job.text for job in jobs[: self.at_once])
        if any(job.given.upper is not None for job in jobs):
            return {}  # they are read together with the codes that they go on from
        return {prompts: self._begun(prompts, None)}

    def begin(self, read: Read, jobs: Sequence[Job], rows: Sequence[int], upper: Tensor | None) -> Step:
        prompts = tuple(jobs[row].text for row in rows)
        if upper is not None:
            return partial(self.model.step, self._begun(prompts, upper))
        if prompts not in read:
            read.clear()  # keys and values of one chunk are held at a time
            read[prompts] = self._begun(prompts, None)
        elif rows[0] > 0:
            read[prompts].again()
        return partial(self.model.step, read[prompts])

    def _begun(self, prompts: Sequence[str], upper: Tensor | None) -> Writing:
        """Read each distinct prompt, and with guidance none at all, once, with the codes (n,) behind it."""
        distinct, device = list(dict.fromkeys(prompts)), self.networks.device
        rows = [distinct.index(prompt) for prompt in prompts]
        if self.sampling.guidance != 1:
            distinct.append("")
            rows = [len(distinct) - 1] * len(rows) + rows
        tokens = self.tokenizer.batch(distinct, self.config.text_context, full=True).to(device)
        codes = None if upper is None else upper.expand(len(distinct), -1)
        with self.networks.computing():
            return self.model.begin(tokens.ids, tokens.mask, torch.tensor(rows, device=device), codes)

    def complete_caption(self, beginning: str, n: int, seed: int) -> list[str]:
        """Captions written on from a beginning, as of `Model.complete_caption`."""
        if self.sampling.guidance != 1:
            raise InputError(f"guidance {self.sampling.guidance}: captions are written without")
        tokenizer, device = self.tokenizer, self.networks.device
        if not isinstance(tokenizer, BytePairTokenizer):
            raise InputError(f"{self.networks.bundle.name}: its tokenizer cannot turn tokens into text")
        begun = [tokenizer.start, *tokenizer.encode(beginning)]
        most = self.config.text_context - 2  # a token more, and the end
        if len(begun) > most:
            raise InputError(f"the beginning has {len(begun)} tokens: at most {most} leave room")
        impossible = torch.tensor([tokenizer.pad, tokenizer.start], device=device)
        ends: list[list[int]] = []
        for indices in chunks(range(n), self.networks.at_once(n)):
            generators = [noise_generator(seed, index, CAPTION) for index in indices]
            ends += self._complete(begun, generators, impossible)
        whole = [end[: end.index(tokenizer.end)] if tokenizer.end in end else end for end in ends]
        return [tokenizer.decode(begun[1:] + end) for end in whole]

    def _complete(
        self, begun: list[int], generators: Sequence[torch.Generator], impossible: Tensor
    ) -> list[list[int]]:
        """The tokens that follow those that are begun, none of them impossible, one row a generator."""
        device = self.networks.device
        noise = exponential_noise(generators, self.config.text_vocabulary, device)
        with self.networks.computing():
            writing = self.model.begin_text(torch.tensor([begun], device=device), len(generators))

            def step(last: Tensor | None) -> Tensor:
                return self.model.step_text(writing, last).index_fill(1, impossible, -torch.inf)

            room = self.config.text_context - len(begun) - 1
            written = torch.stack(list(write_codes(step, room, noise, self.sampling)), dim=1)
        found: list[list[int]] = written.tolist()
        return found


@dataclass(frozen=True)
class MiniWriter:
    """DALL-E mini's transformer: an encoder reads the prompts, a decoder writes."""

    networks: Networks
    tokenizer: Tokenizer
    config: DalleMiniConfig
    sampling: CodeSampling

    @property
    def model(self) -> DalleMini:
        return cast(DalleMini, self.networks[TRANSFORMER])

    @property
    def at_once(self) -> int:
        config = self.config
        values = 2 * config.layers * config.width * (config.codes + config.text_context)
        # twice: with and without the prompt
        return self.networks.at_once(_cached(self.networks, 2 * values * self.networks.precision.itemsize))

    def read(self, jobs: Sequence[Job]) -> tuple[Tensor, Tensor]:
        """Features (B + 1, L, D) of no prompt and of the prompts, and their masks (B + 1, L)."""
        prompts = ["", *(job.text for job in jobs)]
        distinct = list(dict.fromkeys(prompts))
        tokens = self.tokenizer.batch(distinct, self.config.text_context, full=True).to(self.networks.device)
        with self.networks.computing():
            text = self.model.read(tokens.ids, tokens.mask)
        rows = [distinct.index(prompt) for prompt in prompts]
        return text[rows], tokens.mask[rows]

    def begin(
        self, read: tuple[Tensor, Tensor], jobs: Sequence[Job], rows: Sequence[int], upper: Tensor | None
    ) -> Step:
        text, mask = read
        own = [row + 1 for row in rows]
        both = [0] * len(own) + own if self.sampling.guidance != 1 else own
        with self.networks.computing():
            writing = self.model.begin(text[both], mask[both])
        return partial(self.model.step, writing)


Writer = Dalle1Writer | MiniWriter
"""Writes codes: `read` is of a group's prompts, `begin` of the codes of some of its jobs."""


@dataclass(frozen=True)
class Reading(Stage):
    """Reads the prompts for the writer."""

    writer: Writer
    name, components = PROMPT, (TRANSFORMER,)

    def steps(self, jobs: Sequence[Job]) -> int:
        return 1

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        read = self.writer.read(batch.jobs)
        yield None
        return replace(batch, read=read)


@dataclass(frozen=True)
class Codes(Stage):
    """Writes the codes of pictures, behind those that the codec finds of upper rows that are given."""

    writer: Writer
    codec: Codec
    name, components = CODES, (TRANSFORMER,)

    def settings(self, job: Job) -> dict[str, str]:
        sampling, upper = self.writer.sampling, job.given.upper
        return {
            "guidance": f"{sampling.guidance:g}",
            "temperature": f"{sampling.temperature:g}",
            "top_k": "all" if sampling.top_k is None else str(sampling.top_k),
            "top_p": f"{sampling.top_p:g}",
            **({} if upper is None else {"keep_rows": str(upper.rows)}),
        }

    def steps(self, jobs: Sequence[Job]) -> int:
        return sum(self._count(jobs[rows[0]]) for rows in self.calls(jobs))

    def _count(self, job: Job) -> int:
        """The number of codes that are drawn of a picture."""
        upper = job.given.upper
        return self.writer.config.codes - (0 if upper is None else upper.rows * self.writer.config.grid)

    def calls(self, jobs: Sequence[Job]) -> list[list[int]]:
        return alike([job.given.upper for job in jobs], self.writer.at_once)

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        networks, config = self.writer.networks, self.writer.config
        codes = torch.empty(len(batch), config.codes, dtype=torch.int64, device=networks.device)
        for rows in self.calls(batch.jobs):
            jobs = [batch.jobs[row] for row in rows]
            upper = None if jobs[0].given.upper is None else self.codec.first_rows(jobs[0].given.upper)
            step, count = self.writer.begin(batch.read, batch.jobs, rows, upper), self._count(jobs[0])
            generators = generators_of([(job, CODES) for job in jobs])
            noise = exponential_noise(generators, config.vocabulary, networks.device)
            drawn = [] if upper is None else list(upper.expand(len(jobs), -1).unbind(1))
            for written in write_codes(networks.computing()(step), count, noise, self.writer.sampling):
                drawn.append(written)
                yield None
            codes[rows] = torch.stack(drawn, dim=1)
        return replace(batch, codes=codes)


@dataclass(frozen=True)
class Codec(Stage):
    """Shows grid x grid codes as pictures, `size` px wide, and codes pictures."""

    networks: Networks
    grid: int
    size: int
    at_once: int | None = None
    name, components = CODEC, (CODEC,)

    @classmethod
    def of(cls, networks: Networks, config: Dalle1Config | DalleMiniConfig) -> Codec:
        """Of codes that a transformer draws. Raises BundleError where the two do not fit."""
        bundle = networks.bundle
        codec: VQGANConfig | VQVAEConfig = bundle.config(CODEC)
        if config.vocabulary > codec.vocabulary:
            raise BundleError(
                f"bundle {bundle.name}: its transformer draws {config.vocabulary} codes, its codec has "
                f"{codec.vocabulary}"
            )
        return cls(networks, config.grid, config.grid * codec.factor)

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        yield from ()
        parts = cast(Tensor, batch.codes).split(self.networks.pictures(self.size))
        return replace(batch, images=torch.cat([self.show(part).cpu() for part in parts]))

    def show(self, codes: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] of codes (B, grid^2)."""
        codec = cast(VQGAN | VQVAE, self.networks[CODEC])
        with self.networks.computing():
            return codec.decode(codes.view(-1, self.grid, self.grid)).float().clamp(-1, 1)

    def first_rows(self, upper: Upper) -> Tensor:
        """The codes (rows * grid,) of the upper part of a picture."""
        codec = cast(VQGAN | VQVAE, self.networks[CODEC])
        image = to_tensor(fit_square(upper.image, self.size))[None].to(self.networks.device)
        with self.networks.computing():
            codes: Tensor = codec.encode(image)[0, : upper.rows]  # (rows, grid)
        return codes.flatten()


def sampling_of(bundle: Bundle, vocabulary: int, options: Options) -> CodeSampling:
    """The settings that codes are drawn with: what options ask for, else the bundle's own.

    Raises:
        BundleError: the bundle does not say.
        InputError: more codes to draw from than there are.
    """
    codes = bundle.component(TRANSFORMER).codes
    if codes is None:
        raise BundleError(f"bundle {bundle.name} does not say how to draw codes")
    sampling: CodeSampling = changed(codes, **{name: getattr(options, name) for name in OPTIONS})
    if sampling.top_k is not None and sampling.top_k > vocabulary:
        raise InputError(f"top_k is {sampling.top_k}: there are {vocabulary} codes")
    return sampling


def _cached(networks: Networks, row_bytes: int) -> int:
    """Pictures of which keys and values, so many bytes each, are held at a time."""
    budget = CACHE_BYTES if networks.device.type == "cpu" else CACHE_BYTES * ACCELERATOR
    return max(1, budget // row_bytes)
