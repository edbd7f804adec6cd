"""Group normalisation (1803.08494), and its fast form where channels lie last in a CPU's memory.

Convolutions of oneDNN run up to twice as fast on channels-last pictures, but torch's own group normalisation
takes so much longer there that nothing is gained (docs/training-log.md). Sums over each channel are cheap in
that layout, and a group's statistics follow from them: what is left to do is one gain and one bias a channel,
which the modulation of a residual block joins for nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

NORM_GROUPS = 32  # ADM, 2105.05233
SMALL = 256  # cells of a grid that is normalised sooner in the plain layout where no gradients are taken
BLOCK = 4096  # cells that torch's batch normalisation may add up one by one: more, and float32 loses digits


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` that can be modulated: the same parameters, the same numbers but for rounding."""

    def forward(self, x: Tensor, gain: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Normalise, then multiply by `gain` and add `bias` (adaptive group normalisation, Eq. 3 of ADM).

        Args:
            x: (B, C, H, W).
            gain, bias: (B, C), both or neither.
        """
        if _channels_last_on_cpu(x) and not torch.is_grad_enabled() and x[0, 0].numel() <= SMALL:
            x = x.contiguous()
        if _channels_last_on_cpu(x):
            wide = torch.promote_types(x.dtype, torch.float32)
            own_gain, own_bias = self.weight.to(wide), self.bias.to(wide)  # (C,)
            if gain is None or bias is None:
                both = own_gain.expand(len(x), -1), own_bias.expand(len(x), -1)  # (B, C) each
            else:
                both = own_gain * gain, own_bias * gain + bias
            if not torch.is_grad_enabled():
                return _without_gradient(x, *both, self.num_groups, self.eps)
            out: Tensor = _ChannelsLast.apply(x, *both, self.num_groups, self.eps)
            return out
        normalised = super().forward(x)
        if gain is None or bias is None:
            return normalised
        return torch.addcmul(bias[:, :, None, None], normalised, gain[:, :, None, None])


def group_norm(channels: int) -> GroupNorm:
    """Group normalisation with ADM's 32 groups, fewer where 32 does not divide the channels."""
    return GroupNorm(math.gcd(NORM_GROUPS, channels), channels)


def _channels_last_on_cpu(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.ndim == 4
        and not x.is_contiguous()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _without_gradient(x: Tensor, gain: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    """`_ChannelsLast` by torch's batch normalisation, one picture at a time: it reads the picture twice.

    Statistics of each channel become those of its group; gain and bias are added on the way out.
    """
    out = torch.empty_like(x)
    unused = gain.new_empty(0), gain.new_empty(0)
    for one, into, own_gain, own_bias in zip(x.split(1), out.split(1), gain, bias, strict=True):
        mean, variance = _statistics(one, own_gain)
        means = mean.view(groups, -1)  # (groups, C / groups)
        mean_of_group = means.mean(1, keepdim=True)  # (groups, 1)
        variance_of_group = (variance.view(groups, -1) + (means - mean_of_group) ** 2).mean(1, keepdim=True)
        mean = mean_of_group.expand_as(means).flatten()
        variance = variance_of_group.expand_as(means).flatten()
        torch.native_batch_norm(one, own_gain, own_bias, mean, variance, False, 0.0, eps, out=(into, *unused))
    return out


def _statistics(one: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of one picture (1, C, H, W), (C,) of the type of `like`.

    They are found for blocks of cells, small enough for a cache, and put together in float64.
    """
    cells = one.permute(0, 2, 3, 1).flatten(0, 2)  # (HW, C), a view
    running = torch.zeros_like(like)  # what is found has its type; it serves for nothing else
    blocks = cells.split(BLOCK)
    found = [torch.batch_norm_update_stats(block, running, running, 0.0) for block in blocks]
    if len(found) == 1:
        return found[0]
    share = torch.tensor([len(block) / len(cells) for block in blocks], dtype=torch.float64)  # (K,)
    means, variances = (torch.stack(each).double() for each in zip(*found, strict=True))  # (K, C)
    mean = share @ means  # (C,)
    return mean.to(like.dtype), (share @ (variances + (means - mean) ** 2)).to(like.dtype)


class _ChannelsLast(torch.autograd.Function):
    """Statistics, gain and bias (B, C) of channels-last x (B, C, H, W), all from sums over channels.

    The group's mean is taken off first: of values far from zero the squares would drown the variance. In
    bfloat16 the mean that can be taken off is rounded, and `left` (B, C) is what remains of it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        count = x[0].numel() // groups
        mean = _of_channels(_of_groups(_channel_sums(x), groups) / count, x)  # (B, C)
        centred = x - _like(mean, x)
        left = mean - mean.to(x.dtype)
        variance = _of_channels(_of_groups(_channel_sums(centred * centred), groups) / count, x) - left**2
        scale = torch.rsqrt(variance.clamp(min=0) + eps)  # 1 / standard deviation, (B, C)
        ctx.save_for_backward(centred, gain, left, scale)
        ctx.groups = groups
        factor = gain * scale
        return torch.addcmul(_like(bias - factor * left, x), centred, _like(factor, x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        centred, gain, left, scale = ctx.saved_tensors
        groups: int = ctx.groups
        count = centred[0].numel() // groups
        grad = grad.to(centred.dtype).contiguous(memory_format=torch.channels_last)
        to_bias = _channel_sums(grad)  # (B, C)
        to_gain = (_channel_sums(grad * centred) - left * to_bias) * scale
        # d loss / d x = scale (gain grad - m1 - normalised m2), m1, m2 the means over the group of gain grad
        # and of gain grad normalised: a sum of grad, centred and 1 with a factor a channel each
        m1 = _of_channels(_of_groups(gain * to_bias, groups) / count, grad)
        m2 = _of_channels(_of_groups(gain * to_gain, groups) / count, grad)
        of_centred = -m2 * scale**2
        constant = -m1 * scale - of_centred * left
        to_x = torch.addcmul(_like(constant, grad), centred, _like(of_centred, grad))
        to_x.addcmul_(grad, _like(gain * scale, grad))
        return to_x, to_gain, to_bias, None, None


def _channel_sums(x: Tensor) -> Tensor:
    """(B, C) float32 at least, of channels-last (B, C, H, W)."""
    rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, HW, C), a view
    return rows.sum(1, dtype=torch.promote_types(x.dtype, torch.float32))


def _of_groups(channels: Tensor, groups: int) -> Tensor:
    """Sums over the channels of each group, (B, C) -> (B, groups)."""
    return channels.unflatten(1, (groups, -1)).sum(2)


def _of_channels(groups: Tensor, x: Tensor) -> Tensor:
    """Each channel gets what its group has, (B, groups) -> (B, C)."""
    return groups.repeat_interleave(x.shape[1] // groups.shape[1], dim=1)


def _like(channels: Tensor, x: Tensor) -> Tensor:
    """(B, C) -> (B, C, 1, 1) of the type of x."""
    return channels.to(x.dtype)[:, :, None, None]
