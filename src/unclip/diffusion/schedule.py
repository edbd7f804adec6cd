"""Noise schedules as tables: x_t = alpha_t x_0 + sigma_t epsilon, and which of their steps a sampler visits.

A schedule is three tables of one length. Index 0 has the least noise. Everything that a sampler or a loss
needs (the variance that a step adds, the posterior q(x_s | x_t, x_0)) follows from alpha and sigma, so
variance preserving schedules (DDPM, cosine) and variance exploding ones (NCSN) are one thing, and respacing
is indexing: the betas of the skipped steps are implied by the alphas that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate, pairwise, repeat
from typing import NamedTuple

import torch
from torch import Tensor

from unclip.errors import InputError, shown

LABEL_RANGE = 1000  # labels are in [0, 1000) however many steps there are: ADM's rescaled time steps
COSINE_OFFSET = 0.008  # s of Eq. 17 of 2102.09672
MAX_BETA = 0.999  # section 3.2 of 2102.09672
LINEAR_BETAS = (1e-4, 0.02)  # section 4 of 2006.11239, for 1000 steps
LARGEST_LOG_SNR_NOISE = math.exp(5.1)  # where published DPM-Solvers cut the cosine schedule's tail
LARGEST_KARRAS_NOISE = 80.0  # sigma_max of 2206.00364, Table 1
SIGMA_DATA = 0.5  # standard deviation of the data, Table 1 of 2206.00364
FAST27 = "10,10,3,2,2"  # GLIDE's sections; its last step is then taken two steps earlier


class Prediction(StrEnum):
    """The meaning of a network's output, for x_t = alpha x_0 + sigma epsilon."""

    EPSILON = "epsilon"  # 2006.11239
    X0 = "x0"  # unCLIP's prior
    V = "v"  # alpha epsilon - sigma x_0, 2202.00512
    SCORE = "score"  # gradient of log p(x_t) = -epsilon / sigma, 1907.05600
    EDM = "edm"  # what EDM's preconditioning leaves to the network, with its sigma_data: 2206.00364, Table 1


