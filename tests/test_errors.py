"""Promises of messages: what a terminal obeys is escaped, and of what is long little is said."""

from __future__ import annotations

import time
from typing import Any

import pytest

from unclip.errors import escaped, shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("빨간 사과, 👩🏿\u200d🚀 «ça»", "빨간 사과, 👩🏿\u200d🚀 «ça»"),
        ("\x1b[2J\x1b]0;x\x07", r"\x1b[2J\x1b]0;x\x07"),
        ("a\nb\r\tc\x7f\x9b", r"a\nb\r\tc\x7f\x9b"),
        ("\u202egnp.exe\u2066\u200f\u2028", r"\u202egnp.exe\u2066\u200f\u2028"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text: str, written: str) -> None:
    assert escaped(text) == written
    assert escaped(text).encode()


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.5, "a'b", b"a", [], [1, [2]], (1,), (1, "a"), {"a": [1], 2: ()}]
)
def test_a_short_value_is_as_python_writes_it(value: Any) -> None:
    assert shown(value) == repr(value)


def test_of_what_is_long_or_full_of_itself_only_the_beginning_is_said() -> None:
    laughs: Any = "ha"
    itself: list[Any] = []
    itself.append(itself)
    for _ in range(100):
        laughs = (laughs, laughs)
    started = time.monotonic()
    for value in (laughs, itself, "a" * 10**7, [1] * 10**6, {i: i for i in range(10**5)}, 2**100_000):
        assert len(shown(value)) == 60
        assert shown(value).endswith("...")
    assert time.monotonic() - started < 5
