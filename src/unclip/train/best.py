"""The best weights of a run: those of the evaluation that had the highest of one figure.

A network that begins to learn its pictures by heart goes on to gain by its loss, and loses by what it has not
seen: early stopping (7.8 of Goodfellow, Bengio and Courville's Deep Learning) takes the weights of before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unclip.config import choices
from unclip.errors import InputError

BEST = "best"  # the file of the weights, without its ending


@dataclass
class Best:
    """The highest value of a figure so far, and the step that it was found at."""

    figure: str
    value: float = -math.inf
    step: int = 0

    def check(self, figures: Mapping[str, float]) -> None:
        """Raises InputError where evaluations have no such figure."""
        if self.figure not in figures:
            raise InputError(
                f"train.best: evaluations have no figure {self.figure!r}: {choices(self.figure, figures)}"
            )

    def is_beaten(self, step: int, figures: Mapping[str, float]) -> bool:
        """True, and noted, where an evaluation is better than all before it."""
        value = figures[self.figure]
        if not value > self.value:  # nor is what is not a number
            return False
        self.value, self.step = value, step
        return True

    @property
    def found(self) -> bool:
        """True when an evaluation has been the best so far."""
        return self.value > -math.inf

    def told(self, step: int, figures: Mapping[str, float]) -> str:
        """An evaluation beside the best so far, which may be itself, in words."""
        name = self.figure.replace("_", " ")
        beside = "the best so far" if self.step == step else f"best {self.value:.4g} at step {self.step:,}"
        return f"step {step:,}: {name} {figures[self.figure]:.4g}, {beside}"

    def state(self) -> dict[str, Any]:
        """The values that a checkpoint keeps."""
        return asdict(self)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Goes on from a checkpoint, if that is of the same figure."""
        if state is not None and state["figure"] == self.figure:
            self.value, self.step = state["value"], state["step"]
