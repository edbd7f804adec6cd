"""The verdict on a stage of a fit: did it learn what its held-out pictures can show?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unclip.train.fit.recipe import FIGURE, MEANING
from unclip.train.log import read_metrics

LEARNED = 0.01  # of the figure before: a smaller gain is taken for none


@dataclass(frozen=True)
class Verdict:
    """The held-out figure of a stage: of the bundle's weights, and of the best that training found.

    `step` of `steps` is where that was; 0 means that the bundle's own weights were the best.
    """

    stage: str
    before: float
    best: float
    step: int
    steps: int
    pictures: int
    held_out: bool

    @property
    def learned(self) -> bool:
        """True where the best weights are better than the bundle's."""
        return self.best - self.before >= LEARNED * abs(self.before)

    def told(self) -> str:
        """One line for a person."""
        found = f"{self.before:.4g} before, {self.best:.4g} now"
        which = "held-out pictures" if self.held_out else "of the pictures that it learned from"
        of = f"{self.pictures} {which}"
        if not self.step:
            return (
                f"{self.stage} did not learn: none of its evaluations was better than the bundle's "
                f"{self.before:.4g} "
                f"(of {of}), so it stays as it was; more pictures, or more different ones, would help"
            )
        verb = "learned" if self.learned else "hardly learned"
        return f"{self.stage} {verb}: {found} (of {of}), best at step {self.step:,} of {self.steps:,}"


def verdict(out: Path, stage: str, pictures: int, held_out: bool) -> Verdict | None:
    """The verdict on a stage of a run, by what it logged; None where it evaluated nothing."""
    name = FIGURE[stage]
    lines = read_metrics(out / stage)
    found = [
        (line[name], line["step"])
        for line in lines
        if line.get("kind") == "evaluate" and line.get(name) is not None
    ]
    if not found:
        return None
    best, step = max(found, key=lambda one: (one[0], -one[1]))
    steps = max((line["step"] for line in lines), default=0)
    return Verdict(stage, found[0][0], best, step, steps, pictures, held_out)


def meaning(stage: str) -> str:
    """The figure of a stage in words."""
    return MEANING[stage]
