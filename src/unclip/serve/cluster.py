"""The size of what draws on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from unclip.errors import InputError


@dataclass(frozen=True)
class Size:
    """Replicas, and what each of them holds.

    Attributes:
        replicas: how many.
        cores: of each; its networks compute in so many threads.
        gpus: of each.

    Raises:
        InputError: no replica, or one without a core.
    """

    replicas: int = 2
    cores: int = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        for name, value, least in (("replicas", self.replicas, 1), ("replica-cores", self.cores, 1)):
            if value < least:
                raise InputError(f"{name} is {value}: give {least} or more")
        if not self.gpus >= 0:
            raise InputError(f"replica-gpus is {self.gpus}: give 0 or more")


DEFAULT_SIZE = Size()
