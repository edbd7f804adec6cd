"""The steps that reading somebody's file may take, so that few bytes never become much memory or time."""

from __future__ import annotations

import math
from typing import Any

from unclip.errors import CheckpointError

# The largest real files, with the state of an optimiser for thousands of tensors, take some 100,000.
MOST_STEPS = 2_000_000
LETTERS = 16  # characters or bytes that count as one step
MOST_SIDES = 64  # dimensions of a tensor
LARGEST_COUNT = 2**40  # numbers of a tensor, and each of its sides where it has none


class Work:
    """The steps that are left. One makes or moves a value, or copies `LETTERS` characters."""

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def spend(self, steps: int) -> None:
        """Take steps. Raises CheckpointError where there are not as many."""
        self.left -= steps
        if self.left < 0:
            raise CheckpointError(
                f"refused, for it takes more than {MOST_STEPS} steps to read, and no checkpoint does: "
                "get the weights from somebody you trust, best as safetensors"
            )


def is_count(value: Any) -> bool:
    """True where a value may be a count of numbers."""
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def is_shape(sides: Any) -> bool:
    """True where a value may be the shape of a tensor."""
    few = isinstance(sides, (tuple, list)) and len(sides) <= MOST_SIDES and all(map(is_count, sides))
    return few and is_count(math.prod(side or 1 for side in sides))  # torch multiplies them as well


def extent(value: object) -> int:
    """The steps to copy a value, of what it holds the references alone."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) // LETTERS
    if isinstance(value, int):
        return value.bit_length() // (8 * LETTERS)
    return len(value) if isinstance(value, (list, tuple, dict, set, frozenset)) else 0
