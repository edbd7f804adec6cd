"""GLIDE: a caption -> a small picture -> a larger one, guided by the empty caption or by a noised CLIP.

Section 2 of 2112.10741, drawn as glide-text2im's notebooks draw; trained here, unCLIP's upsamplers may
follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError, listed
from unclip.families import Family
from unclip.given import Kind, Known
from unclip.models.glide import GlideConfig
from unclip.stages.captioned import BASE, CLIP, CLIP_TOKENIZER, Captioned, Reading
from unclip.stages.denoising import Denoising, asked_sampling
from unclip.stages.networks import Form, Networks
from unclip.stages.painting import INPAINT
from unclip.stages.stage import Stage
from unclip.stages.upsampler import Chain
from unclip.tokenizer import Tokenizer


class Glide(Family):
    """Where a network was trained to fill in beside one that was not, it draws what has known pixels."""

    honours = frozenset({"steps", "guidance", "sampler", "clip_guidance", "init", "strength", "fit", "style"})
    takes = frozenset({Kind.PICTURE, Kind.KNOWN})
    apart = True
    forms: ClassVar = {CLIP: Form.PLAIN}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        bundle = self.bundle
        self.tokenizer: Tokenizer = bundle.tokenizer()
        self.config: GlideConfig = bundle.config(BASE)
        self.context = self.config.caption.context
        if self.tokenizer.vocabulary != self.config.caption.vocabulary:
            raise BundleError(f"bundle {bundle.name}: tokenizer and model do not fit each other")
        self.chain = Chain.of(networks, self.config.image_size, BASE)
        self.sizes = self.chain.sizes
        self.fills_in = self.config.fills_in or f"{BASE}{INPAINT}" in bundle.components

    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        fills = jobs[0].given.known is not None
        scale = options.clip_guidance or 0.0
        if scale and CLIP not in self.bundle.components:
            raise InputError(
                f"clip_guidance needs a noised CLIP, which {self.bundle.name} lacks: leave it out"
            )
        # GLIDE guides by one or the other: with CLIP the empty caption comes in only if it is asked for
        guidance = 1.0 if scale and options.guidance is None else options.guidance
        own = CLIP_TOKENIZER in self.bundle.components
        cut = self.bundle.tokenizer(CLIP_TOKENIZER) if scale and own else self.tokenizer
        base = replace(self._captioned(BASE, fills, options, guidance), scale=scale, cut=cut)

        def larger(name: str, at_once: int) -> Stage:
            return replace(self._captioned(name, fills, Options()), enlarges=True, at_once=at_once)

        return (base.reading, base, *self.chain.stages(options.size, larger))

    def _captioned(
        self, name: str, fills: bool, options: Options, guidance: float | None = None
    ) -> Captioned:
        """The stage of a component: to fill in, of the one trained for it where there are both."""
        if fills and f"{name}{INPAINT}" in self.bundle.components:
            name = f"{name}{INPAINT}"
        how = Denoising(self.networks, name, asked_sampling(self.bundle, name, options, guidance))
        fills_in, reading = self.bundle.config(name).fills_in, Reading(self.networks, self.tokenizer, name)
        return Captioned(denoising=how, fills_in=fills_in, reading=reading, cut=self.tokenizer)

    # --- what can be given ---

    def check(self, options: Options, jobs: Sequence[Job]) -> None:
        for known in {id(job.given.known): job.given.known for job in jobs if job.given.known}.values():
            self.check_known(known)

    def check_known(self, known: Known) -> None:
        if not self.fills_in:
            raise InputError(
                f"{self.bundle.name} has no component that was trained to fill in: convert GLIDE's "
                "base_inpaint.pt and upsample_inpaint.pt with the others"
            )
        side, drawn = known.image.width, (self.config.image_size, *self.chain.names)
        if side not in drawn:
            raise InputError(f"a picture to fill in of {side} px: give S x S, S one of {listed(drawn)}")
        if known.rounds not in (None, 1):
            raise InputError(
                f"rounds is {known.rounds}: {self.bundle.name} takes each step once, so leave it out"
            )
