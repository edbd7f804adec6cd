"""Weights of matrices in eight bits, for drawing: what is read a step is half of bfloat16's.

Each row is scaled by its largest value. At a few rows of input a CPU multiplies straight from the eight bits
(PyTorch's kernel for weight-only quantisation); at more the matrix is made wide again first.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.nn.layers import Module
from unclip.nn.weight_subclass import OwnProduct, replace_matrices_

LARGEST = 127
FEW = 4  # rows of input up to which the kernel is faster than a product in bfloat16; measured on AVX512


class Int8Matrix(OwnProduct):
    """A matrix (N, K) in eight bits that `F.linear` takes as a weight.

    Attributes:
        eight: (N, K) int8, the same memory as an ordinary tensor.
        scale: (N,) what each row is multiplied by.
    """

    eight: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, matrix: Tensor) -> Self:
        scale = matrix.float().abs().amax(1).clamp(min=1e-12) / LARGEST  # (N,)
        rounded = (matrix.float() / scale[:, None]).round().to(torch.int8)
        made: Self = torch.Tensor._make_subclass(cls, rounded)
        made.eight, made.scale = rounded, scale.to(matrix.dtype)
        return made

    @staticmethod
    def compute(x: Tensor, weight: Int8Matrix, bias: Tensor | None = None) -> Tensor:
        scale = weight.scale
        rows = x.numel() // x.shape[-1]
        if rows <= FEW and x.device.type == "cpu":
            flat = x.reshape(rows, -1).to(scale.dtype)
            out: Tensor = torch.ops.aten._weight_int8pack_mm(flat, weight.eight, scale)
            out = out.view(*x.shape[:-1], -1)
        else:
            out = F.linear(x.to(scale.dtype), weight.wide())
        return out if bias is None else out + bias.to(out.dtype)

    def wide(self) -> Tensor:
        """The matrix in the type it was made from."""
        return self.eight.to(self.scale.dtype) * self.scale[:, None]


def quantise_weights_(model: Module) -> Module:
    """Put the matrices of a model's linear layers and attention into eight bits; embeddings stay.

    For inference: such a model cannot be trained, saved or moved to another device.
    """
    replace_matrices_(model, Int8Matrix)
    return model
