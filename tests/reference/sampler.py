"""guided-diffusion's respaced sampler written a second time, a step at a time, on tensors of any type.

After 2006.11239, 2102.09672 and 2105.05233 in the published form: betas of the kept steps from the ratio of
alpha_bar, x0 clipped before the mean is made, a classifier's gradient added to the mean (ancestral) or to
epsilon (DDIM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STEPS = 1000


def linear_betas() -> list[float]:
    return [1e-4 + (0.02 - 1e-4) * i / (STEPS - 1) for i in range(STEPS)]


def cosine_betas() -> list[float]:
    def alpha_bar(i: int) -> float:
        return math.cos((i / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(1 - alpha_bar(i + 1) / alpha_bar(i), 0.999) for i in range(STEPS)]


class PublishedSampler:
    """A process that visits the steps `kept` (increasing); t counts them."""

    def __init__(self, betas: Sequence[float], kept: Sequence[int]) -> None:
        self.kept = list(kept)
        bars, product = [], 1.0
        for beta in betas:
            product *= 1 - beta
            bars.append(product)
        self.bar = [bars[i] for i in kept]
        self.before = [1.0, *self.bar[:-1]]
        self.beta = [1 - now / before for now, before in zip(self.bar, self.before, strict=True)]
        variances = [
            beta * (1 - before) / (1 - now)
            for beta, before, now in zip(self.beta, self.before, self.bar, strict=True)
        ]
        self.small = [math.log(variance) for variance in (variances[1], *variances[1:])]

    def _x0(self, x: Tensor, epsilon: Tensor, t: int, change: Callable[[Tensor], Tensor] | None) -> Tensor:
        x0 = math.sqrt(1 / self.bar[t]) * x - math.sqrt(1 / self.bar[t] - 1) * epsilon
        return (x0 if change is None else change(x0)).clamp(-1, 1)

    def ancestral(
        self,
        x: Tensor,
        t: int,
        output: Tensor,
        noise: Tensor,
        *,
        gradient: Tensor | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """One step with a learned range; `gradient` times the scale, `change` what is done to x0."""
        epsilon, v = output.chunk(2, dim=1)
        share = (v + 1) / 2
        log_variance = share * math.log(self.beta[t]) + (1 - share) * self.small[t]
        x0 = self._x0(x, epsilon, t, change)
        mean = (
            self.beta[t] * math.sqrt(self.before[t]) / (1 - self.bar[t]) * x0
            + (1 - self.before[t]) * math.sqrt(1 - self.beta[t]) / (1 - self.bar[t]) * x
        )
        if gradient is not None:
            mean = mean + log_variance.exp() * gradient
        return mean if t == 0 else mean + (log_variance / 2).exp() * noise

    def ddim(self, x: Tensor, t: int, output: Tensor, *, gradient: Tensor | None = None) -> Tensor:
        """One step without noise; `gradient` times the scale."""
        x0 = self._x0(x, output.chunk(2, dim=1)[0], t, None)
        epsilon = (math.sqrt(1 / self.bar[t]) * x - x0) / math.sqrt(1 / self.bar[t] - 1)
        if gradient is not None:
            epsilon = epsilon - math.sqrt(1 - self.bar[t]) * gradient
            x0 = math.sqrt(1 / self.bar[t]) * x - math.sqrt(1 / self.bar[t] - 1) * epsilon
            epsilon = (math.sqrt(1 / self.bar[t]) * x - x0) / math.sqrt(1 / self.bar[t] - 1)
        return math.sqrt(self.before[t]) * x0 + math.sqrt(1 - self.before[t]) * epsilon


def gradient_of(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of the sum of what `objective` gives for each picture."""
    position = x.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(position).sum(), position)
    return gradient
