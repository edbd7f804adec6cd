"""Small pictures to larger ones: unCLIP's upsamplers (section 2.1 of 2204.06125), of any family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import LAST_STEP, Bundle
from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.errors import BundleError, listed
from unclip.stages import known
from unclip.stages.denoising import Denoising, default_sampling
from unclip.stages.networks import Networks
from unclip.stages.painting import Painting
from unclip.stages.stage import Batch


@dataclass(frozen=True, kw_only=True)
class Upsampler(Painting):
    """Paints pictures larger; pixels that are known it is held to, so that what it paints meets them."""

    enlarges: bool = True

    @classmethod
    def of(cls, networks: Networks, name: str, at_once: int | None = None) -> Upsampler:
        """The component `name`. Raises BundleError where the bundle does not say how to sample it."""
        denoising = Denoising(networks, name, default_sampling(networks.bundle, name))
        return cls(denoising=denoising, at_once=at_once)

    @property
    def components(self) -> tuple[str, ...]:
        last = f"{self.name}{LAST_STEP}"
        return (self.name, last) if last in self.networks.bundle.components else (self.name,)

    def side(self, low: Tensor | None) -> int:
        size: int = cast(Tensor, low).shape[-1] * self.config.scale
        return size

    def conditioned(self, batch: Batch, how: Denoising) -> Denoiser:
        low = known.pasted(batch.jobs, cast(Tensor, batch.images).to(self.networks.device))
        at_once = self.networks.grids(self.side(low) // self.config.patch)

        def given(component: str) -> Denoiser:
            def network(x: Tensor, label: Tensor) -> Tensor:
                model = self.networks[component]
                parts = zip(x.split(at_once), label.split(at_once), low.split(at_once), strict=True)
                return torch.cat([model(*part) for part in parts])

            return how.denoiser(network)

        inner = given(self.name)
        if len(self.components) > 1:
            inner = self._with_last_step(inner, given(self.components[1]))
        return how.limited(inner)

    def _with_last_step(self, first: Denoiser, last: Denoiser) -> Denoiser:
        """The component itself takes all steps but the last."""

        def function(x: Tensor, i: int) -> Denoised:
            if i > 0:
                return first(x, i)
            self.networks.let_go(self.name)
            return last(x, i)

        return Denoiser(first.schedule, function)


def sizes_of(first: int, chain: Iterable[int]) -> tuple[int, ...]:
    """Sides that can be asked for: what is drawn, and above 256 px also half of it, drawn twice as large."""
    drawn = [first, *chain]
    halves = [size // 2 for size in drawn if size // 4 in drawn]
    return tuple(sorted({*drawn, *(half for half in halves if half > 256)}))


def needed(first: int, chain: Mapping[int, str], size: int) -> dict[int, str]:
    """Of a chain of upsamplers, by the size that each one draws, those that pictures of `size` need."""
    below = [first, *chain]
    return {high: name for low, (high, name) in zip(below, chain.items(), strict=False) if low < size}


def upsamplers(networks: Networks, chain: Mapping[int, str]) -> tuple[Upsampler, ...]:
    """The stages of a chain, by the size that each one draws."""
    at_once = networks.pictures(max(chain, default=1))
    return tuple(Upsampler.of(networks, name, at_once) for name in chain.values())


def chain_of(bundle: Bundle, size: int, own: Mapping[str, tuple[int, int]] | None = None) -> dict[int, str]:
    """The upsamplers that lead from pictures of `size` upwards, by the size that each one draws.

    Args:
        bundle: whose upsamplers, unCLIP's, are taken.
        size: side of the first pictures.
        own: upsamplers of a kind of the family's own beside them: the side that each enlarges, and the one
            that it draws.

    Raises:
        BundleError: a component enlarges nothing that is drawn.
    """
    parts = bundle.components
    sizes = {
        name: (component.config["low_size"], component.config["high_size"])
        for name, component in parts.items()
        if component.kind == "upsampler" and name.removesuffix(LAST_STEP) not in parts.keys() - {name}
    } | dict(own or {})
    found = {low: (high, name) for name, (low, high) in sizes.items()}
    chain = {}
    while size in found:
        size, name = found.pop(size)
        chain[size] = name
    idle = [name for name in sizes if name not in chain.values()]
    if idle:
        raise BundleError(f"bundle {bundle.name}: {listed(idle)} enlarges nothing that it draws")
    return chain
