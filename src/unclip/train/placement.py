"""A run whose processes Ray places: what torchrun would start, on whichever machines of a cluster have room.

Each process is a child of an actor, which Ray places, and which tells this process what the child says. Where
a child or its machine dies all begin again, elsewhere if need be, from the run's newest checkpoint. The run's
folder must be the same on all machines; nothing of the run passes through Ray.

`ray_cluster.settle` is to be called before this file is imported.
https://docs.ray.io/en/latest/ray-core/scheduling/placement-group.html
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from unclip.errors import InputError, Interrupted, TrainingError
from unclip.ray_cluster import ClusterError, connect
from unclip.train.loop import AGAIN, stop_signals
from unclip.train.placing import Placing

# Ends with the actor that has the other end of its standard input, however that ends.
CHILD = (
    "import sys; from unclip.processes import end_with_input; end_with_input(); "
    "from unclip.cli import main; sys.exit(main(sys.argv[1:]))"
)
FINAL = (InputError.exit_code, Interrupted.exit_code)  # exit codes that no restart mends
LOOK_SECONDS = 0.3  # between two looks at the processes
ANSWER_SECONDS = 60.0  # without an answer a machine is lost
END_SECONDS = 30.0
ROOM_SECONDS = 600.0  # that a cluster has to find room; after a machine was lost another may come
TAIL = 2000  # bytes of what a process said last, for messages


@dataclass(frozen=True)
class Look:
    """The lines of a process since the last look, and its exit code once it has ended."""

    out: bytes
    said: bytes
    code: int | None


class Host:
    """The actor that has one process of the run as its child."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._heard: dict[str, list[bytes]] = {"out": [], "said": []}
        self._readers: list[threading.Thread] = []

    def place(self) -> tuple[str, str]:
        """The machine: Ray's identifier of it, and its address."""
        return ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()

    def free_port(self) -> int:
        """A port of this machine that nothing listens on."""
        with socket.socket() as free:
            free.bind(("", 0))
            port: int = free.getsockname()[1]
        return port

    def start(self, arguments: Sequence[str], folder: str, environment: dict[str, str]) -> None:
        """Start the process: `unclip` with these arguments, in a folder."""
        self._child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        for name, stream in (("out", self._child.stdout), ("said", self._child.stderr)):
            assert stream is not None
            reader = threading.Thread(target=self._read, args=(stream, self._heard[name]), daemon=True)
            reader.start()
            self._readers.append(reader)

    def _read(self, stream: IO[bytes], heard: list[bytes]) -> None:
        while chunk := os.read(stream.fileno(), 2**16):
            heard.append(chunk)

    def look(self) -> Look:
        """The news since the last call."""
        assert self._child is not None
        code = self._child.poll()
        if code is not None:
            for reader in self._readers:
                reader.join(timeout=1)
        parts = []
        for heard in self._heard.values():
            count = len(heard)  # more may come meanwhile
            parts.append(b"".join(heard[:count]))
            del heard[:count]
        return Look(parts[0], parts[1], code)

    def stop(self) -> None:
        """Have the process end with a checkpoint."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def end(self) -> None:
        """End the process at once."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()


@dataclass(frozen=True)
class _End:
    """The end of all processes: exit code 0, or that of the one that ended first, and why."""

    code: int
    why: str = ""
    out: bytes = b""


def run(
    arguments: Sequence[str],
    placing: Placing,
    address: str,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
) -> str:
    """Run `unclip` with these arguments in processes that train together; returns what the first one prints.

    Args:
        arguments: of a verb that torchrun could start, "train" and what belongs to it.
        placing: how many processes, and what each of them holds.
        address: of the cluster, see `ray_cluster.connect`.
        say: is told what happens, and what the first process says.
        stop: when it is set all end with a checkpoint.

    Raises:
        ClusterError: there is no such cluster, or no room in it.
        TrainingError: a process failed more often than it may.
        Interrupted: it was stopped.
    """
    stop = stop or threading.Event()
    connect(address, placing.processes * placing.cores, placing.processes * placing.gpus)
    try:
        with stop_signals(stop):
            for left in range(placing.restarts, -1, -1):
                end = _together(arguments, placing, say, stop)
                if end.code == 0:
                    return end.out.decode()
                if stop.is_set() or end.code == Interrupted.exit_code:
                    raise Interrupted(f"the run is stopped; {AGAIN}")
                if end.code in FINAL or not left:
                    break
                say(f"{end.why}; all processes begin again from the newest checkpoint ({left} times more)\n")
            raise TrainingError(f"{end.why}, after {placing.restarts - left} restarts; {AGAIN}")
    finally:
        ray.shutdown()  # and with it a cluster that was made here


