"""Processes that train together on a cluster: how many, and what each of them holds."""

from __future__ import annotations

from dataclasses import dataclass

from unclip.errors import InputError


@dataclass(frozen=True)
class Placing:
    """Processes of one run.

    Attributes:
        processes: how many.
        cores: of each; it computes in so many threads.
        gpus: of each.
        restarts: how often all begin again after one of them has died.

    Raises:
        InputError: no process, one without a core, or a number below 0.
    """

    processes: int = 2
    cores: int = 1
    gpus: float = 0
    restarts: int = 3

    def __post_init__(self) -> None:
        for name, value, least in (
            *(("processes", self.processes, 1), ("process-cores", self.cores, 1)),
            *(("process-gpus", self.gpus, 0), ("restarts", self.restarts, 0)),
        ):
            if not value >= least:
                raise InputError(f"{name} is {value}: give {least} or more")


USUAL = Placing()
