"""Components that draw by diffusion: which steps they take, of which network, guided how."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from unclip.bundle import Bundle
from unclip.diffusion.defaults import GuidedSampling, LangevinUpdates, Sampling, Spacing
from unclip.diffusion.denoiser import Denoiser, Network, denoiser, threshold
from unclip.diffusion.guidance import classifier_free
from unclip.diffusion.samplers import Sampler
from unclip.diffusion.schedule import (
    LARGEST_KARRAS_NOISE,
    Schedule,
    ScheduleName,
    respace,
    respace_by_log_snr,
    respace_karras,
)
from unclip.drawing import Options
from unclip.errors import BundleError, InputError, shown
from unclip.stages.networks import Call, Networks
from unclip.stages.stage import Estimate

# What suits a sampler where the bundle does not say.
SPACINGS = {"dpm++": Spacing.LOG_SNR, "heun": Spacing.KARRAS}
LANGEVIN = "langevin"
REPEATED_STEPS = 30  # that fill in well, each taken several times


class Condition(Protocol):
    """The inputs that a guided network is conditioned on: a dataclass of tensors (B, ...)."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def dropped(self) -> Self:
        """The unconditional half of classifier-free guidance."""
        ...


AnyCondition = TypeVar("AnyCondition", bound=Condition)


@dataclass(frozen=True)
class Denoising:
    """A component that draws by diffusion, and how it does it.

    `least_noise` is sigma / alpha of the least noise level that there is for it.
    """

    networks: Networks
    name: str
    sampling: Sampling
    least_noise: float = 0.0

    @cached_property
    def schedule(self) -> Schedule:
        """The steps of the component's schedule that its sampler visits.

        Raises:
            BundleError: the bundle does not say which diffusion it is.
            InputError: steps that cannot be taken.
        """
        sampling, bundle = self.sampling, self.networks.bundle
        diffusion = bundle.component(self.name).diffusion
        if diffusion is None:
            raise BundleError(f"bundle {bundle.name} does not say which diffusion its {self.name} is")
        if sampling.sampler == LANGEVIN and diffusion.schedule is not ScheduleName.GEOMETRIC:
            raise InputError(
                f"the sampler {LANGEVIN} walks down geometric noise levels, and the {self.name} of "
                f"{bundle.name} has a {diffusion.schedule} schedule: choose another"
            )
        schedule = diffusion.build()
        if self.least_noise:
            below = int((schedule.noise_to_signal < self.least_noise).sum())
            schedule = schedule[tuple(range(below, len(schedule)))]
        spacing = sampling.spacing or SPACINGS.get(sampling.sampler, Spacing.EVEN)
        if spacing is Spacing.EVEN:
            return schedule[respace(len(schedule), sampling.steps)]
        if isinstance(sampling.steps, str):
            raise InputError(
                f"steps {shown(sampling.steps)}: the sampler {sampling.sampler} takes a plain count"
            )
        if spacing is Spacing.LOG_SNR:
            return schedule[respace_by_log_snr(schedule, sampling.steps)]
        return schedule[respace_karras(schedule, sampling.steps, max_noise=LARGEST_KARRAS_NOISE)]

    @property
    def steps(self) -> int:
        """Of how many steps the sampler tells."""
        return self.told(len(self.schedule))

    def told(self, levels: int) -> int:
        """Of how many steps the sampler tells that takes so many levels of its schedule, the last ones."""
        if self.sampling.sampler != LANGEVIN or not levels:
            return levels
        updates = self.sampling.langevin or LangevinUpdates()
        return levels * updates.steps + 1  # the last takes the noise away

    def repeating(self, steps: int | str | None) -> Denoising:
        """As `samplers.resampled` draws: by ancestral steps, so many or a number that does."""
        sampling = replace(self.sampling.by("ancestral"), steps=REPEATED_STEPS if steps is None else steps)
        return replace(self, sampling=sampling)

    @property
    def settings(self) -> dict[str, str]:
        """The texts that a picture's metadata hold of it."""
        settings = {"steps": str(self.sampling.steps), "sampler": self.sampling.sampler}
        if isinstance(self.sampling, GuidedSampling):
            settings["guidance"] = f"{self.sampling.guidance:g}"
        return settings

    def denoiser(self, model: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
        """Of a network that is called with x and label, without guidance or threshold."""

        @self.networks.computing()
        def network(x: Tensor, label: Tensor) -> Tensor:
            return model(x, label).float()

        return self._denoiser(network)

    def _denoiser(self, network: Network) -> Denoiser:
        diffusion = self.networks.bundle.component(self.name).diffusion
        assert diffusion is not None  # the schedule was made from it
        return denoiser(network, self.schedule, diffusion.prediction, diffusion.learned_range)

    def limited(self, inner: Denoiser) -> Denoiser:
        """With the component's threshold."""
        return threshold(inner, self.sampling.threshold, self.sampling.limit, self.sampling.percentile)

    def guided(
        self,
        model: nn.Module,
        condition: AnyCondition,
        *,
        unconditional: AnyCondition | None = None,
        read: Callable[[AnyCondition], Any] | None = None,
    ) -> Denoiser:
        """With classifier-free guidance and threshold.

        Args:
            model: the network, called with x, label and `condition`.
            condition: what to draw.
            unconditional: the other half of guidance; None is the condition dropped.
            read: makes of a condition what the network takes in its place at every step; None takes it as is.
        """

        def given(condition: AnyCondition) -> Denoiser:
            @cache
            @networks.computing()
            def known() -> Any:
                return condition if read is None else read(condition)

            return self._denoiser(lambda x, label: networks.called(Call(model, x, label, known())))

        networks = self.networks
        other = condition.dropped() if unconditional is None else unconditional
        assert isinstance(self.sampling, GuidedSampling)  # a bundle is refused whose component has another
        scale, interval = self.sampling.guidance, self.sampling.interval
        both = given(joined(condition, other))
        return self.limited(
            classifier_free(given(condition), given(other), scale, interval=interval, both=both)
        )

    def drawn(
        self,
        inner: Denoiser,
        noise: Callable[[], Tensor],
        start: Tensor | None = None,
        sampler: Sampler | None = None,
    ) -> Generator[Estimate, None, Tensor]:
        """Run its sampler, or another, from noise or from `start` to the result, telling of each step."""
        scale = inner.schedule.initial_std * self.sampling.temperature
        x = noise() * scale if start is None else start
        for step in (sampler or self.sampling.run)(inner, x, noise):
            yield step.x0
            x = step.x
        return x


def default_sampling(bundle: Bundle, name: str) -> Sampling:
    """The bundle's own settings of a component. Raises BundleError where there are none."""
    sampling = bundle.component(name).sampling
    if sampling is None:
        raise BundleError(f"bundle {bundle.name} does not say how to sample its {name}")
    return sampling


def asked_sampling(bundle: Bundle, name: str, options: Options, guidance: float | None) -> Sampling:
    """The settings of a component, with what options ask for in place of the bundle's defaults."""
    sampling: Sampling = changed(default_sampling(bundle, name), guidance=guidance, steps=options.steps)
    return sampling if options.sampler in (None, sampling.sampler) else sampling.by(options.sampler)


def changed(thing: Any, **changes: Any) -> Any:
    """The same dataclass but for what is given and not None."""
    return replace(thing, **{name: value for name, value in changes.items() if value is not None})


def joined(first: AnyCondition, second: AnyCondition) -> AnyCondition:
    """Two conditions of B as one of 2B."""
    joined: dict[str, Any] = {}
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        joined[item.name] = None if a is None else torch.cat([a, b])
    return replace(first, **joined)
