"""Weights made of other weights: several files under one set of names, stacked layers one by one.

What a key table cannot say, because it changes how many tensors there are, or all names at once. Nothing is
read before it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from unclip.checkpoints.weights import Entry, Weights
from unclip.errors import CheckpointError


def gathered(where: str, parts: Mapping[str, Weights]) -> Weights:
    """The weights of several files, each file's names behind its prefix and a dot."""
    entries = {
        f"{prefix}.{name}": _entry(weights, name) for prefix, weights in parts.items() for name in weights
    }
    return Weights(where, entries, {})


def renamed(weights: Weights, pattern: str, replacement: str) -> Weights:
    """The same weights, `pattern` replaced in every name as by `re.sub`."""
    entries = {re.sub(pattern, replacement, name): _entry(weights, name) for name in weights}
    return Weights(weights.where, entries, weights.extra)


def permuted(weights: Weights, end: str, new_end: str, axes: tuple[int, ...]) -> Weights:
    """The same weights; those whose names end in `end` end in `new_end` and have their axes in that order.

    Raises:
        CheckpointError: one of them has another number of axes.
    """
    entries = {}
    for name, shape in weights.shapes.items():
        if not name.endswith(end):
            entries[name] = _entry(weights, name)
            continue
        if len(shape) != len(axes):
            raise CheckpointError(
                f"{weights.where}: {name} is {list(shape)} and should have {len(axes)} axes"
            )
        entries[name.removesuffix(end) + new_end] = Entry(
            tuple(shape[axis] for axis in axes),
            weights.dtypes[name],
            partial(_permuted, weights, name, axes),
        )
    return Weights(weights.where, entries, weights.extra)


def unstacked(weights: Weights, stack: str, layers: str) -> Weights:
    """The same weights, with each tensor below `stack` cut along its first axis into those of its layers.

    Args:
        weights: for example of Flax's `scan`, which keeps all layers of a network in one tensor each.
        stack: name of the module that is stacked.
        layers: name to give to the layers; the number of each and a dot follow.

    Raises:
        CheckpointError: the tensors do not have the same number of layers.
    """
    entries, start = {}, f"{stack}."
    counts = {shape[:1] for name, shape in weights.shapes.items() if name.startswith(start)}
    if len(counts) > 1 or () in counts:
        found = ", ".join(str(list(count)) for count in sorted(counts))
        raise CheckpointError(f"{weights.where}: the tensors of {stack} disagree on its layers: {found}")
    for name, shape in weights.shapes.items():
        if not name.startswith(start):
            entries[name] = _entry(weights, name)
            continue
        for i in range(shape[0]):
            entries[f"{layers}.{i}.{name.removeprefix(start)}"] = Entry(
                shape[1:], weights.dtypes[name], partial(_layer, weights, name, i)
            )
    return Weights(weights.where, entries, weights.extra)


def filled(weights: Weights, missing: Mapping[str, Tensor]) -> Weights:
    """The same weights and, where they lack these, these."""
    entries = {
        name: Entry(tuple(tensor.shape), tensor.dtype, tensor.clone) for name, tensor in missing.items()
    }
    return Weights(weights.where, entries | {name: _entry(weights, name) for name in weights}, weights.extra)


def _entry(weights: Weights, name: str) -> Entry:
    return Entry(weights.shapes[name], weights.dtypes[name], partial(weights.__getitem__, name))


def _permuted(weights: Weights, name: str, axes: tuple[int, ...]) -> Tensor:
    return weights[name].permute(axes)


def _layer(weights: Weights, name: str, i: int) -> Tensor:
    return weights[name][i]
