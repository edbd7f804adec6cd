"""What the families share that draw a picture as codes, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.models.code_sampling import CodeSampling, exponential_noise, write_codes
from unclip.models.vqgan import VQGAN, VQGANConfig
from unclip.models.vqvae import VQVAE, VQVAEConfig
from unclip.nn.packed import can_pack, with_packed_weights
from unclip.pipeline import ACCELERATOR, Done, Pipeline
from unclip.runtime import autocast, noise_generator

PROMPT, CODES = "prompt", "codes"
TRANSFORMER, CODEC = "transformer", "codec"
CACHE_BYTES = 2**30  # of keys and values at a time on a CPU
CODE_OPTIONS = frozenset({"guidance", "temperature", "top_k", "top_p"})


class CodesPipeline(Pipeline):
    """A family with a transformer that draws codes, and a codec that makes a picture of them."""

    _vocabulary: int  # codes that the transformer draws from
    _grid: int  # codes along each side of the picture

    def _ready(self, name: str, model: nn.Module) -> nn.Module:
        if name == TRANSFORMER and can_pack(self.device, self.precision):
            return with_packed_weights(model, few_rows=True)
        return super()._ready(name, model)

    def _codec_size(self, bundle: Bundle) -> int:
        """Side in pixels of what the codec makes of the grid. Raises BundleError where they do not fit."""
        codec: VQGANConfig | VQVAEConfig = bundle.config(CODEC)
        if self._vocabulary > codec.vocabulary:
            raise BundleError(
                f"bundle {bundle.name}: its transformer draws {self._vocabulary} codes, its codec has "
                f"{codec.vocabulary}"
            )
        return self._grid * codec.factor

    def _code_sampling(self, options: Options) -> CodeSampling:
        """How codes are drawn: what was asked for, and else the bundle's own way."""
        codes = self.bundle.component(TRANSFORMER).codes
        if codes is None:
            raise BundleError(f"bundle {self.bundle.name} does not say how to draw codes")
        asked = {name: getattr(options, name) for name in CODE_OPTIONS}
        codes = replace(codes, **{name: value for name, value in asked.items() if value is not None})
        if codes.top_k is not None and codes.top_k > self._vocabulary:
            raise InputError(f"top_k is {codes.top_k}: there are {self._vocabulary} codes")
        return codes

    def _cache_rows(self, row_bytes: int) -> int:
        """Pictures of which keys and values, so many bytes each, are held at a time."""
        budget = CACHE_BYTES if self.device.type == "cpu" else CACHE_BYTES * ACCELERATOR
        return max(1, budget // row_bytes)

    def _written(
        self, jobs: Sequence[Job], step: Callable[[Tensor | None], Tensor], count: int, sampling: CodeSampling
    ) -> Generator[Done, None, Tensor]:
        """Draw `count` codes of each picture, (B, count); `step` as of `write_codes`."""

        # inference mode must not span a `yield`: it would hold for whoever reads the events
        def known(last: Tensor | None) -> Tensor:
            with torch.inference_mode(), autocast(self.device, self.precision):
                return step(last)

        generators = [noise_generator(job.seed, job.index, CODES) for job in jobs]
        noise = exponential_noise(generators, self._vocabulary, self.device)
        drawn = []
        for codes in write_codes(known, count, noise, sampling):
            drawn.append(codes)
            yield Done(CODES)
        return torch.stack(drawn, dim=1)

    def _show(self, codes: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] of codes (B, grid^2)."""
        codec = cast(VQGAN | VQVAE, self._model(CODEC))
        with torch.inference_mode(), autocast(self.device, self.precision):
            return codec.decode(codes.view(-1, self._grid, self._grid)).float().clamp(-1, 1)


def code_settings(size: int, codes: CodeSampling) -> dict[str, str]:
    """What the pictures' metadata say of how they were drawn."""
    return {
        "size": str(size),
        "guidance": f"{codes.guidance:g}",
        "temperature": f"{codes.temperature:g}",
        "top_k": "all" if codes.top_k is None else str(codes.top_k),
        "top_p": f"{codes.top_p:g}",
    }