class ScheduleName(StrEnum):
    """The schedules that `DiffusionConfig` can build."""

    COSINE = "cosine"
    LINEAR = "linear"
    GEOMETRIC = "geometric"


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(x0_weight x_0 + x_weight x_t, variance) for each t and the step s below it.

    Eq. 6 and 7 of 2006.11239, written for any alpha and sigma. The step below index 0 is x_0 itself.
    All are float64 (T,) on the CPU. The two logarithms are the ends of the learned range (Eq. 15 of
    2102.09672); variance[0] is 0, so its logarithm is taken from index 1, as ADM does.
    """

    x0_weight: Tensor
    x_weight: Tensor
    variance: Tensor
    log_variance_small: Tensor
    log_variance_large: Tensor


@dataclass(frozen=True, eq=False)
class Schedule:
    """Tables of a diffusion: alpha, sigma and the label that the network is fed; float64 (T,) on the CPU.

    Raises:
        InputError: the tables differ in length, are empty, hold anything but positive finite numbers in alpha
            and sigma, or the noise does not grow with the index.
    """

    alpha: Tensor
    sigma: Tensor
    label: Tensor

    def __post_init__(self) -> None:
        tables = (self.alpha, self.sigma, self.label)
        if any(table.dtype != torch.float64 or table.device.type != "cpu" for table in tables):
            raise InputError("a schedule's tables are float64 tensors on the CPU: convert them first")
        if self.alpha.ndim != 1 or not len(self.alpha) or any(t.shape != self.alpha.shape for t in tables):
            shapes = ", ".join(str(tuple(table.shape)) for table in tables)
            raise InputError(f"a schedule's tables have shapes {shapes}: give three of shape (T,), T >= 1")
        for name, table in (("alpha", self.alpha), ("sigma", self.sigma)):
            if not bool((torch.isfinite(table) & (table > 0)).all()):
                raise InputError(f"a schedule's {name} must be positive and finite everywhere, got {table}")
        if not bool((self.noise_to_signal.diff() > 0).all()):
            raise InputError("a schedule's sigma / alpha must grow with the index: least noise first")

    def __len__(self) -> int:
        return len(self.alpha)

    def __getitem__(self, indices: Iterable[int] | Tensor | slice) -> Schedule:
        """The schedule that visits only these indices (0 <= index < T, strictly increasing): respacing."""
        if isinstance(indices, slice):
            indices = range(*indices.indices(len(self)))
        elif isinstance(indices, Tensor):
            indices = indices.tolist()
        chosen = list(indices)
        if not chosen or chosen[0] < 0 or chosen[-1] >= len(self) or any(b <= a for a, b in pairwise(chosen)):
            raise InputError(
                f"a schedule of {len(self)} steps cannot be respaced to {chosen}: "
                f"give indices from 0 to {len(self) - 1} in increasing order"
            )
        return Schedule(self.alpha[chosen], self.sigma[chosen], self.label[chosen])

    @cached_property
    def noise_to_signal(self) -> Tensor:
        """The ratio sigma / alpha, (T,): EDM's sigma (2206.00364)."""
        return self.sigma / self.alpha

    @cached_property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2), (T,), falling with the index. DPM-Solver's lambda is half of it."""
        return -2 * self.noise_to_signal.log()

    @cached_property
    def beta(self) -> Tensor:
        """Variance of q(x_t | x_s), (T,), s being the step below t: beta_t where variance is preserved."""
        alpha_below, sigma_below = self._below
        # sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2
        return self.sigma**2 - (self.alpha / alpha_below * sigma_below) ** 2

    @cached_property
    def posterior(self) -> Posterior:
        """q(x_s | x_t, x_0) for each t."""
        alpha_below, sigma_below = self._below
        variance = self.beta * (sigma_below / self.sigma) ** 2
        # index 1's stands in at index 0, where the variance is 0; a schedule of one step has only beta
        first = variance[1:2] if len(self) > 1 else self.beta
        return Posterior(
            x0_weight=alpha_below * self.beta / self.sigma**2,
            x_weight=self.alpha / alpha_below * (sigma_below / self.sigma) ** 2,
            variance=variance,
            log_variance_small=torch.cat([first, variance[1:]]).log(),
            log_variance_large=self.beta.log(),
        )

    @property
    def initial_std(self) -> float:
        """Standard deviation of x at the last index for data of unit variance: what sampling starts from."""
        return math.hypot(float(self.alpha[-1]), float(self.sigma[-1]))

    def below(self, i: int) -> tuple[float, float]:
        """Alpha and sigma of the step below index i; (1, 0), the clean picture, below index 0."""
        alpha_below, sigma_below = self._below
        return float(alpha_below[i]), float(sigma_below[i])

    def add_noise(self, x0: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma epsilon for pictures x0 (B, ...), index (B,) int64 and noise (B, ...)."""
        return gather(self.alpha, index, x0) * x0 + gather(self.sigma, index, x0) * noise

    @cached_property
    def _below(self) -> tuple[Tensor, Tensor]:
        alpha = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha[:-1]])
        sigma = torch.cat([torch.zeros(1, dtype=torch.float64), self.sigma[:-1]])
        return alpha, sigma


def gather(table: Tensor, index: Tensor, like: Tensor) -> Tensor:
    """Entries table[index] for index (B,), as (B, 1, ...) broadcasting over `like`, in its type and place."""
    return broadcast(table[index.cpu()], like)


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """One value a picture, (B,), as (B, 1, ...) broadcasting over `like` (B, ...), in its type and place."""
    return values.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def from_betas(betas: Tensor) -> Schedule:
    """Variance preserving schedule with the given beta (T,) in (0, 1); labels are in [0, 1000).

    2006.11239, section 2: alpha_bar_t = prod(1 - beta); in logarithms, for the digits of a small sigma.
    """
    betas = betas.to("cpu", torch.float64)
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise InputError("betas must lie between 0 and 1, both excluded")
    log_alpha_bar = torch.log1p(-betas).cumsum(0)
    return Schedule((log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt(), _labels(len(betas)))


def cosine(steps: int = 1000, max_beta: float = MAX_BETA) -> Schedule:
    """Improved DDPM's cosine schedule, Eq. 17 of 2102.09672, with beta clipped at `max_beta`."""
    _check_steps(steps)
    if not 0 < max_beta < 1:
        raise InputError(f"max_beta is {max_beta}: choose one between 0 and 1; the paper's is {MAX_BETA}")
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    return from_betas((1 - f[1:] / f[:-1]).clamp(max=max_beta))


def linear(steps: int = 1000) -> Schedule:
    """DDPM's linear betas, 1e-4 to 0.02 for 1000 steps; scaled by 1000 / steps for other counts, as in ADM.

    Raises:
        InputError: fewer than 21 steps, where beta would reach 1.
    """
    _check_steps(steps)
    first, last = (LABEL_RANGE / steps * beta for beta in LINEAR_BETAS)
    if last >= 1:
        raise InputError(
            f"a linear schedule of {steps} steps would need a beta of {last:g}: take 21 steps or more, "
            "or respace a longer schedule"
        )
    return from_betas(torch.linspace(first, last, steps, dtype=torch.float64))


def geometric(steps: int, sigma_min: float, sigma_max: float) -> Schedule:
    """NCSN's noise levels, a geometric progression with alpha = 1: variance exploding.

    1907.05600, sections 3.2 and 4: 10 levels from 0.01 to 1 for pictures in [0, 1]. The label is the index,
    so 0 is the least noise (NCSN counts the other way).
    """
    _check_steps(steps)
    if not 0 < sigma_min < sigma_max:
        raise InputError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}: take 0 < least < most")
    if steps == 1:
        raise InputError("a geometric schedule has two ends: take 2 steps or more")
    ends = math.log(sigma_min), math.log(sigma_max)
    sigma = torch.linspace(*ends, steps, dtype=torch.float64).exp()
    return Schedule(torch.ones_like(sigma), sigma, torch.arange(steps, dtype=torch.float64))


