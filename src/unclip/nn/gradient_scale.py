"""Training in 16 bits with a gradient scale for every residual branch (2102.12092, section 2.4, appendix D).

Gradients of deep layers become too small for float16 one layer after the other. So each branch gets its
incoming gradient multiplied by a scale of its own and hands its outgoing one back divided by it; what runs
past the branches stays in float32. A scale grows slowly while all is finite, and shrinks when it is not.

Where the paper skips the update of a branch whose gradient is not finite, that gradient counts as zero here.
For one process or DDP: FSDP has parameters of its own, which these hooks would not see.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unclip.nn.transformer import Block, LayerCache, TransformerConfig

# Appendix D: all but the patience times the number of processes that share a batch.
FIRST, LEAST, MOST = 2.0**13, 2.0**7, 2.0**24
GROWTH = 2.0 ** (1 / 1000)  # an update
BACKOFF = 2.0**-0.5
PATIENCE = 125  # updates between two divisions of one scale


class GradientScales(nn.Module):
    """One scale a branch, and what happened to each since the last update. They are kept with the weights."""

    scale: Tensor
    rested: Tensor
    bad: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.replicas = dist.get_world_size() if dist.is_initialized() else 1
        self.register_buffer("scale", torch.full((count,), FIRST * self.replicas))
        self.register_buffer("rested", torch.full((count,), PATIENCE))  # updates since the last division
        self.register_buffer("bad", torch.zeros(count, dtype=torch.bool), persistent=False)

    @torch.no_grad()
    def update_(self) -> None:
        """Change the scales by what the last backward pass found; to be called before the next."""
        if dist.is_initialized():
            everywhere = self.bad.float()
            dist.all_reduce(everywhere, dist.ReduceOp.MAX)
            self.bad.copy_(everywhere > 0)
        divided = self.bad & (self.rested >= PATIENCE)
        changed = torch.where(divided, self.scale * BACKOFF, self.scale)
        changed = torch.where(self.bad, changed, self.scale * GROWTH)
        self.scale.copy_(changed.clamp(LEAST * self.replicas, MOST * self.replicas))
        self.rested.copy_(torch.where(divided, 0, self.rested + 1))
        self.bad.zero_()

    def finite(self, index: int, gradient: Tensor) -> Tensor:
        """A gradient with zero in place of what is not finite, which is remembered."""
        whole = torch.isfinite(gradient)
        self.bad[index] |= ~whole.all()
        return torch.where(whole, gradient, 0.0)

    def watch(self, index: int, parameters: Iterable[nn.Parameter]) -> None:
        """Have the gradients of a branch's parameters divided by its scale, before anybody else sees them."""

        def unscaled(gradient: Tensor) -> Tensor:
            return self.finite(index, gradient.float()) / self.scale[index]

        for parameter in parameters:
            parameter.register_hook(unscaled)


class _Enter(torch.autograd.Function):
    """The entry of a branch: going back, the gradient is made finite and divided."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: GradientScales, index: int) -> Tensor:
        ctx.scales, ctx.index = scales, index
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return ctx.scales.finite(ctx.index, gradient.float()) / ctx.scales.scale[ctx.index], None, None


class _Leave(torch.autograd.Function):
    """The exit of a branch, in float32: going back, the gradient is multiplied and then made short again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: GradientScales, index: int) -> Tensor:
        ctx.scales, ctx.index, ctx.dtype = scales, index, x.dtype
        return x.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return (gradient * ctx.scales.scale[ctx.index]).to(ctx.dtype), None, None


class ScaledBlock(Block):
    """A block whose two branches train in float16, each with its own gradient scale; else it is a `Block`."""

    def __init__(self, config: TransformerConfig, scales: GradientScales, index: int) -> None:
        super().__init__(config)
        self._scales = (scales,)  # not as a module of this one: they are the model's, and saved once
        self.index = index
        scales.watch(index, (*self.ln_1.parameters(), *self.attn.parameters()))
        scales.watch(index + 1, (*self.ln_2.parameters(), *self.mlp.parameters()))

    def forward(
        self,
        x: Tensor,
        allowed: Tensor | None = None,
        *,
        causal: bool = False,
        cache: LayerCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """As of `Block`; in training `x` is kept in float32."""
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x, allowed, causal=causal, cache=cache, start=start)
        (scales,) = self._scales
        x = x.float()
        with torch.autocast(x.device.type, torch.float16):
            h = self.ln_1(_Enter.apply(x, scales, self.index))
            h = self.attn(h, allowed, causal=causal, cache=cache, start=start)
            x = x + self.drop(_Leave.apply(h, scales, self.index))
            h = self.mlp(self.ln_2(_Enter.apply(x, scales, self.index + 1)))
            return x + self.drop(_Leave.apply(h, scales, self.index + 1))
