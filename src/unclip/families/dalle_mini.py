"""DALL-E mini and mega: prompt -> codes, one after the other -> picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from unclip.drawing import Job, Options
from unclip.errors import warn
from unclip.families import Family
from unclip.models.dalle_mini import DalleMiniConfig
from unclip.stages.codes import OPTIONS, TRANSFORMER, Codec, Codes, MiniWriter, Reading, sampling_of
from unclip.stages.networks import Form, Networks
from unclip.stages.stage import Stage
from unclip.tokenizer import Tokenizer

SHOWN = 60  # letters of a prompt in a warning


class DalleMini(Family):
    """Draws one size, and reads ASCII alone."""

    honours = frozenset({*OPTIONS, "style"})
    forms: ClassVar = {TRANSFORMER: Form.FEW_ROWS}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        self.tokenizer: Tokenizer = self.bundle.tokenizer()
        self.config: DalleMiniConfig = self.bundle.config(TRANSFORMER)
        self.context = self.config.text_context
        codec = Codec.of(networks, self.config)
        self.sizes = (codec.size,)
        self.codec = replace(codec, at_once=networks.pictures(codec.size))

    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        sampling = sampling_of(self.bundle, self.config.vocabulary, options)
        writer = MiniWriter(self.networks, self.tokenizer, self.config, sampling)
        return (Reading(writer), Codes(writer, self.codec), self.codec)

    def truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        for prompt in prompts:
            if not self.tokenizer.encode(prompt):
                message = f"nothing of the prompt {prompt[:SHOWN]!r} is read: {self.bundle.name} knows"
                warn(f"{message} ASCII letters and emoji")
        return super().truncated(prompts)
