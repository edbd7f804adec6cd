"""Ray clusters: what is settled before Ray is imported, since it reads its environment then; connecting.

https://docs.ray.io/en/latest/ray-core/configure.html
"""

from __future__ import annotations

import logging
import math
import os
import secrets

from unclip.errors import InputError, UnclipError

HERE = "here"  # the address of a cluster that this process makes, on this machine alone
TOKEN_BYTES = 32
START_SECONDS = 120  # that a cluster has to start here: Ray's 30 do not suffice a busy machine
CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 200 * 2**20  # messages are small: Ray would take a third of the memory
AUTH_MODE = "RAY_AUTH_MODE"


class ClusterError(UnclipError):
    """A cluster cannot be had, or failed in a way that none of its tasks is to blame for."""


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


def connect(address: str, cores: float, gpus: float = 0) -> None:
    """Connect with a cluster, or for `HERE` make one of so many cores and GPUs. `settle` comes before.

    In the main thread Ray takes SIGTERM: set handlers afterwards.

    Raises:
        ClusterError: there is none at that address, or none can be made.
    """
    import ray

    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        if address != HERE:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        ray.init(
            address="local",
            num_cpus=cores,
            num_gpus=math.ceil(gpus) or None,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises plain ones, too
        advice = "start one with `ray start --head`, or leave ADDRESS out"
        raise ClusterError(f"no Ray cluster at {address}: {error}; {advice}") from error


def _knock(address: str) -> None:
    """Raise OSError where nothing listens: Ray would try for minutes."""
    import socket  # the command line loads this module for the word that stands for a cluster here

    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
