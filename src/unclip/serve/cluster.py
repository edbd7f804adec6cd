"""Ray clusters: what is settled before Ray is imported, since it reads its environment then."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from unclip.errors import InputError

HERE = "here"  # the address of a cluster that this process makes, on this machine alone
TOKEN_BYTES = 32
START_SECONDS = 120  # that a cluster has to start here: Ray's 30 do not suffice a busy machine
AUTH_MODE = "RAY_AUTH_MODE"


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


def settle(address: str) -> None:
    """Set the environment that Ray reads when it is imported, for a cluster of this address.

    Ray listens on all addresses of a machine, and without a token obeys whoever connects. So a cluster that
    is made here gets one by its environment, which is written nowhere. Another cluster has what its owner
    gave it. Statistics of use are sent to nobody.

    Raises:
        InputError: an address of a kind that is not spoken.
    """
    if address.startswith("ray://"):
        raise InputError(f"{address}: Ray's client protocol is not spoken, give HOST:PORT of the head")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == HERE:
        os.environ.setdefault("RAY_raylet_start_wait_time_s", str(START_SECONDS))
    if address == HERE and AUTH_MODE not in os.environ:
        os.environ.update({AUTH_MODE: "token", "RAY_AUTH_TOKEN": secrets.token_hex(TOKEN_BYTES)})
