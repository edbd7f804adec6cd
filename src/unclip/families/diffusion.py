"""What the families that draw by diffusion share: schedules, guidance, sampling, upsamplers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any, ClassVar, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from unclip.bundle import LAST_STEP, Bundle
from unclip.diffusion.defaults import GuidedSampling, LangevinUpdates, Sampling, Spacing
from unclip.diffusion.denoiser import Denoised, Denoiser, FunctionDenoiser, denoiser, threshold
from unclip.diffusion.guidance import classifier_free
from unclip.diffusion.schedule import (
    Schedule,
    ScheduleName,
    respace,
    respace_by_log_snr,
    respace_karras,
)
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.models.upsampler import UpsamplerConfig
from unclip.pipeline import Done, Pipeline, Plan, listed
from unclip.runtime import autocast

# What suits a sampler where the bundle does not say.
SPACINGS = {"dpm++": Spacing.LOG_SNR, "heun": Spacing.KARRAS}
LANGEVIN = "langevin"
LARGEST_NOISE = 80.0  # sigma / alpha that Karras steps start from, table 1 of 2206.00364


class Condition(Protocol):
    """What a guided network is conditioned on: a dataclass of tensors (B, ...)."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def dropped(self) -> Self:
        """The unconditional half of classifier-free guidance."""
        ...


AnyCondition = TypeVar("AnyCondition", bound=Condition)


