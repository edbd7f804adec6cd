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

MOST_LAYERS = 1000


def gathered(where: str, parts: Mapping[str, Weights]) -> Weights:
    """The weights of several files, each file's names behind its prefix and a dot."""
    entries = {
        f"{prefix}.{name}": entry
        for prefix, weights in parts.items()
        for name, entry in weights.entries.items()
    }
    return Weights(where, entries, {})


def renamed(weights: Weights, pattern: str, replacement: str) -> Weights:
    """The same weights, `pattern` replaced in every name as by `re.sub`."""
    entries = {re.sub(pattern, replacement, name): entry for name, entry in weights.entries.items()}
    return Weights(weights.where, entries, weights.extra)


def permuted(weights: Weights, end: str, new_end: str, axes: tuple[int, ...]) -> Weights:
    """The same weights; those whose names end in `end` end in `new_end` and have their axes in that order.

    Raises:
        CheckpointError: one of them has another number of axes.
    """
    entries = {}
    for name, entry in weights.entries.items():
        if not name.endswith(end):
            entries[name] = entry
            continue
        if len(entry.shape) != len(axes):
            raise CheckpointError(
                f"{weights.where}: {name} is {list(entry.shape)} and should have {len(axes)} axes"
            )
        shape = tuple(entry.shape[axis] for axis in axes)
        entries[name.removesuffix(end) + new_end] = Entry(shape, entry.dtype, partial(_permuted, entry, axes))
    return Weights(weights.where, entries, weights.extra)


def unstacked(weights: Weights, stack: str, layers: str) -> Weights:
    """The same weights, with each tensor below `stack` cut along its first axis into those of its layers.

    Args:
        weights: for example of Flax's `scan`, which keeps all layers of a network in one tensor each.
        stack: name of the module that is stacked.
        layers: name to give to the layers; the number of each and a dot follow.

    Raises:
        CheckpointError: the tensors do not have the same number of layers, or a number that no network has.
    """
    entries, start = {}, f"{stack}."
    counts = {shape[:1] for name, shape in weights.shapes.items() if name.startswith(start)}
    if len(counts) > 1 or () in counts:
        found = ", ".join(str(list(count)) for count in sorted(counts))
        raise CheckpointError(f"{weights.where}: the tensors of {stack} disagree on its layers: {found}")
    if max(counts, default=(0,)) > (MOST_LAYERS,):
        raise CheckpointError(f"{weights.where}: {stack} has {max(counts)[0]} layers, most are {MOST_LAYERS}")
    for name, entry in weights.entries.items():
        if not name.startswith(start):
            entries[name] = entry
            continue
        for i in range(entry.shape[0]):
            layer = Entry(entry.shape[1:], entry.dtype, partial(_layer, entry, i))
            entries[f"{layers}.{i}.{name.removeprefix(start)}"] = layer
    return Weights(weights.where, entries, weights.extra)


def filled(weights: Weights, missing: Mapping[str, Tensor]) -> Weights:
    """The same weights and, where they lack these, these."""
    entries = {
        name: Entry(tuple(tensor.shape), tensor.dtype, tensor.clone) for name, tensor in missing.items()
    }
    return Weights(weights.where, {**entries, **weights.entries}, weights.extra)


def _permuted(entry: Entry, axes: tuple[int, ...]) -> Tensor:
    return entry.read().permute(axes)


def _layer(entry: Entry, i: int) -> Tensor:
    return entry.read()[i]
