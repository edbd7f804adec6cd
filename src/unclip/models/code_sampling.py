"""Drawing a code from a network's logits: guidance, temperature, top-k, top-p.

The randomness comes from outside, one row of exponential noise a picture, so that a picture draws the same
codes alone and in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unclip.errors import BundleError, InputError

HOTTEST = 100.0


@dataclass(frozen=True)
class CodeSampling:
    """The settings that codes are drawn with.

    Attributes:
        temperature: the logits are divided by it; 1 is what the network says, less is surer.
        top_k: only the k most likely codes are drawn; None is all of them.
        top_p: only the most likely codes that together reach this probability; 1 is all of them.
        guidance: scale of classifier-free guidance ("super-conditioning", "condition scale"); 1 is none.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= HOTTEST:
            raise InputError(f"temperature is {self.temperature}: choose more than 0, at most {HOTTEST:g}")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}: choose 1 or more")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}: choose more than 0, at most 1")
        if not self.guidance >= 0:
            raise InputError(f"guidance is {self.guidance}: choose 0 or more")


def guided(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Logits (B, V) moved away from those without the prompt; scale 1 gives the conditional ones."""
    return unconditional * (1 - scale) + conditional * scale


def draw_codes(logits: Tensor, noise: Tensor, sampling: CodeSampling) -> Tensor:
    """One code a row.

    The code with the largest probability / noise is a draw from the probabilities, where the noise is
    exponential: it is the one whose exponential clock rings first. `torch.multinomial` draws one sample in
    the same way, and so the same one from the same noise.

    Args:
        logits: (B, V), already guided.
        noise: (B, V), positive, standard exponential.
        sampling: see `CodeSampling`.

    Returns:
        (B,) int64.
    """
    return (_weights(logits, sampling) / noise).argmax(1)


def draw_ordered(logits: Tensor, uniform: Tensor, sampling: CodeSampling) -> Tensor:
    """As `draw_codes`, for codes whose order means something: the buckets of a number.

    The code at a share of the probabilities' sum. So where logits round a little differently, as in a batch
    of another size, the code is the same or a neighbour.

    Args:
        logits: (B, V), already guided.
        uniform: (B, 1), the share, in [0, 1).
        sampling: see `CodeSampling`.

    Returns:
        (B,) int64.
    """
    below = _weights(logits, sampling).cumsum(1)  # (B, V)
    return (below <= uniform * below[:, -1:]).sum(1).clamp(max=logits.shape[1] - 1)


def _weights(logits: Tensor, sampling: CodeSampling) -> Tensor:
    """Likelihoods of the codes, (B, V) float32, not summing to anything; 0 for those not to be drawn."""
    logits = logits.float()
    weights = ((logits - logits.amax(1, keepdim=True)) / sampling.temperature).exp()  # (B, V), largest 1
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k, dim=1).values[:, -1:]  # (B, 1); of equals all stay
        weights = weights * (logits >= least)
    if sampling.top_p < 1:
        falling, order = weights.sort(dim=1, descending=True)
        before = falling.cumsum(1) - falling  # (B, V): what the likelier ones hold together
        kept = before < sampling.top_p * falling.sum(1, keepdim=True)
        weights = weights * torch.zeros_like(kept).scatter(1, order, kept)
    return weights


def write_codes(
    step: Callable[[Tensor | None], Tensor],
    count: int,
    noise: Callable[[], Tensor],
    sampling: CodeSampling,
    draw: Callable[[Tensor, Tensor, CodeSampling], Tensor] = draw_codes,
) -> Iterator[Tensor]:
    """Draw codes one position after the other; yields those of each position, (B,) int64.

    Args:
        step: logits of the next position from the codes that were drawn last (None at the beginning). They
            are (B, V); with guidance (2B, V), the first half without the prompt, from the codes (2B,).
        count: positions.
        noise: what `draw` draws with, anew for each position.
        sampling: see `CodeSampling`; scale 1 is without guidance.
        draw: `draw_codes`, of exponential noise (B, V), or `draw_ordered`, of shares (B, 1).

    Raises:
        BundleError: at the end, where logits were no numbers (NaN).
    """
    last: Tensor | None = None
    broken: Tensor | None = None  # stays on its device: to look at each step would wait for it
    for _ in range(count):
        logits = step(last).float()
        if sampling.guidance != 1:
            unconditional, conditional = logits.chunk(2)
            logits = guided(conditional, unconditional, sampling.guidance)
        broken = logits.isnan().any() if broken is None else broken | logits.isnan().any()
        codes = draw(logits, noise(), sampling)
        last = codes if sampling.guidance == 1 else codes.repeat(2)
        yield codes
    if broken is not None and bool(broken):
        raise BundleError(
            "the likelihoods of codes are no numbers, so weights or settings are broken: install or pull the "
            "bundle again"
        )


def exponential_noise(
    generators: Sequence[torch.Generator], width: int, device: torch.device
) -> Callable[[], Tensor]:
    """Noise for `write_codes`: (B, width), each row from its picture's own CPU generator."""

    def noise() -> Tensor:
        rows = [torch.empty(width).exponential_(generator=generator) for generator in generators]
        return torch.stack(rows).to(device)

    return noise


def uniform_noise(generators: Sequence[torch.Generator], device: torch.device) -> Callable[[], Tensor]:
    """Shares for `draw_ordered`: (B, 1) in [0, 1), each row from its picture's own CPU generator."""

    def noise() -> Tensor:
        return torch.stack([torch.rand(1, generator=generator) for generator in generators]).to(device)

    return noise
