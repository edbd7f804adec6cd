"""Small pictures to larger ones: unCLIP's upsamplers (section 2.1 of 2204.06125), of any family."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from unclip.bundle import LAST_STEP, Bundle
from unclip.diffusion.denoiser import Denoised, Denoiser, FunctionDenoiser
from unclip.drawing import Job
from unclip.errors import BundleError, listed
from unclip.models.upsampler import UpsamplerConfig
from unclip.stages import known
from unclip.stages.denoising import Denoising, default_sampling
from unclip.stages.networks import Networks
from unclip.stages.stage import Batch, Estimate, Stage


@dataclass(frozen=True)
class Upsampler(Stage):
    """Draws pictures larger; pixels that are known it is held to, so that what it draws meets them.

    Attributes:
        networks: of its bundle.
        name: of the component.
        at_once: pictures that go through all upsamplers together: at 1024 px each holds 13 MB between them.
    """

    networks: Networks
    name: str
    at_once: int | None = None

    @property
    def components(self) -> tuple[str, ...]:
        last = f"{self.name}{LAST_STEP}"
        return (self.name, last) if last in self.networks.bundle.components else (self.name,)

    @property
    def denoising(self) -> Denoising:
        return Denoising(self.networks, self.name, default_sampling(self.networks.bundle, self.name))

    def steps(self, jobs: Sequence[Job]) -> int:
        return self.denoising.steps

    def run(self, batch: Batch) -> Generator[Estimate, None, Batch]:
        images = yield from self.enlarge(batch.jobs, cast(Tensor, batch.images).to(self.networks.device))
        return batch.with_images(images)

    def enlarge(self, jobs: Sequence[Job], low: Tensor) -> Generator[Estimate, None, Tensor]:
        """Pictures (B, 3, H, W) -> (B, 3, k H, k W)."""
        config = cast(UpsamplerConfig, self.networks.bundle.config(self.name))
        low, how = known.pasted(jobs, low), self.denoising
        size = low.shape[-1] * config.scale
        at_once = self.networks.grids(size // config.patch)

        def given(component: str) -> Denoiser:
            def network(x: Tensor, label: Tensor) -> Tensor:
                model = self.networks[component]
                parts = zip(x.split(at_once), label.split(at_once), low.split(at_once), strict=True)
                return torch.cat([model(*part) for part in parts])

            return how.denoiser(network)

        inner = given(self.name)
        if len(self.components) > 1:
            inner = self._with_last_step(inner, given(self.components[1]))
        inner = known.held(jobs, how.limited(inner), size, self.networks.device)
        noise = self.networks.noise([(job, f"{self.name}{job.given.part}") for job in jobs], (3, size, size))
        x = yield from how.drawn(inner, noise)
        return x.clamp(-1, 1)

    def _with_last_step(self, first: Denoiser, last: Denoiser) -> Denoiser:
        """The component itself takes all steps but the last."""

        def function(x: Tensor, i: int) -> Denoised:
            if i > 0:
                return first(x, i)
            self.networks.let_go(self.name)
            return last(x, i)

        return FunctionDenoiser(first.schedule, function)


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
    return tuple(Upsampler(networks, name, at_once) for name in chain.values())


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
