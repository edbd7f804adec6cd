"""Worker processes that end with the process that started them, and leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Job = TypeVar("Job")


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool(workers: int) -> Iterator[Executor]:
    """An executor of so many processes; one worker is this process itself.

    On an error or Ctrl-C in this process the others are stopped at once, so what they write must be whole or
    not be there. Raises BrokenProcessPool where one of them was killed from outside, for want of memory
    perhaps.
    """
    if workers == 1:
        yield _Inline()
        return
    others = set(multiprocessing.active_children())
    # "spawn": to fork a process that has threads, as pyarrow and torch start them, is not safe
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_work)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown()


def pop_finished_(running: dict[Future[Result], Job]) -> Iterator[tuple[Job, Result]]:
    """Wait for the first of running jobs to end; yields what has ended, and takes it out."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield running.pop(future), future.result()


class _Inline(Executor):
    """Works in this process: one worker needs no second one."""

    def submit(
        self, function: Callable[P, Result], /, *arguments: P.args, **keywords: P.kwargs
    ) -> Future[Result]:
        future = Future[Result]()
        future.set_result(function(*arguments, **keywords))
        return future


def _begin_work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one deals with it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the parent was killed: without this a worker would wait for its next piece for ever
