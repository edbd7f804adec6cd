"""The error of tensors, and tensors of any size without data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reference.guided import Shapes


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


class MetaWeights(dict[str, Tensor]):
    """Tensors of these shapes without data, where weights are expected."""

    where = "full size"

    def __init__(self, shapes: Shapes) -> None:
        super().__init__({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
        self.shapes = shapes