def shifted(schedule: Schedule, shift: float) -> Schedule:
    """Schedule whose log-SNR is higher by `shift` everywhere; the labels stay.

    2301.11093 (simple diffusion): what suits 64 px suits S px with a shift of 2 log(64 / S):
    more noise for S > 64. What preserved variance still does; otherwise alpha stays and sigma moves.
    """
    if shift == 0:
        return schedule
    preserving = torch.allclose(schedule.alpha**2 + schedule.sigma**2, torch.ones((), dtype=torch.float64))
    if not preserving:
        return Schedule(schedule.alpha, schedule.sigma * math.exp(-shift / 2), schedule.label)
    log_snr = schedule.log_snr + shift
    return Schedule(torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt(), schedule.label)


def respace(total: int, steps: int | str | Sequence[int]) -> tuple[int, ...]:
    """Indices, increasing, of the steps of a schedule of `total` steps that a sampler shall visit.

    Args:
        total: steps of the whole schedule.
        steps: one of
            a count N, 25 or "25": evenly from 0 to total - 1, added up and rounded as in ADM and Karlo; 1 is
            the noisiest alone, where ADM takes the least noisy, from which nothing can be drawn;
            ADM's sections, "10,10,3,2,2" or a sequence of ints: the schedule is cut into equal parts from the
            least noise up and each part gives that many, its ends included;
            "ddim50": every k-th step from 0, for the smallest k that gives 50 steps (ADM, from DDIM);
            "fast27": GLIDE's sections "10,10,3,2,2", with the noisiest step moved down by two.

    Raises:
        InputError: the text is none of these, or asks for more steps than there are.
    """
    if isinstance(steps, str):
        if steps == "fast27":
            sections = respace(total, FAST27)
            return tuple(sorted({*sections[:-1], total - 3}))
        if steps.startswith("ddim"):
            return _every_kth(total, _whole(steps.removeprefix("ddim"), steps))
        counts = [_whole(part, steps) for part in steps.split(",")]
        steps = counts[0] if len(counts) == 1 else counts
    if isinstance(steps, int):
        return _evenly(total, steps)
    return _in_sections(total, steps)


def respace_by_log_snr(
    schedule: Schedule, count: int, max_noise: float = LARGEST_LOG_SNR_NOISE
) -> tuple[int, ...]:
    """`count` indices of a schedule, about evenly spaced in log-SNR.

    DPM-Solver's own choice of steps (2206.00927), moved to the nearest index that is free. Indices whose
    sigma / alpha exceeds `max_noise` are left out: else many steps would go to the last few indices of the
    cosine schedule, where there is next to no picture. math.inf leaves out none.

    Raises:
        InputError: fewer indices than `count` are left.
    """
    return _evenly_by(Tensor.log, schedule, count, max_noise)


