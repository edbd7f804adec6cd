"""Promises of the command line in a terminal: bars wipe nothing that was told, results are stdout's alone."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from PIL import Image

ROWS, COLUMNS = 24, 100
PIECE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)
GENERATE = ("generate", "a red apple", "a green apple", "--n", "9")  # more than go through at once
GENERATED = [f"a-{colour}-apple-seed1-{index}.png" for colour in ("red", "green") for index in range(9)]
VARY = ("vary", "a.png", "--n", "3", "--steps", "4")
STEPS = ("--steps", "3")
OTHERS = {
    "blend": (("blend", "a.png", "b.png", "--frames", "2"), "a-b-seed1-{}.png"),
    "restyle": (("restyle", "a.png", "--to", "a cat", "--frames", "2"), "a-a-cat-seed1-{}.png"),
    "edit": (("edit", "a.png", "a cat", "--mask", "mask.png", "--n", "2"), "a-cat-seed1-{}.png"),
    "outpaint": (("outpaint", "a.png", "a cat", "--right", "16", "--n", "2"), "a-cat-seed1-{}.png"),
    "reconstruct": (
        ("reconstruct", "a.png", "--components", "1,2", "--basis", "."),
        "a-reconstructed-seed1-{}.png",
    ),
}
VARIED = [f"a-varied-seed1-{index}.png" for index in range(3)]


@pytest.fixture(autouse=True)
def _beside_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, size in (("a", 48), ("b", 48), ("c", 9), ("d", 9)):
        Image.new("RGB", (size, size), (200, 30, ord(name))).save(f"{name}.png")
    mask = Image.new("L", (48, 48), 0)
    mask.paste(255, (8, 8, 40, 40))
    mask.save("mask.png")


def run_in_terminal(
    bundle: Path,
    *arguments: str,
    stdout: bool = True,
    stderr: bool = True,
    code: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[str], str]:
    """Runs a verb with one terminal as stdout and stderr, or a pipe in place of one of them.

    Returns:
        The lines on the screen at the end, and what came through the pipe.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "unclip", *arguments, "--model", str(bundle), "--size", "64", "--seed", "1"],
        stdin=subprocess.DEVNULL,
        stdout=theirs if stdout else subprocess.PIPE,
        stderr=theirs if stderr else subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    written = b""
    try:
        while data := os.read(ours, 2**16):
            written += data
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    piped = b"".join(text for text in process.communicate(timeout=60) if text)
    assert process.returncode == code, written.decode()
    return screen(written.decode()), piped.decode()


def screen(written: str) -> list[str]:
    """The lines that a terminal shows at the end, those that have scrolled away with them."""
    lines, row, column = [""], 0, 0
    for argument, sequence, letter in PIECE.findall(written):
        if sequence == "A":  # up, not beyond the upper edge
            row = max(row - int(argument or 1), len(lines) - ROWS, 0)
        elif sequence == "K":  # erase the line, or its end
            lines[row] = "" if argument == "2" else lines[row][:column]
        elif letter == "\r":
            column = 0
        elif letter == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif letter:
            lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
            column += 1
        else:
            assert sequence in "mhl", f"this terminal does not know {argument}{sequence}"  # colours, modes
    return lines


def test_the_screen_is_that_of_a_terminal() -> None:
    assert screen("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[32m1\x1b[0m\x1b[K\r\n2") == ["1", "2"]
    assert screen("\n" * ROWS + "\x1b[99Atop") == ["", "top", *[""] * (ROWS - 1)]


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (GENERATE, GENERATED),
        ((*GENERATE, "--preview"), GENERATED),
        (VARY, VARIED),
        *(((*verb, *STEPS), [name.format(0), name.format(1)]) for verb, name in OTHERS.values()),
    ],
    ids=["generate", "preview", "vary", *OTHERS],
)
def test_bars_wipe_no_path(tiny_bundle: Path, arguments: tuple[str, ...], paths: list[str]) -> None:
    lines, _ = run_in_terminal(tiny_bundle, *arguments)
    assert [line for line in lines if line.endswith(".png")] == paths
    assert ["decoder" in line for line in lines].count(True) == 1  # the bars stand once, below
    assert sum("▀" in line for line in lines) == (len(paths) * 24 if "--preview" in arguments else 0)


def test_results_go_through_a_pipe_while_bars_are_drawn(tiny_bundle: Path) -> None:
    lines, piped = run_in_terminal(tiny_bundle, *GENERATE, stdout=False)
    assert piped.splitlines() == GENERATED
    assert any("decoder" in line for line in lines)
    assert not any(".png" in line for line in lines)


def test_results_alone_are_on_the_screen_where_stderr_is_piped(tiny_bundle: Path) -> None:
    lines, piped = run_in_terminal(tiny_bundle, *VARY, stderr=False)
    assert lines == [*VARIED, ""]
    assert "decoder: " in piped


def test_a_picture_is_not_written_to_a_terminal(tiny_bundle: Path) -> None:
    lines, _ = run_in_terminal(tiny_bundle, "generate", "a red apple", "--out", "-", code=2)
    assert any("writes one picture to stdout, which is a terminal: add > apple.png" in line for line in lines)


def test_a_terminal_that_cannot_go_back_gets_lines_and_no_blocks(tiny_bundle: Path) -> None:
    lines, _ = run_in_terminal(tiny_bundle, *GENERATE, "--preview", environment={"TERM": "dumb"})
    assert [line for line in lines if line.endswith(".png")] == GENERATED
    assert any(line.startswith("decoder: ") for line in lines)
    assert "unclip: warning: TERM=dumb allows no colours: the pictures are not shown" in lines
    assert not any("▀" in line or "━" in line for line in lines)


def test_without_colours_no_blocks_are_shown(tiny_bundle: Path) -> None:
    lines, _ = run_in_terminal(tiny_bundle, *VARY, environment={"NO_COLOR": "1"})
    assert [line for line in lines if line.endswith(".png")] == VARIED
    lines, _ = run_in_terminal(
        tiny_bundle, "generate", "a red apple", "--preview", environment={"NO_COLOR": "1"}
    )
    assert any("NO_COLOR=1 allows no colours: the pictures are not shown" in line for line in lines)
    assert not any("▀" in line for line in lines)
