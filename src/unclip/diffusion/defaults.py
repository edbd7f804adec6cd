"""How a network draws unless it is told otherwise: the defaults that a bundle keeps for a component."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from unclip.diffusion.denoiser import Threshold
from unclip.diffusion.samplers import find_sampler
from unclip.errors import InputError


class Spacing(StrEnum):
    """Which steps of its schedule a sampler visits, given their number."""

    EVEN = "even"  # `respace`
    LOG_SNR = "log-snr"  # `respace_by_log_snr`
    KARRAS = "karras"  # `respace_karras`


@dataclass(frozen=True)
class LangevinUpdates:
    """How annealed Langevin dynamics moves; the defaults are NCSN's (section 4.2 of 1907.05600).

    Attributes:
        steps: updates at each noise level.
        step_size: of an update at the least noise level (see `diffusion.samplers.langevin`).
    """

    steps: int = 100
    step_size: float = 2e-5


@dataclass(frozen=True)
class Sampling:
    """How a component draws unless it is told otherwise.

    Attributes:
        steps: how many of its schedule's steps the sampler visits, or a text that `respace` understands.
        sampler: name in `unclip.diffusion.samplers.SAMPLERS`.
        spacing: which steps; None is what suits the sampler.
        guidance: scale of classifier-free guidance, 1 is none.
        interval: least and most sigma / alpha at which guidance acts; None is everywhere.
        eta: noise of DDIM, 0 is none, 1 is as much as ancestral sampling. Other samplers take none.
        langevin: the updates of the sampler langevin, and of no other; None is the defaults.
        threshold: what is done with values outside +-limit at every step.
        limit: see `threshold`; 1 for pictures.
        percentile: of dynamic thresholding.
        candidates: how many embeddings a prior draws to choose from.
        noise_level: in [0, 1], how much noise a decoder adds to the image embedding.
        temperature: factor of the noise that drawing starts from, above 0 (GLIDE's upsampler has 0.997).
    """

    steps: int | str
    sampler: str = "ddim"
    spacing: Spacing | None = None
    guidance: float = 1.0
    interval: tuple[float, float] | None = None
    eta: float = 0.0
    langevin: LangevinUpdates | None = None
    threshold: Threshold = Threshold.NONE
    limit: float = 1.0
    percentile: float = 0.995
    candidates: int = 1
    noise_level: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        find_sampler(self.sampler)
        if self.eta and self.sampler != "ddim":
            raise InputError(f"eta {self.eta} belongs to ddim, the sampler is {self.sampler}")
        if self.langevin is not None and self.sampler != "langevin":
            raise InputError(f"langevin updates belong to langevin, the sampler is {self.sampler}")
        if not 0.0 <= self.noise_level <= 1.0:
            raise InputError(f"noise_level {self.noise_level} is outside [0, 1]")
        if self.candidates < 1:
            raise InputError(f"candidates {self.candidates}: must be 1 or more")
        if self.temperature <= 0:
            raise InputError(f"temperature {self.temperature}: must be above 0")
