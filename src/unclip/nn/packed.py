"""Layers for inference on a CPU: weights laid out for oneDNN's kernels, activations within them.

`F.linear` and `F.conv2d` lay a weight out for the kernel anew at every call, and an activation behind them
reads and writes once more all that they made. Here the one is done when the model is loaded, and the other
before a product leaves the registers. Convolutions also take and give channels-last memory, in which they are
faster, and `group_norm` with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.nn.layers import Module
from unclip.nn.transformer import MLP, QUICK_GELU_SLOPE, quick_gelu
from unclip.nn.weight_subclass import OwnProduct, replace_, replace_matrices_
from unclip.runtime import has_tiles

ROWS = 1024  # of input, which a matrix is laid out for; on AVX512 and AMX it was the same for 8 to 3200


class _Packed(OwnProduct):
    """A weight in oneDNN's own layout. As a tensor it has a shape and a type, and no values: each is NaN.

    Attributes:
        packed: the weight.
    """

    packed: Tensor

    @classmethod
    def of(cls, weight: Tensor, packed: Tensor) -> Self:
        made: Self = torch.Tensor._make_subclass(cls, weight.new_full((), torch.nan).expand(weight.shape))
        made.packed = packed
        return made


class PackedMatrix(_Packed):
    """A matrix (N, K) of float32 or bfloat16.

    Attributes:
        after: what is applied to the product: "none", "gelu" (exact) or "swish" (x * sigmoid(x)).
    """

    after: str

    @staticmethod
    def __new__(cls, matrix: Tensor, after: str = "none") -> Self:
        made = cls.of(matrix, torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), ROWS))
        made.after = after
        return made

    @staticmethod
    def compute(x: Tensor, weight: PackedMatrix, bias: Tensor | None = None) -> Tensor:
        x, bias = x.to(weight.dtype), None if bias is None else bias.to(weight.dtype)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.packed, bias, weight.after, [], "none")
        return out

    def product(self, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
        packed, after = self.packed, self.after
        bias = None if bias is None else bias.to(self.dtype)
        multiply = torch.ops.mkldnn._linear_pointwise.default
        return lambda x: multiply(x, packed, bias, after, [], "none")


class PackedKernel(_Packed):
    """A convolution's kernel (C_out, C_in / groups, H, W), of float32 or bfloat16."""

    function: ClassVar[Callable[..., Tensor]] = F.conv2d

    @staticmethod
    def __new__(cls, layer: nn.Conv2d) -> Self:
        weight = layer.weight.detach()
        return cls.of(weight, torch.ops.mkldnn._reorder_convolution_weight(weight, *_shape(layer)))

    @staticmethod
    def compute(
        x: Tensor,
        weight: PackedKernel,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        x = x.to(weight.dtype).contiguous(memory_format=torch.channels_last)
        bias = None if bias is None else bias.to(weight.dtype)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight.packed, bias, padding, stride, dilation, groups, "none", [], ""
        )
        return out


class PackedPatches(_Packed):
    """A kernel whose pieces do not overlap, as a matrix (C_out, C_in * H * W) in bfloat16."""

    function: ClassVar[Callable[..., Tensor]] = F.conv2d

    @staticmethod
    def __new__(cls, layer: nn.Conv2d) -> Self:
        weight = layer.weight.detach()
        matrix = weight.flatten(1).contiguous()
        return cls.of(weight, torch.ops.mkldnn._reorder_linear_weight(matrix, ROWS))

    @staticmethod
    def compute(x: Tensor, weight: PackedPatches, bias: Tensor | None, *_: Any) -> Tensor:
        high, wide = weight.shape[-2:]
        rows, columns = x.shape[-2] // high, x.shape[-1] // wide
        x = x.to(weight.dtype)[..., : rows * high, : columns * wide]
        pieces = x.unflatten(-1, (columns, wide)).unflatten(-3, (rows, high))  # (B, C, rows, H, columns, W)
        pieces = pieces.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, cells, C_in * H * W)
        bias = None if bias is None else bias.to(weight.dtype)
        out = torch.ops.mkldnn._linear_pointwise(pieces, weight.packed, bias, "none", [], "none")
        return out.transpose(1, 2).unflatten(2, (rows, columns))


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """True where this machine and this PyTorch have the kernels for weights of this type there."""
    return (
        device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and _tried(dtype)
    )


