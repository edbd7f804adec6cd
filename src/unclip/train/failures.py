"""Failures: how often machines go down, how often to write a checkpoint for it, and what both cost.

The best interval between checkpoints that take `write` seconds each, where something fails every `between`
seconds on average, is about sqrt(2 write between): J. W. Young, "A first order approximation to the optimum
checkpoint interval", CACM 17(9), 1974. J. T. Daly, "A higher order estimate of the optimum checkpoint
interval for restart dumps", FGCS 22(3), 2006, has the better estimate, and the time that a run then takes.
"""

from __future__ import annotations

import math

# 419 unexpected interruptions in 54 days of 16,384 GPUs: table 5 of 2407.21783
GPU_HOURS_BETWEEN_FAILURES = 50_000.0
FIRST_SECONDS = 600.0  # until the first checkpoint: what one costs is not known before
CHEAP = 200  # times its own time: an interval so long gives half a percent of the time to checkpoints
LARGEST_EXPONENT = 700.0  # e to the power of more no float holds


def young(write: float, between: float) -> float:
    """The best seconds of work between two checkpoints, to first order (Young, 1974).

    Args:
        write: seconds that a checkpoint takes, during which nothing is trained.
        between: mean seconds between two failures of the whole run.
    """
    return math.sqrt(2 * write * between)


def daly(write: float, between: float) -> float:
    """The best seconds of work between two checkpoints, to higher order (Daly, 2006, Eq. 37).

    Arguments as of `young`. Where a checkpoint takes twice as long as things hold, it is `between` itself.
    """
    if write >= 2 * between:
        return between
    share = write / (2 * between)
    return young(write, between) * (1 + math.sqrt(share) / 3 + share / 9) - write


def stretched(interval: float, write: float, restart: float, between: float) -> float:
    """The factor by which failures and checkpoints lengthen a run (Daly, 2006, Eq. 20).

    Args:
        interval: seconds of work between two checkpoints.
        write, between: as of `young`.
        restart: seconds from a failure until work goes on.
    """
    exponent = (interval + write) / between
    if exponent + restart / between > LARGEST_EXPONENT:  # it never ends
        return math.inf
    return between * math.exp(restart / between) * math.expm1(exponent) / interval


class Rhythm:
    """The seconds between two checkpoints of a run, from the time that writing the last one took.

    Daly's interval, but where checkpoints are so cheap that it would be long, no more than 10 minutes or 200
    times their time: less is lost for next to nothing when a machine that never fails does.

    Args:
        minutes: that a recipe sets; None is by the time of writing.
        hours: mean hours between two failures of the whole run.
    """

    def __init__(self, minutes: float | None, hours: float) -> None:
        self._set, self._between = minutes is not None, hours * 3600
        self.seconds = FIRST_SECONDS if minutes is None else minutes * 60
        self._write: float | None = None

    def written(self, seconds: float) -> bool:
        """Notes the time that a checkpoint took; true where there is something new to say."""
        if self._set:
            return False
        first, self._write = self._write is None, seconds
        self.seconds = interval_of(seconds, self._between)
        return first

    @property
    def text(self) -> str:
        """The interval, for a person."""
        assert self._write is not None
        minutes = self.seconds / 60
        return f"a checkpoint takes {self._write:.1f} s: one every {minutes:.1f} minutes from now on"


def interval_of(write: float, between: float) -> float:
    """The seconds between two checkpoints that `unclip train` chooses; arguments as of `young`."""
    return min(daly(write, between), max(FIRST_SECONDS, CHEAP * write))
