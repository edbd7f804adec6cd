"""From what an encoder says to a code, so that a gradient comes back: 1711.00937, and 2102.12092 section 2.1.

Nearest neighbours, whose codebook follows a loss or a moving average and whose unused codes are given new
work; and a relaxation by Gumbel noise, which grows harder while it is trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.vqgan import VQGAN


class Codebook(StrEnum):
    """The rule by which the codes of a nearest-neighbour quantiser learn."""

    LOSS = "loss"  # codes are drawn to the latents that chose them, Eq. 3 of 1711.00937
    AVERAGE = "average"  # they are a moving average of those, appendix A.1 there


class Gradient(StrEnum):
    """The gradient that stands in for that of the quantiser, which has none."""

    STRAIGHT = "straight"  # as if nothing had been rounded
    ROTATION = "rotation"  # turned and stretched as the latent was, 2410.06424


@dataclass(frozen=True)
class NearestConfig:
    """A nearest-neighbour quantiser in training.

    Attributes:
        codebook, gradient: see there.
        commitment: weight of the loss that keeps latents near their codes.
        decay: of the moving averages, a step.
        dead: a code that is used less than so many times the even share, in the moving average, takes the
            place of a latent of the batch; 0 leaves it alone.
    """

    codebook: Codebook = Codebook.LOSS
    gradient: Gradient = Gradient.STRAIGHT
    commitment: float = 0.25
    decay: float = 0.99
    dead: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise InputError(f"decay {self.decay}: choose from 0 to below 1")
        if not 0 <= self.dead < 1 or self.commitment < 0:
            raise InputError(
                f"dead {self.dead}, commitment {self.commitment}: choose 0 or more, dead below 1"
            )


@dataclass(frozen=True)
class GumbelConfig:
    """The relaxation, and how it is annealed (appendix A.2 of 2102.12092, in pictures there 512 a step).

    Attributes:
        temperature: at the beginning and at the end; lower is nearer to one code alone.
        temperature_pictures: that the cosine between them takes.
        divergence: weight, at the end, of the divergence from all codes being as likely; it begins at 0.
        divergence_pictures: until it has that weight.
    """

    temperature: tuple[float, float] = (1.0, 1 / 16)
    temperature_pictures: int = 150_000 * 512
    divergence: float = 6.6
    divergence_pictures: int = 5_000 * 512

    def __post_init__(self) -> None:
        if min(self.temperature) <= 0 or min(self.temperature_pictures, self.divergence_pictures) < 1:
            raise InputError(f"{self}: temperatures must be above 0, pictures 1 or more")

    def temperature_at(self, pictures: float) -> float:
        """The temperature when so many pictures have been seen."""
        return cosine(*self.temperature, pictures / self.temperature_pictures)

    def divergence_at(self, pictures: float) -> float:
        """The weight of the divergence when so many pictures have been seen."""
        return cosine(0.0, self.divergence, pictures / self.divergence_pictures)


def cosine(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine; from `share` 1 on it is the end."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


class CodeUse(nn.Module):
    """The use of a codebook in training: moving averages, kept with the weights for an exact resume."""

    rate: Tensor
    sums: Tensor

    def __init__(self, vocabulary: int, embedding: int) -> None:
        super().__init__()
        self.register_buffer("rate", torch.ones(vocabulary))  # of use; 1 is the even share
        self.register_buffer("sums", torch.zeros(vocabulary, embedding))  # of latents, as `rate` counts them


class Quantised(NamedTuple):
    """A batch of latents (B, E, h, w), quantised."""

    vectors: Tensor  # (B, E, h, w), the codes' with a gradient to the latents
    codes: Tensor  # (B, h, w)
    loss: Tensor  # (), codebook and commitment


def quantise(model: VQGAN, latents: Tensor, config: NearestConfig) -> Quantised:
    """The nearest code of each latent (B, E, h, w)."""
    with torch.autocast(latents.device.type, enabled=False):
        rows = model.comparable(latents.float().movedim(1, -1))  # (B, h, w, E)
        with torch.no_grad():
            codes = model.quantise(latents)
        chosen = model.comparable(model.codebook(codes).float())  # (B, h, w, E)
        loss = config.commitment * F.mse_loss(rows, chosen.detach())
        if config.codebook is Codebook.LOSS:
            loss = loss + F.mse_loss(chosen, rows.detach())
        passed = rotated(rows, chosen) if config.gradient is Gradient.ROTATION else straight(rows, chosen)
        return Quantised(passed.movedim(-1, 1), codes, loss)


def straight(latents: Tensor, codes: Tensor) -> Tensor:
    """The codes, with the gradient handed on to the latents (..., E) unchanged."""
    return latents + (codes - latents).detach()


def rotated(latents: Tensor, codes: Tensor) -> Tensor:
    """The codes as the latents (..., E) rotated and stretched, by fixed amounts: 2410.06424, section 4.2."""
    with torch.no_grad():
        length = latents.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        start = latents / length
        end = F.normalize(codes, dim=-1)
        middle = F.normalize(start + end, dim=-1)
        stretch = codes.norm(dim=-1, keepdim=True) / length
    reflected = latents - 2 * (latents * middle).sum(-1, keepdim=True) * middle
    return stretch * (reflected + 2 * (latents * start).sum(-1, keepdim=True) * end)


@torch.no_grad()
def follow_(
    model: VQGAN,
    use: CodeUse,
    latents: Tensor,
    codes: Tensor,
    config: NearestConfig,
    chance: Tensor,
) -> int:
    """Count a batch's codes (B, h, w), move the codebook where it is an average, give dead codes new work.

    A dead code takes the place of a latent of the batch, of all processes together, by its number of
    `chance`, (V,) uniform in [0, 1) and the same in every process.

    Returns:
        How many codes were dead.
    """
    rows = model.comparable(latents.float().movedim(1, -1)).flatten(0, -2)  # (N, E)
    vocabulary = model.config.vocabulary
    counts = torch.bincount(codes.flatten(), minlength=vocabulary).float()  # (V,)
    sums = torch.zeros_like(use.sums).index_add_(0, codes.flatten(), rows)
    if dist.is_initialized():
        dist.all_reduce(counts)
        dist.all_reduce(sums)
    share = vocabulary / counts.sum()
    use.rate.lerp_(counts * share, 1 - config.decay)
    use.sums.lerp_(sums * share, 1 - config.decay)
    if config.codebook is Codebook.AVERAGE:
        known = use.sums.abs().sum(1) > 0  # a code that was never used stays where it began
        mean = use.sums / use.rate.clamp(min=1e-6)[:, None]
        model.codebook.weight.copy_(
            torch.where(known[:, None], model.comparable(mean), model.codebook.weight)
        )
    dead = (use.rate < config.dead).nonzero().flatten()
    if len(dead):
        fresh = _rows_of_all(rows, chance[dead])
        model.codebook.weight[dead] = fresh.to(model.codebook.weight.dtype)
        use.rate[dead] = 1.0
        use.sums[dead] = fresh
    return len(dead)


def _rows_of_all(rows: Tensor, chance: Tensor) -> Tensor:
    """Rows (D, E) of all processes' rows, of which each holds (N, E), at shares (D,) in [0, 1) of them."""
    several = dist.is_initialized()
    rank, size = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    number = (chance * (len(rows) * size)).long()
    found = rows[number % len(rows)] * (number // len(rows) == rank)[:, None]
    if several:
        dist.all_reduce(found)
    return found


class Relaxed(NamedTuple):
    """A batch of logits (B, V, h, w), relaxed."""

    weights: Tensor  # (B, V, h, w), of the codes, sum 1 at each place
    divergence: Tensor  # (), mean over pictures of the sum over places, in nats


def relax(logits: Tensor, temperature: float, waits: Tensor) -> Relaxed:
    """Weights of the codes (B, V, h, w) with Gumbel noise (1611.01144), and how far they are from uniform.

    The noise is made of `waits` (B, V, h, w), which are exponential of mean 1.
    """
    logits = logits.float()
    weights = F.softmax((logits - waits.clamp(min=1e-20).log()) / temperature, dim=1)
    log_share = F.log_softmax(logits, dim=1)
    divergence = (log_share.exp() * (log_share + math.log(logits.shape[1]))).sum(1)  # (B, h, w)
    return Relaxed(weights, divergence.flatten(1).sum(1).mean())
