"""Batch normalisation (1502.03167) over the batch of all processes that train together.

Torch's `SyncBatchNorm` does so on GPUs alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, whose mean and variance are those of all processes that train together.

    Each process must hold as many pictures of one size. In one process, and in evaluation, it is torch's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        self._check_input_dim(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = _mean_of_processes(wide.mean(dim=(0, 2, 3)))  # (C,)
        centred = wide - mean[:, None, None]
        variance = _mean_of_processes(centred.square().mean(dim=(0, 2, 3)))  # (C,)
        self._note_(mean.detach(), variance.detach(), dist.get_world_size() * x[:, 0].numel())
        gain = torch.rsqrt(variance + self.eps) * self.weight.to(wide.dtype)  # (C,)
        return (centred * gain[:, None, None] + self.bias.to(wide.dtype)[:, None, None]).to(x.dtype)

    def _note_(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics towards those of `count` cells, as torch does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = variance * (count / max(1, count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; the gradient of each process's is that of all results."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _mean_of_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, through which each has the gradients of all."""
    total: Tensor = _Sum.apply(value)
    return total / dist.get_world_size()