def respace_karras(
    schedule: Schedule, count: int, rho: float = 7.0, max_noise: float = LARGEST_KARRAS_NOISE
) -> tuple[int, ...]:
    """`count` indices of a schedule, about evenly spaced in (sigma / alpha) ** (1 / rho): EDM's choice.

    Eq. 5 of 2206.00364, moved to the nearest index that is free. Indices whose sigma / alpha exceeds
    `max_noise` are left out (the cosine schedule ends near 20,000); math.inf leaves out none.

    Raises:
        InputError: fewer indices than `count` are left.
    """
    return _evenly_by(lambda noise: noise ** (1 / rho), schedule, count, max_noise)


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The diffusion of one component, as recipes and bundles store it.

    Attributes:
        schedule: which builder makes the tables.
        prediction: what the network's output means.
        steps: length of the whole schedule.
        learned_range: the output has twice the channels, the second half interpolating the log variance.
        shift: added to the log-SNR; negative is more noise (see `shifted`).
        sigma_range: least and most sigma of a geometric schedule; belongs to no other.
    """

    schedule: ScheduleName
    prediction: Prediction
    steps: int = 1000
    learned_range: bool = False
    shift: float = 0.0
    sigma_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if (self.schedule is ScheduleName.GEOMETRIC) != (self.sigma_range is not None):
            raise InputError(
                f"schedule {self.schedule} with sigma_range {self.sigma_range}: "
                "a geometric schedule needs sigma_range = [least, most], and no other schedule takes it"
            )

    def build(self) -> Schedule:
        """The whole schedule; `build()[respace(...)]` is a shorter one for sampling."""
        if self.sigma_range is not None:
            schedule = geometric(self.steps, *self.sigma_range)
        else:
            schedule = {ScheduleName.COSINE: cosine, ScheduleName.LINEAR: linear}[self.schedule](self.steps)
        return shifted(schedule, self.shift)


def _labels(steps: int) -> Tensor:
    return torch.arange(steps, dtype=torch.float64) * (LABEL_RANGE / steps)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise InputError(f"a schedule of {steps} steps: take 1 or more")


def _check_count(total: int, count: int) -> None:
    if not 1 <= count <= total:
        raise InputError(f"{count} steps asked of a schedule that has {total}: choose from 1 to {total}")


def _whole(text: str, given: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InputError(
            f"unknown steps {shown(given)}: give a count such as '25', sections such as '10,10,3,2,2', "
            "'ddim50' or 'fast27'"
        )
    return int(text)


def _evenly(total: int, count: int) -> tuple[int, ...]:
    _check_count(total, count)
    return (total - 1,) if count == 1 else tuple(_spread(total, count))


def _spread(length: int, count: int) -> Iterator[int]:
    """Indices about evenly from 0 to length - 1: summed and not multiplied, so that ties round as ADM's."""
    stride = (length - 1) / (count - 1) if count > 1 else 1.0
    return map(round, accumulate(repeat(stride, count - 1), initial=0.0))


def _every_kth(total: int, count: int) -> tuple[int, ...]:
    for stride in range(1, total + 1):
        indices = range(0, total, stride)
        if len(indices) == count:
            return tuple(indices)
    raise InputError(f"no whole stride takes exactly {count} of {total} steps: try '{count}', without 'ddim'")


def _in_sections(total: int, counts: Sequence[int]) -> tuple[int, ...]:
    if not counts:
        raise InputError("no sections given: give at least one count")
    size, extra = divmod(total, len(counts))
    taken: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (section < extra)
        if not 1 <= count <= length:
            raise InputError(
                f"section {section} of {list(counts)} asks for {count} of its {length} steps: "
                f"choose from 1 to {length}"
            )
        taken += [start + offset for offset in _spread(length, count)]
        start += length
    return tuple(taken)


def _evenly_by(
    measure: Callable[[Tensor], Tensor], schedule: Schedule, count: int, max_noise: float
) -> tuple[int, ...]:
    """Indices about evenly spaced in a measure of sigma / alpha, which is at most `max_noise`."""
    noise = schedule.noise_to_signal[schedule.noise_to_signal <= max_noise]
    _check_count(len(noise), count)
    values = measure(noise)
    return _nearest(values, torch.linspace(float(values[0]), float(values[-1]), count, dtype=torch.float64))


def _nearest(values: Tensor, targets: Tensor) -> tuple[int, ...]:
    """Strictly increasing indices whose values (increasing) lie near the targets (increasing), ends kept."""
    total, count = len(values), len(targets)
    if count == 1:
        return (total - 1,)
    indices: list[int] = []
    for position, target in enumerate(targets):
        nearest = int((values - target).abs().argmin())
        lowest = indices[-1] + 1 if indices else 0
        highest = total - count + position  # leaves room for the rest
        indices.append(min(max(nearest, lowest), highest))
    return tuple(indices)