@cache
def _tried(dtype: torch.dtype) -> bool:
    """PyTorch promises nothing of these operations, so they are tried: once, on next to nothing."""
    ones = torch.ones(1, 1, 1, 1, dtype=dtype)
    try:
        with torch.inference_mode():
            layer = nn.Conv2d(1, 1, 1, bias=False).to(dtype)
            layer.weight.copy_(ones)
            found = [F.conv2d(ones, PackedKernel(layer), None, (1, 1), (0, 0), (1, 1), 1)]
            found.append(F.linear(ones[0, 0], PackedMatrix(ones[0, 0])))
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return all(bool((each == 1).all()) for each in found)


@torch.no_grad()
def pack_weights_(model: Module, *, few_rows: bool = False) -> Module:
    """Pack the weights of a model's convolutions, linear layers and attention, on a CPU.

    In float32 linear layers stay as they are, but for networks that see a few rows at a time (`few_rows`) on
    a processor without AMX. On such a one convolutions in bfloat16 become channels-last, for packed they are
    slower there, and those whose pieces do not overlap become matrices. For inference, and only where
    `can_pack`: such a model cannot be trained, saved or moved elsewhere. Its outputs differ by rounding, in
    bfloat16 since what an activation takes is no longer rounded before.
    """
    size = _size(model)
    half = any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    # float32 on two cores of an AMD EPYC: 4 rows are 3 to 5 times as fast as plain, 16 rows 1.6 to 3 times
    matrices_too = half or (few_rows and not has_tiles())
    relaid = 0  # numbers in weights that only became channels-last
    for module in model.modules():
        if type(module) is nn.Conv2d and _packable(module):
            if half and not has_tiles() and _takes_patches(module):
                replace_(module, "weight", PackedPatches(module))
            elif half and not has_tiles():
                module.weight.data = module.weight.data.clone(memory_format=torch.channels_last)
                relaid += module.weight.numel()
            else:
                replace_(module, "weight", PackedKernel(module))
        elif isinstance(module, MLP) and matrices_too:
            _pack_mlp_(module)
    if matrices_too:
        replace_matrices_(model, PackedMatrix)
    if 2 * (_size(model) - relaid) < size:
        # else the little that is left would hold the file that it is mapped from
        for left in (*model.parameters(), *model.buffers()):
            left.data = left.data.clone()
    return model


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """The cost of packed products, for the `custom_mapping` of a `FlopCounterMode`: it does not know them."""

    def linear(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        return 2 * math.prod(x) * weight[0]

    def convolution(
        _: Sequence[int], weight: Sequence[int], *__: Any, out_shape: Sequence[int], **___: Any
    ) -> int:
        return 2 * math.prod(out_shape) * math.prod(weight[1:])

    operations = torch.ops.mkldnn
    return {operations._linear_pointwise: linear, operations._convolution_pointwise: convolution}


# How the kernel calls an activation, and the slope s where f(x) = its(s * x) / s.
FUSED: dict[Callable[[Tensor], Tensor], tuple[str, float]] = {
    F.gelu: ("gelu", 1.0),
    quick_gelu: ("swish", QUICK_GELU_SLOPE),
}


def _pack_mlp_(mlp: MLP) -> None:
    """Both matrices, with the activation in the product of the first, where the kernel knows it."""
    if (fused := FUSED.get(mlp.activation)) is None:
        return
    after, slope = fused
    replace_(mlp.c_fc, "weight", PackedMatrix(mlp.c_fc.weight.detach() * slope, after))
    if mlp.c_fc.bias is not None:
        mlp.c_fc.bias = nn.Parameter(mlp.c_fc.bias * slope, requires_grad=False)
    replace_(mlp.c_proj, "weight", PackedMatrix(mlp.c_proj.weight.detach() / slope))
    mlp.activation = nn.Identity()


def _packable(layer: nn.Conv2d) -> bool:
    """True where the kernel pads as the layer does, and is not packed yet."""
    plain = layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
    return plain and not isinstance(layer.weight, OwnProduct)


def _takes_patches(layer: nn.Conv2d) -> bool:
    """True where each value of the input enters one product with each kernel."""
    padding, stride, dilation, groups = _shape(layer)
    return stride == layer.kernel_size and set(padding) == {0} and set(dilation) == {1} and groups == 1


def _size(model: nn.Module) -> int:
    """Numbers in its parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _shape(layer: nn.Conv2d) -> tuple[Sequence[int], Sequence[int], Sequence[int], int]:
    """Padding, stride, dilation and groups, in the order of oneDNN's operations."""
    assert not isinstance(layer.padding, str)  # `_packable`
    return layer.padding, layer.stride, layer.dilation, layer.groups
