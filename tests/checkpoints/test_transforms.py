"""Promises of weights made of others: names, shapes and values, and nothing read before it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unclip.checkpoints.transforms import filled, gathered, permuted, renamed, unstacked
from unclip.checkpoints.weights import Entry, Weights
from unclip.errors import CheckpointError


def weights(**tensors: Tensor) -> tuple[Weights, list[str]]:
    """Weights that note what is read of them; `a__b` is called `a.b`."""
    read: list[str] = []

    def reader(name: str, tensor: Tensor) -> Callable[[], Tensor]:
        def noted() -> Tensor:
            read.append(name)
            return tensor

        return noted

    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    entries = {
        name: Entry(tuple(tensor.shape), tensor.dtype, reader(name, tensor)) for name, tensor in named.items()
    }
    return Weights("here", entries, {"kept": 1}), read


def test_files_are_gathered_behind_their_prefixes() -> None:
    first, read = weights(a=torch.ones(2))
    second, _ = weights(a=torch.zeros(3))
    both = gathered("there", {"x": first, "y": second})
    assert both.shapes == {"x.a": (2,), "y.a": (3,)}
    assert not read
    assert torch.equal(both["x.a"], torch.ones(2))
    assert (both.where, read) == ("there", ["a"])


def test_stacked_layers_are_cut_and_their_kernels_turned() -> None:
    stack = torch.arange(12.0).view(2, 2, 3)
    stacked, read = weights(net__layers__kernel=stack, net__bias=torch.ones(2))
    layers = permuted(unstacked(stacked, "net.layers", "net"), ".kernel", ".weight", (1, 0))
    layers = renamed(layers, "^net", "n")
    assert layers.shapes == {"n.0.weight": (3, 2), "n.1.weight": (3, 2), "n.bias": (2,)}
    assert layers.extra == {"kept": 1}
    assert not read
    assert torch.equal(layers["n.1.weight"], stack[1].T)


def test_what_is_there_is_not_filled() -> None:
    one, _ = weights(a=torch.ones(2))
    both = filled(one, {"a": torch.zeros(2), "b": torch.zeros(3)})
    assert torch.equal(both["a"], torch.ones(2))
    assert torch.equal(both["b"], torch.zeros(3))


def test_tensors_that_do_not_fit_are_named() -> None:
    uneven, _ = weights(net__a=torch.ones(2, 3), net__b=torch.ones(3, 3))
    with pytest.raises(CheckpointError, match=r"here: .* net disagree on its layers: \[2\], \[3\]"):
        unstacked(uneven, "net", "layers")
    with pytest.raises(CheckpointError, match="net has 1000000000000 layers, most are 1000"):
        unstacked(weights(net__a=torch.empty(10**12, 0))[0], "net", "layers")
    flat, _ = weights(a__kernel=torch.ones(3))
    with pytest.raises(CheckpointError, match=r"a\.kernel is \[3\] and should have 2 axes"):
        permuted(flat, ".kernel", ".weight", (1, 0))
