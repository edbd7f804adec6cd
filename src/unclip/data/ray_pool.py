"""Pictures drawn on the machines of a Ray cluster: a task a file's worth, from the same function as here.

A task gets the bytes of the pictures and gives those of the Arrow file, so the machines need no disk in
common. They need this version of the package, with the same libraries. A task whose machine is lost is done
again elsewhere. https://docs.ray.io/en/latest/ray-core/tasks.html
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from unclip import __version__
from unclip.data.draw_workers import DRAWS, HELD_BYTES, Killed, drawn, write_drawn
from unclip.data.prepare.rules import Rules
from unclip.data.records import Drawing
from unclip.errors import DataError, InputError
from unclip.processes import Contained
from unclip.ray_cluster import connect, settle

RETRIES = 3  # of a task whose machine or process is lost
HELD_BY_A_WORKER = 2**24  # bytes of pictures, at the most, for each worker of a large cluster


@contextmanager
def ray_pool(address: str, workers: int | None = None) -> Iterator[RayPool]:
    """A pool of the processes of a Ray cluster.

    Args:
        address: "host:port" or "auto"; `ray_cluster.HERE` makes a cluster of this machine alone.
        workers: of a cluster that is made here; another has one a core.

    Raises:
        InputError: Ray is not installed.
        ClusterError: there is no such cluster.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError("ray is not installed: pip install 'unclip[prepare,cluster]'")
    settle(address)
    import ray

    connect(address, workers or 1)
    try:
        yield RayPool(ray)
    finally:
        ray.shutdown()  # and with it a cluster that was made here


class RayPool:
    """The processes of a cluster that is connected with; see `draw_workers.DrawingPool`."""

    def __init__(self, ray: Any) -> None:
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.held_bytes = max(HELD_BYTES, self.workers * HELD_BY_A_WORKER)
        self._task = ray.remote(num_cpus=1, max_retries=RETRIES)(draw_elsewhere)

    def submit(self, drawings: list[Drawing], path: Path, size: int, rules: Rules) -> Future[None]:
        """Has a task draw, and writes what comes back."""
        written = Future[None]()

        def write(done: Future[tuple[bytes, str, str]]) -> None:
            try:
                write_drawn(path, lambda _: _content(done))
                written.set_result(None)
            except BaseException as error:
                written.set_exception(error)

        killed = path.with_suffix(".killed")
        suspect = killed.read_bytes() if killed.exists() else b""
        self._task.remote(__version__, drawings, size, rules, suspect).future().add_done_callback(write)
        return written


def _content(done: Future[tuple[bytes, str, str]]) -> bytes:
    try:
        content, killed, fault = done.result()
    except Exception as error:  # Ray's own are many
        raise DataError(f"a task of the cluster failed: {error}") from error
    if killed:
        raise Killed(killed)
    if fault:
        raise DataError(fault)
    return content


def draw_elsewhere(
    version: str, drawings: list[Drawing], size: int, rules: Rules, suspect: bytes
) -> tuple[bytes, str, str]:
    """The result of `draw_workers.drawn`, the key of the picture that its process was killed at, and a fault;
    those of them that there are not are empty.
    """
    if version != __version__:
        return (
            b"",
            "",
            f"a machine of the cluster has unclip {__version__}, this one {version}: install the same",
        )
    try:
        return drawn(drawings, size, _painter(), rules, suspect), "", ""
    except Killed as death:
        return b"", death.key.decode(), ""
    except DataError as error:
        return b"", "", str(error)


@cache
def _painter() -> Contained:
    """The drawing process of this one, which ends with it."""
    return Contained(*DRAWS)
