"""The promise that the verbs that draw need nothing that Windows lacks.

It is kept here by a Python in which what only Unix has is missing: that finds what a
verb imports or calls, not how Windows' files and terminals differ. `.github/workflows/ci.yml` draws on one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.pictures import holed, speckled

UNIX = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "_posixshmem")
FUNCTIONS = ("fork", "killpg", "sched_getaffinity", "posix_fallocate", "getuid", "getpgid")
PROGRAM = f"""
import os, signal, sys
import numpy, PIL.Image, torch  # their own Unix is not what is tried
for name in {UNIX}:
    sys.modules[name] = None
for name in {FUNCTIONS}:
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGTSTP"):
    delattr(signal, name)
from unclip.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    speckled(64).save(tmp_path / "image.png")
    holed(64, 64, (16, 16, 48, 48)).save(tmp_path / "mask.png")
    return tmp_path


def without_unix(folder: Path, *words: str) -> str:
    """What `unclip` says on stdout in a folder, without what only Unix has."""
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "generate apple --size 64 --seed 1 --out drawn.png --json",
        "vary image.png --size 64 --seed 1 --out drawn.png",
        "edit image.png --mask mask.png apple --seed 1 --out drawn.png",
        "outpaint image.png apple --right 16 --seed 1 --out drawn.png",
        "blend image.png image.png --frames 2 --size 64 --seed 1 --out drawn",
        "restyle image.png --from apple --to pear --size 64 --seed 1 --out drawn.png",
    ],
    ids=lambda command: command.split()[0],
)
def test_a_verb_that_draws_needs_nothing_that_windows_lacks(
    command: str, pictures: Path, tiny_bundle: Path
) -> None:
    without_unix(pictures, *command.split(), "--model", str(tiny_bundle))
    (drawn, *_) = sorted(pictures.glob("drawn*"))
    assert "seed" in without_unix(pictures, "info", str(drawn if drawn.is_file() else next(drawn.iterdir())))


def test_models_are_listed_without_unix(tmp_path: Path) -> None:
    assert "karlo" in without_unix(tmp_path, "models")
