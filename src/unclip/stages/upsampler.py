"""Small pictures to larger ones: unCLIP's upsamplers (section 2.1 of 2204.06125), of any family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from unclip.diffusion.denoiser import Denoised, Denoiser
from unclip.errors import BundleError, listed
from unclip.manifest import LAST_STEP
from unclip.stages import known
from unclip.stages.denoising import Denoising, default_sampling
from unclip.stages.networks import Networks
from unclip.stages.painting import INPAINT, Painting
from unclip.stages.stage import Batch, Stage


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


@dataclass(frozen=True)
class Chain:
    """The upsamplers that lead from small pictures upwards.

    Attributes:
        networks: of the bundle.
        first: side of the small pictures.
        names: the component that draws each larger side, smallest first.
    """

    networks: Networks
    first: int
    names: Mapping[int, str]

    @classmethod
    def of(cls, networks: Networks, first: int, kind: str | None = None) -> Chain:
        """Of unCLIP's upsamplers, and of the family's own where it has a `kind` of them.

        Raises:
            BundleError: a component enlarges nothing that is drawn.
        """
        parts = networks.bundle.components
        twins = {f"{name}{suffix}" for name in parts for suffix in (LAST_STEP, INPAINT)} | {kind}
        sides: dict[str, tuple[int, int]] = {}
        for name, component in parts.items():
            if component.kind in ("upsampler", kind) and name not in twins:
                config = component.config
                high = config["high_size"] if component.kind == "upsampler" else config["image_size"]
                sides[name] = (config.get("low_size") or 0, high)
        found = {low: (high, name) for name, (low, high) in sides.items()}
        names, size = {}, first
        while size in found:
            size, name = found.pop(size)
            names[size] = name
        if idle := [name for name in sides if name not in names.values()]:
            raise BundleError(f"bundle {networks.bundle.name}: {listed(idle)} enlarges nothing that it draws")
        return cls(networks, first, names)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides to ask for: those that are drawn, and above 256 px half of one, drawn twice as large."""
        drawn = [self.first, *self.names]
        halves = [size // 2 for size in drawn if size // 4 in drawn]
        return tuple(sorted({*drawn, *(half for half in halves if half > 256)}))

    def stages(self, size: int, own: Callable[[str, int], Stage] | None = None) -> tuple[Stage, ...]:
        """Those that pictures of `size` need; `own` makes one of a component of the family's own kind.

        It is given the component's name, and how many pictures go through all of them at once.
        """
        below = [self.first, *self.names]
        needed = {
            high: name for low, (high, name) in zip(below, self.names.items(), strict=False) if low < size
        }
        at_once = self.networks.pictures(max(needed, default=1))
        kinds = {name: component.kind for name, component in self.networks.bundle.components.items()}
        return tuple(
            Upsampler.of(self.networks, name, at_once)
            if own is None or kinds[name] == "upsampler"
            else own(name, at_once)
            for name in needed.values()
        )
