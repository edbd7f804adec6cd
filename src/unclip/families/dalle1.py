"""DALL-E 1: prompt -> codes, one after the other -> picture -> (with upsamplers) larger ones (2102.12092).

CLIP scores the pictures and, asked to, picks the best of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from unclip.drawing import Job, Options
from unclip.embedding import ClipEmbedder
from unclip.errors import BundleError, InputError
from unclip.families import Family
from unclip.given import Kind
from unclip.models.code_sampling import CodeSampling
from unclip.models.dalle1 import Dalle1Config
from unclip.stages.clip import CLIP, Scoring
from unclip.stages.codes import OPTIONS, TRANSFORMER, Codec, Codes, Dalle1Writer, Reading, sampling_of
from unclip.stages.networks import Form, Networks
from unclip.stages.stage import Stage
from unclip.stages.upsampler import Chain
from unclip.tokenizer import Tokenizer


class Dalle1(Family):
    """Beside the precisions of all families there is "int8": the transformer's weights in eight bits."""

    honours = frozenset({*OPTIONS, "rerank", "start", "keep_rows", "style"})
    takes = frozenset({Kind.UPPER})
    forms: ClassVar = {TRANSFORMER: Form.FEW_ROWS, CLIP: Form.PLAIN}  # a score keeps its bits

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        bundle = self.bundle
        if CLIP in bundle.components:
            self.clip = ClipEmbedder.of(
                bundle, networks.device, networks.precision, lambda: networks[CLIP], exact=networks.exact
            )
        self.tokenizer: Tokenizer = bundle.tokenizer()
        self.config: Dalle1Config = bundle.config(TRANSFORMER)
        if self.tokenizer.vocabulary > self.config.text_vocabulary:
            raise BundleError(f"bundle {bundle.name}: tokenizer and transformer do not fit each other")
        self.context = self.config.text_context
        self.codec = Codec.of(networks, self.config)
        self.chain = Chain.of(networks, self.codec.size)
        self.sizes = self.chain.sizes

    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        scoring = Scoring.of(self.clip, options, self.bundle.name)
        writer = self._writer(sampling_of(self.bundle, self.config.vocabulary, options))
        first = (Reading(writer), Codes(writer, self.codec), self.codec, scoring)
        return (*first, *self.chain.stages(options.size))

    def check(self, options: Options, jobs: Sequence[Job]) -> None:
        most = max((job.given.upper.rows for job in jobs if job.given.upper is not None), default=0)
        if most >= self.config.grid:
            raise InputError(
                f"keep_rows is {most}: the picture has {self.config.grid} rows of codes, keep fewer"
            )

    def complete_caption(self, beginning: str, n: int, seed: int, sampling: CodeSampling) -> list[str]:
        return self._writer(sampling).complete_caption(beginning, n, seed)

    def _writer(self, sampling: CodeSampling) -> Dalle1Writer:
        return Dalle1Writer(self.networks, self.tokenizer, self.config, sampling)
