"""GLIDE: a caption -> a small picture -> a larger one, guided by the empty caption or by a noised CLIP.

Section 2 of 2112.10741, drawn as glide-text2im's notebooks draw; trained here, unCLIP's upsamplers may
follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from unclip.diffusion.defaults import Sampling
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError, listed
from unclip.families import Family
from unclip.given import Kind, Known
from unclip.models.glide import GlideConfig
from unclip.stages.captioned import BASE, CLIP, CLIP_TOKENIZER, INPAINT, Captioned, Reading
from unclip.stages.denoising import Denoising, asked_sampling, default_sampling
from unclip.stages.networks import Form, Networks
from unclip.stages.stage import Stage
from unclip.stages.upsampler import Upsampler, chain_of, needed, sizes_of


class Glide(Family):
    """Where a network was trained to fill in beside one that was not, it draws what has known pixels."""

    honours = frozenset({"steps", "guidance", "sampler", "clip_guidance", "init", "strength", "fit", "style"})
    takes = frozenset({Kind.PICTURE, Kind.KNOWN})
    apart = True
    forms: ClassVar = {CLIP: Form.PLAIN}

    def __init__(self, networks: Networks) -> None:
        super().__init__(networks)
        bundle = self.bundle = networks.bundle
        self.tokenizer = bundle.tokenizer()
        self.config: GlideConfig = bundle.config(BASE)
        self.context = self.config.caption.context
        if self.tokenizer.vocabulary != self.config.caption.vocabulary:
            raise BundleError(f"bundle {bundle.name}: tokenizer and model do not fit each other")
        own: dict[str, GlideConfig] = {
            name: bundle.config(name)
            for name, component in bundle.components.items()
            if component.kind == "glide" and name != BASE and not name.endswith(INPAINT)
        }
        sizes = {name: (config.low_size or 0, config.image_size) for name, config in own.items()}
        self.chain = chain_of(bundle, self.config.image_size, sizes)
        self.sizes = sizes_of(self.config.image_size, self.chain)

    def stages(self, options: Options, jobs: Sequence[Job]) -> tuple[Stage, ...]:
        fills = jobs[0].given.known is not None
        base = self.first(options, fills)
        larger = needed(self.config.image_size, self.chain, options.size)
        at_once = self.networks.pictures(max(larger, default=self.config.image_size))
        return (base.reading, base, *(self._upsampler(name, fills, at_once) for name in larger.values()))

    def first(self, options: Options, fills: bool) -> Captioned:
        scale = options.clip_guidance or 0.0
        if scale and CLIP not in self.bundle.components:
            raise InputError(
                f"clip_guidance needs a noised CLIP, which {self.bundle.name} lacks: leave it out"
            )
        # GLIDE guides by one or the other: with CLIP the empty caption comes in only if it is asked for
        guidance = 1.0 if scale and options.guidance is None else options.guidance
        name, cut = self._component(BASE, fills), None
        if scale:
            own = CLIP_TOKENIZER in self.bundle.components
            cut = self.bundle.tokenizer(CLIP_TOKENIZER) if own else self.tokenizer
        stage = self._captioned(name, asked_sampling(self.bundle, name, options, guidance))
        return replace(stage, scale=scale, cut=cut)

    def _upsampler(self, name: str, fills: bool, at_once: int) -> Stage:
        if self.bundle.component(name).kind == "upsampler":
            return Upsampler.of(self.networks, name, at_once)
        name = self._component(name, fills)
        stage = self._captioned(name, default_sampling(self.bundle, name))
        return replace(stage, enlarges=True, at_once=at_once)

    def _captioned(self, name: str, sampling: Sampling) -> Captioned:
        how, config = Denoising(self.networks, name, sampling), self.bundle.config(name)
        reading = Reading(self.networks, self.tokenizer, name)
        return Captioned(denoising=how, fills_in=config.fills_in, reading=reading)

    def _component(self, name: str, fills: bool) -> str:
        """The component that does a stage: to fill in, the one trained for it where there are both."""
        filling = f"{name}{INPAINT}"
        return filling if fills and filling in self.bundle.components else name

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
        side, drawn = known.image.width, (self.config.image_size, *self.chain)
        if side not in drawn:
            raise InputError(f"a picture to fill in of {side} px: give S x S, S one of {listed(drawn)}")
        if known.rounds not in (None, 1):
            raise InputError(
                f"rounds is {known.rounds}: {self.bundle.name} takes each step once, so leave it out"
            )

    def truncated(self, prompts: Sequence[str]) -> Sequence[str | None]:
        return self.tokenizer.batch(prompts, self.context).truncated

    @property
    def fills_in(self) -> bool:
        return self.config.fills_in or f"{BASE}{INPAINT}" in self.bundle.components
