"""The defaults that a bundle keeps for a component: how it draws unless it is told otherwise.

`Sampling` is what every component honours. What one kind of model honours besides has a class of its own;
`manifest.SAMPLING` says which kind reads which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Self

from torch import Tensor

from unclip.diffusion.denoiser import Denoiser, Threshold
from unclip.diffusion.samplers import Noise, Step, Variance, ancestral, ddim, find_sampler, langevin
from unclip.errors import InputError


class Spacing(StrEnum):
    """The steps of its schedule that a sampler visits, given their number."""

    EVEN = "even"  # `respace`
    LOG_SNR = "log-snr"  # `respace_by_log_snr`
    KARRAS = "karras"  # `respace_karras`


@dataclass(frozen=True)
class LangevinUpdates:
    """The updates of annealed Langevin dynamics; the defaults are those of NCSN's paper (1907.05600, 4.2).

    Attributes:
        steps: updates at each noise level.
        step_size: of an update at the least noise level, twice the `step_lr` of NCSN's code (see
            `diffusion.samplers.langevin`).
    """

    steps: int = 100
    step_size: float = 2e-5


@dataclass(frozen=True)
class Sampling:
    """The settings that every component which draws by diffusion honours.

    Attributes:
        steps: how many of its schedule's steps the sampler visits, or a text that `respace` understands.
        sampler: name in `unclip.diffusion.samplers.SAMPLERS`.
        spacing: which steps; None is what suits the sampler.
        eta: noise of DDIM, 0 is none, 1 is as much as ancestral sampling. Other samplers take none.
        langevin: the updates of the sampler langevin, and of no other; None is the defaults.
        variance: of the sampler ancestral's steps, and of no other's: small and large are DDPM's two (section
            3.2 of 2006.11239), learned is the network's (2102.09672). None is the network's where it learned
            one, and else the small one.
        threshold: what is done with values outside +-limit at every step.
        limit: see `threshold`; 1 for pictures.
        percentile: of dynamic thresholding.
        temperature: factor of the noise that drawing starts from, above 0 (GLIDE's upsampler has 0.997).
    """

    steps: int | str
    sampler: str = "ddim"
    spacing: Spacing | None = None
    eta: float = 0.0
    langevin: LangevinUpdates | None = None
    variance: Variance | None = None
    threshold: Threshold = Threshold.NONE
    limit: float = 1.0
    percentile: float = 0.995
    temperature: float = 1.0

    def __post_init__(self) -> None:
        find_sampler(self.sampler)
        if self.eta and self.sampler != "ddim":
            raise InputError(f"eta {self.eta} belongs to ddim, the sampler is {self.sampler}")
        if self.langevin is not None and self.sampler != "langevin":
            raise InputError(f"langevin updates belong to langevin, the sampler is {self.sampler}")
        if self.variance is not None and self.sampler != "ancestral":
            raise InputError(f"variance {self.variance} belongs to ancestral, the sampler is {self.sampler}")
        if self.temperature <= 0:
            raise InputError(f"temperature {self.temperature}: must be above 0")

    def run(self, denoiser: Denoiser, x: Tensor, noise: Noise) -> Iterator[Step]:
        """The steps of the sampler over all of the denoiser's schedule, with the options that are its own."""
        match self.sampler:
            case "ancestral":
                return ancestral(denoiser, x, noise, variance=self.variance)
            case "ddim":
                return ddim(denoiser, x, noise, eta=self.eta)
            case "langevin":
                return langevin(denoiser, x, noise, **asdict(self.langevin or LangevinUpdates()))
        return find_sampler(self.sampler)(denoiser, x, noise)

    def by(self, sampler: str) -> Self:
        """The same by another sampler: the options and the spacing of the old one do not go with it."""
        return replace(self, sampler=sampler, spacing=None, eta=0.0, langevin=None, variance=None)


@dataclass(frozen=True)
class ClassifierSampling(Sampling):
    """Of a component that a classifier may guide (2105.05233).

    Attributes:
        guidance: scale of the classifier's gradient, 0 is none.
    """

    guidance: float = 1.0


@dataclass(frozen=True)
class GuidedSampling(Sampling):
    """Of a component with classifier-free guidance (2207.12598).

    Attributes:
        guidance: its scale, 1 is none.
        interval: least and most sigma / alpha at which guidance acts; None is everywhere.
    """

    guidance: float = 1.0
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PriorSampling(GuidedSampling):
    """Of a diffusion prior.

    Attributes:
        candidates: how many embeddings it draws to choose from.
    """

    candidates: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise InputError(f"candidates {self.candidates}: must be 1 or more")


@dataclass(frozen=True)
class DecoderSampling(GuidedSampling):
    """Of a decoder.

    Attributes:
        noise_level: in [0, 1], how much noise it adds to the image embedding.
    """

    noise_level: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.noise_level <= 1.0:
            raise InputError(f"noise_level {self.noise_level} is outside [0, 1]")
