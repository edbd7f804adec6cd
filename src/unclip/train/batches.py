"""Batches on their way to the loss: prepared in a thread ahead of their use, moved to the training device."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

AHEAD = 2  # steps whose batches are prepared while one is used


def prefetch(draw: Callable[[int], list[Any]], first: int, end: int) -> Generator[list[Any]]:
    """`draw(step)` for each step from `first` to before `end`, in this order. Close it to end its thread."""
    waiting: deque[Future[list[Any]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        try:
            for step in range(first, end):
                while len(waiting) <= AHEAD and step + len(waiting) < end:
                    waiting.append(pool.submit(draw, step + len(waiting)))
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def to_device(value: Any, device: torch.device) -> Any:
    """The value with every tensor in it (in tuples, lists, dictionaries, dataclasses) on `device`."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        moved = {
            field.name: to_device(getattr(value, field.name), device)
            for field in dataclasses.fields(value)
            if field.init
        }
        return dataclasses.replace(value, **moved)
    return value
