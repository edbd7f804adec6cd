"""Generators that work step by step, run to their end."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


def done(work: Generator[Step, None, Result]) -> tuple[list[Step], Result]:
    """Its steps, and its result."""
    steps = []
    while True:
        try:
            steps.append(next(work))
        except StopIteration as end:
            return steps, end.value
