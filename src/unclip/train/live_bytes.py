"""Counts the bytes of tensors that are alive at once: exact, and the same on every machine."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CASTS = (torch.ops.aten._to_copy.default, torch.ops.aten.to.dtype)


class LiveBytes(TorchDispatchMode):
    """While it is entered, `peak` is the most that tensors made within have held at one time.

    `now` is what they hold at present. Copies of `weights` in another number format, as autocast makes them,
    are part of it: `cast_now` at present, `cast` at the most.
    """

    def __init__(self, weights: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = self.cast_now = self.cast = 0
        self._weights = {id(weight.untyped_storage()) for weight in weights}
        self._known = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {id(leaf.untyped_storage()) for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        is_cast = func in CASTS and bool(inputs & self._weights)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if id(storage) not in inputs and storage not in self._known:
                    self._add(storage, is_cast)
        return result

    def _add(self, storage: Any, is_cast: bool) -> None:
        size = storage.nbytes()
        self._known.add(storage)
        self.now += size
        self.peak = max(self.peak, self.now)
        if is_cast:
            self.cast_now += size
            self.cast = max(self.cast, self.cast_now)
        weakref.finalize(storage, self._remove, size, is_cast)

    def _remove(self, size: int, is_cast: bool) -> None:
        self.now -= size
        self.cast_now -= size if is_cast else 0
