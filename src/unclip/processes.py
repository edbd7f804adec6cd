"""Worker processes that end with the process that started them, and leave Ctrl-C to it."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Job = TypeVar("Job")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pop_finished_(running: dict[Future[Result], Job]) -> Iterator[tuple[Job, Result]]:
    """Wait for the first of running jobs to end; yields what has ended, and takes it out."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield running.pop(future), future.result()


class Inline(Executor):
    """Works in this process and thread: one worker needs no second one."""

    def submit(
        self, function: Callable[P, Result], /, *arguments: P.args, **keywords: P.kwargs
    ) -> Future[Result]:
        future = Future[Result]()
        future.set_result(function(*arguments, **keywords))
        return future


class Died(Exception):
    """A contained process ended in the midst of a call: by `signal`, or by none, 0."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


class NotStarted(Exception):
    """A contained process cannot start, whatever it is asked for."""


class Contained:
    """A function in a process of its own, so that no argument can crash, stop or fill this one.

    The process starts with the first call, and again with the next one after it has died. It ends with the
    process that started it. One thread at a time may call it.

    Args:
        function: "module:name"; what goes in and comes out is pickled.
        memory: bytes of addresses that the process may have.
    """

    def __init__(self, function: str, memory: int) -> None:
        self._served = function, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._stopped = False

    def __call__(self, *arguments: Any, seconds: int) -> Any:
        """The function's result.

        Raises:
            Died: the process ended, by SIGXCPU where the call took more than `seconds` of processor time.
            NotStarted: there is no process to call.
            CancelledError: it was stopped.
        """
        try:
            connection = self._connection or self._start()
            # bytes on their own: pickled, a picture would be there twice on both sides
            apart = [isinstance(argument, bytes) for argument in arguments]
            given = [None if raw else one for raw, one in zip(apart, arguments, strict=True)]
            connection.send((seconds, apart, given))
            for argument in arguments:
                if isinstance(argument, bytes):
                    connection.send_bytes(argument)
            return connection.recv()
        except (EOFError, ConnectionError):
            code = self._end()
        if self._stopped:
            raise CancelledError
        raise Died(max(0, -code))

    def stop(self) -> None:
        """Has a call that another thread waits for end at once, and every later one."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Ends the process."""
        self.stop()
        if self._process is not None:
            self._end()

    def _start(self) -> Connection:
        try:
            ours, theirs = multiprocessing.Pipe()
            code = (
                f"import sys; sys.path[:] = {sys.path!r}\n"
                f"from unclip.processes import serve; serve({theirs.fileno()}, *{self._served!r})"
            )
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # threads take addresses
                    start_new_session=True,  # Ctrl-C is for the first process
                )
        except OSError as error:
            raise NotStarted(error.strerror or str(error)) from error
        self._connection = ours
        if self._stopped:
            self._process.kill()
        try:
            ours.recv()  # it is ready
        except EOFError:
            if self._process.wait() < 0:
                raise  # a signal ended it, as one may end a call
            self._end()
            module, _, _ = self._served[0].partition(":")
            raise NotStarted(f'`{sys.executable} -c "import {module}"` may say why') from None
        return ours

    def _end(self) -> int:
        """Forgets the process, which has died or is ended now; returns its exit code."""
        assert self._process is not None
        assert self._connection is not None
        self._connection.close()  # without a connection it ends by itself
        code = self._process.wait()
        self._process = self._connection = None
        return code


@dataclass(frozen=True)
class ContainedPool:
    """Threads that call a function in as many contained processes; one worker needs no thread.

    Attributes:
        workers: how many.
        executor: of the threads. Each takes a process of `free` for as long as it calls, and puts it back.
        free: the processes that nobody calls.
    """

    workers: int
    executor: Executor
    free: SimpleQueue[Contained]


@contextmanager
def contained_pool(function: str, memory: int, workers: int) -> Iterator[ContainedPool]:
    """A pool of processes that start with their first call; at its end all stop at once.

    Arguments as of `Contained`.
    """
    contained = [Contained(function, memory) for _ in range(workers)]
    executor: Executor = Inline() if workers == 1 else ThreadPoolExecutor(workers)
    pool = ContainedPool(workers, executor, SimpleQueue())
    for one in contained:
        pool.free.put(one)
    try:
        yield pool
    finally:
        for one in contained:
            one.stop()
        executor.shutdown(cancel_futures=True)
        for one in contained:
            one.close()


def serve(handle: int, function: str, memory: int) -> None:
    """Answers the calls of a `Contained` until there is nobody to answer."""
    import resource  # not there on Windows, as below

    connection = Connection(handle)
    module, name = function.split(":")
    called = getattr(importlib.import_module(module), name)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory)
    connection.send("ready")
    with suppress(EOFError):
        while True:
            seconds, apart, given = connection.recv()
            arguments = [
                connection.recv_bytes() if raw else one for raw, one in zip(apart, given, strict=True)
            ]
            _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
            connection.send(called(*arguments))
            del arguments  # the next ones come before they would be replaced


def _limit(kind: int, most: int) -> None:
    import resource

    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):  # macOS does not limit addresses
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def end_with_input() -> None:
    """Ends this process once its standard input does, and with it whoever holds the other end of that."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, name="unclip-end", daemon=True).start()


@contextmanager
def no_opening() -> Iterator[None]:
    """While it lasts no thread of this process can open any file, pipe or device; what is open stays so."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
