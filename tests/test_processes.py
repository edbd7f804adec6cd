"""The promise that a function in a process of its own can crash, hang or fill its memory without harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Thread

import pytest

from unclip.processes import Contained, Died, NotStarted, no_opening


def behave(how: str) -> str:
    """The function that the contained processes of these tests run."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "spin":
        while True:
            pass
    if how == "fill":
        try:
            bytearray(2**30)
        except MemoryError:
            return "no memory"
    if how == "wait":
        time.sleep(600)
    return how


def sizes(*given: str | bytes | None) -> list[int]:
    """Another one."""
    return [-1 if one is None else len(one) for one in given]


@pytest.fixture
def contained() -> Iterator[Contained]:
    """`behave` in a process of its own."""
    called = Contained("test_processes:behave", memory=2**30)
    yield called
    called.close()


def test_what_kills_the_process_is_said_and_the_next_call_is_answered(contained: Contained) -> None:
    assert contained("well", seconds=9) == "well"
    with pytest.raises(Died) as died:
        contained("crash", seconds=9)
    assert died.value.signal == signal.SIGSEGV
    assert contained("well", seconds=9) == "well"


def test_a_call_has_so_much_processor_time_and_memory(contained: Contained) -> None:
    with pytest.raises(Died) as died:
        contained("spin", seconds=1)
    assert died.value.signal == signal.SIGXCPU
    assert contained("fill", seconds=9) == "no memory"


def test_a_call_that_is_waited_for_ends_when_it_is_stopped(contained: Contained) -> None:
    ended: list[str] = []

    def ask() -> None:
        try:
            contained("wait", seconds=9)
        except CancelledError:
            ended.append("stopped")

    asking = Thread(target=ask)
    asking.start()
    time.sleep(0.5)
    contained.stop()
    asking.join(timeout=30)
    assert ended == ["stopped"]


def test_a_process_that_cannot_start_is_no_fault_of_what_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = Contained("nowhere:nothing", memory=2**30)
    for _ in range(2):  # nor is it the next time
        with pytest.raises(NotStarted, match="import nowhere"):
            missing("well", seconds=9)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    for _ in range(2):
        with pytest.raises(NotStarted, match="No such file"):
            missing("well", seconds=9)
    missing.close()


def test_nothing_can_be_opened_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with no_opening(), pytest.raises(OSError, match="Too many open files"):
        (tmp_path / "a").open()
    assert (tmp_path / "a").read_text() == "a"


def test_bytes_arrive_as_they_are() -> None:
    called = Contained("test_processes:sizes", memory=2**30)
    try:
        assert called(b"", "a", bytes(3 * 10**6), None, b"b" * 20, seconds=9) == [0, 1, 3 * 10**6, -1, 20]
        assert called("no bytes", seconds=9) == [8]
    finally:
        called.close()


def test_a_process_ends_with_its_standard_input() -> None:
    """So it does not outlive who holds the other end, however that ends."""
    code = "from unclip.processes import end_with_input; end_with_input(); import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert child.stdin is not None
    time.sleep(0.2)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=60) == 1