class DiffusionPipeline(Pipeline):
    """A family whose components are diffusion models.

    `_first` is the side of the pictures that are drawn first, `_chain` are the upsamplers behind by the size
    that each one draws, smallest first.
    """

    _first: int
    _chain: dict[int, str]

    @property
    def sizes(self) -> tuple[int, ...]:
        """What is drawn, and above 256 px also half of it: drawn twice as large and made smaller."""
        drawn = [self._first, *self._chain]
        halves = [size // 2 for size in drawn if size // 4 in drawn]
        return tuple(sorted({*drawn, *(half for half in halves if half > 256)}))

    def _upsamplers(self, size: int) -> tuple[str, ...]:
        """Those that draw what pictures of `size` need."""
        below = [self._first, *self._chain]
        return tuple(name for low, name in zip(below, self._chain.values(), strict=False) if low < size)

    def _sampling(self, name: str) -> Sampling:
        """How a component draws where nothing else is asked for."""
        sampling = self.bundle.component(name).sampling
        if sampling is None:
            raise BundleError(f"bundle {self.bundle.name} does not say how to sample its {name}")
        return sampling

    def _asked(self, name: str, options: Options, guidance: float | None) -> Sampling:
        """How a component draws, with what options ask for in place of the bundle's defaults."""
        sampling = changed(self._sampling(name), guidance=guidance, steps=options.steps)
        if options.sampler is not None and options.sampler != sampling.sampler:
            sampling = sampling.by(options.sampler)
        return sampling

    def _steps(self, name: str, sampling: Sampling) -> int:
        """How many steps a component's sampler tells of."""
        levels = len(self._schedule(name, sampling))
        if sampling.sampler != LANGEVIN:
            return levels
        return levels * (sampling.langevin or LangevinUpdates()).steps + 1  # the last takes the noise away

    def _schedule(self, name: str, sampling: Sampling) -> Schedule:
        """The steps of a component's schedule that its sampler visits."""
        diffusion = self.bundle.component(name).diffusion
        if diffusion is None:
            raise BundleError(f"bundle {self.bundle.name} does not say which diffusion its {name} is")
        if sampling.sampler == LANGEVIN and diffusion.schedule is not ScheduleName.GEOMETRIC:
            raise InputError(
                f"the sampler {LANGEVIN} walks down geometric noise levels, and the {name} of "
                f"{self.bundle.name} has a {diffusion.schedule} schedule: choose another"
            )
        schedule = diffusion.build()
        spacing = sampling.spacing or SPACINGS.get(sampling.sampler, Spacing.EVEN)
        if spacing is Spacing.EVEN:
            return schedule[respace(len(schedule), sampling.steps)]
        if isinstance(sampling.steps, str):
            raise InputError(f"steps {sampling.steps!r}: the sampler {sampling.sampler} takes a plain count")
        if spacing is Spacing.LOG_SNR:
            return schedule[respace_by_log_snr(schedule, sampling.steps)]
        return schedule[respace_karras(schedule, sampling.steps, max_noise=LARGEST_NOISE)]

    def _enlarge(
        self,
        name: str,
        jobs: Sequence[Job],
        low: Tensor,
        steer: Callable[[Denoiser], Denoiser] | None = None,
    ) -> Generator[Done, None, Tensor]:
        """Draw the pictures (B, 3, H, W) larger with an upsampler, its denoiser steered if that is asked."""
        config, sampling = cast(UpsamplerConfig, self.bundle.config(name)), self._sampling(name)
        size = low.shape[-1] * config.scale
        schedule, last = self._schedule(name, sampling), f"{name}{LAST_STEP}"
        rows = self._at_once(size // config.patch)

        def given(component: str) -> Denoiser:
            def network(x: Tensor, label: Tensor) -> Tensor:
                model = self._model(component)
                parts = zip(x.split(rows), label.split(rows), low.split(rows), strict=True)
                return torch.cat([model(*part) for part in parts])

            return self._denoiser(component, schedule, network)

        inner = given(name)
        if last in self.bundle.components:
            inner = self._with_last_step(inner, given(last), name)
        limited = threshold(inner, sampling.threshold, sampling.limit, sampling.percentile)
        if steer is not None:
            limited = steer(limited)
        noise = self._noise([(job, name) for job in jobs], (3, size, size))
        x = yield from sampled(name, limited, sampling, noise)
        self._let_go(name)
        self._let_go(last)
        return x.clamp(-1, 1)

    def _with_last_step(self, first: Denoiser, last: Denoiser, name: str) -> Denoiser:
        """`first`, the component `name`, takes all steps but the last."""

        def function(x: Tensor, i: int) -> Denoised:
            if i > 0:
                return first(x, i)
            self._let_go(name)
            return last(x, i)

        return FunctionDenoiser(first.schedule, function)

    def _last_chunk(self, plan: Plan) -> int:
        """Pictures that go through all upsamplers together: at 1024 px each holds 13 MB between them."""
        return self._chunk(
            max((size for size, name in self._chain.items() if name in plan.upsamplers), default=1)
        )

    def _guided(
        self,
        name: str,
        model: nn.Module,
        condition: AnyCondition,
        sampling: GuidedSampling,
        *,
        unconditional: AnyCondition | None = None,
        read: Callable[[AnyCondition], Any] | None = None,
    ) -> Denoiser:
        """The network with classifier-free guidance and threshold.

        Args:
            name: of the component.
            model: its network, called with x, label and `condition`.
            condition: what to draw.
            sampling: scale and interval of guidance, threshold.
            unconditional: the other half of guidance; None is the condition dropped.
            read: makes of a condition what the network takes in its place at every step; None takes it as is.
        """
        schedule = self._schedule(name, sampling)

        def given(condition: AnyCondition) -> Denoiser:
            @cache
            def known() -> Any:
                return condition if read is None else read(condition)

            return self._denoiser(name, schedule, lambda x, label: model(x, label, condition=known()))

        other = condition.dropped() if unconditional is None else unconditional
        guided = classifier_free(
            given(condition),
            given(other),
            sampling.guidance,
            interval=sampling.interval,
            both=given(joined(condition, other)),
        )
        return threshold(guided, sampling.threshold, sampling.limit, sampling.percentile)

    def _denoiser(self, name: str, schedule: Schedule, model: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
        diffusion = self.bundle.component(name).diffusion
        assert diffusion is not None  # `_schedule` was made from it

        # inference mode must not span a `yield`: it would hold for whoever reads the events
        def network(x: Tensor, label: Tensor) -> Tensor:
            with torch.inference_mode(), autocast(self.device, self.precision):
                return model(x, label).float()

        return denoiser(network, schedule, diffusion.prediction, diffusion.learned_range)


def sampled(
    stage: str,
    inner: Denoiser,
    sampling: Sampling,
    noise: Callable[[], Tensor],
    show: bool = True,
    start: Tensor | None = None,
) -> Generator[Done, None, Tensor]:
    """Run a sampler from noise, or from `start`, to its result, telling of every step."""
    x = noise() * (inner.schedule.initial_std * sampling.temperature) if start is None else start
    for step in sampling.run(inner, x, noise):
        yield Done(stage, step.x0 if show else None)
        x = step.x
    return x


def joined(first: AnyCondition, second: AnyCondition) -> AnyCondition:
    """Two conditions of B as one of 2B."""
    joined: dict[str, Any] = {}
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        joined[item.name] = None if a is None else torch.cat([a, b])
    return replace(first, **joined)


def changed(sampling: Sampling, **changes: Any) -> Sampling:
    """The same but for what is given and not None."""
    return replace(sampling, **{name: value for name, value in changes.items() if value is not None})


def upsampler_chain(
    bundle: Bundle, size: int, own: Mapping[str, tuple[int, int]] | None = None
) -> dict[int, str]:
    """The upsamplers that lead from the side of the first pictures upwards, by the size that each one draws.

    Args:
        bundle: whose upsamplers, unCLIP's, are taken.
        size: side of the first pictures.
        own: upsamplers of a kind of the family's own beside them, as of `chain`.

    Raises:
        BundleError: a component enlarges nothing that is drawn.
    """
    known = bundle.components
    last_steps = {f"{name}{LAST_STEP}" for name in known}
    sizes = {
        name: (component.config["low_size"], component.config["high_size"])
        for name, component in known.items()
        if component.kind == "upsampler" and name not in last_steps
    }
    return chain(bundle, size, {**sizes, **(own or {})})


def chain(bundle: Bundle, size: int, sizes: Mapping[str, tuple[int, int]]) -> dict[int, str]:
    """Components in the order in which they enlarge, from pictures of `size` on, by the size each one draws.

    Args:
        bundle: whose they are, for messages.
        size: side of the first pictures.
        sizes: of each component, the side that it enlarges and the one that it draws.

    Raises:
        BundleError: a component enlarges nothing that is drawn.
    """
    found = {low: (high, name) for name, (low, high) in sizes.items()}
    ordered = {}
    while size in found:
        size, name = found.pop(size)
        ordered[size] = name
    idle = [name for name in sizes if name not in ordered.values()]
    if idle:
        raise BundleError(f"bundle {bundle.name}: {listed(idle)} enlarges nothing that it draws")
    return ordered