def _together(
    arguments: Sequence[str], placing: Placing, say: Callable[[str], None], stop: threading.Event
) -> _End:
    """All processes once, up to the end of the last one, or the first failure."""
    with _hosts(placing, say, stop) as hosts:
        try:
            hosts = _start(hosts, arguments, placing, say)
        except RayError as error:
            return _End(1, f"a machine was lost ({type(error).__name__})")
        try:
            return _watch(hosts, say, stop)
        finally:
            for host in hosts:
                with suppress(RayError):  # before others start: the first process locks the run's folder
                    ray.get(host.end.remote(), timeout=END_SECONDS)


@contextmanager
def _hosts(placing: Placing, say: Callable[[str], None], stop: threading.Event) -> Iterator[list[Any]]:
    """Actors, one a process, where the cluster has room for all of them at once."""
    share = {"CPU": float(placing.cores)} | ({"GPU": placing.gpus} if placing.gpus else {})
    group = placement_group([share] * placing.processes, strategy="PACK")
    hosts: list[Any] = []
    try:
        began, told = time.monotonic(), False
        while not group.wait(1):
            if stop.is_set():
                raise Interrupted(f"the run is stopped; {AGAIN}")
            there = ray.cluster_resources()
            lacks = (
                f"the cluster has {there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs in all, and "
                f"no room for {placing.processes} processes of {placing.cores} cores and {placing.gpus:g} "
                "GPUs"
            )
            if time.monotonic() - began > ROOM_SECONDS:
                raise ClusterError(f"{lacks}: ask for fewer, or wait until others are done")
            if not told and time.monotonic() - began > ANSWER_SECONDS / 2:
                say(f"{lacks} yet; waiting\n")
                told = True
        for index in range(placing.processes):
            strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
            actor = ray.remote(num_cpus=placing.cores, num_gpus=placing.gpus)(Host)
            hosts.append(actor.options(scheduling_strategy=strategy).remote())
        yield hosts
    finally:
        for host in hosts:
            ray.kill(host)
        remove_placement_group(group)


def _start(
    hosts: list[Any], arguments: Sequence[str], placing: Placing, say: Callable[[str], None]
) -> list[Any]:
    """Starts a process at each host; returns the hosts by rank, those of one machine beside each other."""
    places = ray.get([host.place.remote() for host in hosts], timeout=ROOM_SECONDS)
    nodes = list(dict.fromkeys(node for node, _ in places))
    order = sorted(range(len(hosts)), key=lambda k: nodes.index(places[k][0]))
    counts = [sum(node == one for one, _ in places) for node in nodes]
    if len({*counts}) > 1:
        say(f"the machines have {counts} processes: parallel = 'hybrid' needs as many on each\n")
    first = hosts[order[0]]
    common = {
        "WORLD_SIZE": str(len(hosts)),
        "MASTER_ADDR": places[order[0]][1],
        "MASTER_PORT": str(ray.get(first.free_port.remote(), timeout=ANSWER_SECONDS)),
        "OMP_NUM_THREADS": str(placing.cores),
    }
    started, locals_ = [], dict.fromkeys(nodes, 0)
    for rank, k in enumerate(order):
        node = places[k][0]
        own = {
            "RANK": str(rank),
            # Ray shows each process its own GPUs alone, so its GPU is the first it sees
            "LOCAL_RANK": "0" if placing.gpus else str(locals_[node]),
            "LOCAL_WORLD_SIZE": str(counts[nodes.index(node)]),
        }
        locals_[node] += 1
        started.append(hosts[k].start.remote(list(arguments), os.getcwd(), {**common, **own}))
    ray.get(started, timeout=ANSWER_SECONDS)
    return [hosts[k] for k in order]


def _watch(hosts: list[Any], say: Callable[[str], None], stop: threading.Event) -> _End:
    codes: list[int | None] = [None] * len(hosts)
    tails = [b""] * len(hosts)
    out, stopping = b"", False
    while None in codes:
        for rank, host in enumerate(hosts):
            if codes[rank] is not None:
                continue
            try:
                look: Look = ray.get(host.look.remote(), timeout=ANSWER_SECONDS)
            except RayError as error:
                return _End(1, f"the machine of rank {rank} was lost ({type(error).__name__})")
            tails[rank] = (tails[rank] + look.said)[-TAIL:]
            if rank == 0:
                out += look.out
                if look.said:
                    say(look.said.decode(errors="replace"))
            codes[rank] = look.code
            if look.code and not stopping:
                if rank:  # the first process has said it itself
                    say(tails[rank].decode(errors="replace"))
                return _End(look.code, f"rank {rank} ended {_how(look.code)}")
        if stop.is_set() and not stopping:
            stopping = True
            for host in hosts:
                with suppress(RayError):
                    ray.get(host.stop.remote(), timeout=ANSWER_SECONDS)
        time.sleep(LOOK_SECONDS)
    worst = next((code for code in codes if code), 0)
    return _End(worst, f"the processes ended {_how(worst)}", out)


def _how(code: int) -> str:
    """An exit code in words."""
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
