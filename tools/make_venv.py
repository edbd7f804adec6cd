"""Makes a virtual environment and installs this checkout into it: `python3 tools/make_venv.py .venv [EXTRA]`.

Runs on a bare Python: Debian's, for one, comes without pip and without ensurepip. Whatever is at hand is
used: ensurepip, a pip of the system, virtualenv, uv, and at last pip's own wheel out of Debian's package of
it, which is downloaded but not installed, so that no rights are needed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
LOG = "install.log"  # in the environment, of the last time that something was installed
LAST = 5  # lines of it that are shown where that fails
PIP_PACKAGE = "python3-pip-whl"  # Debian's and Ubuntu's package that holds pip as a wheel


def main(arguments: list[str]) -> int:
    """Makes the environment arguments[0] and installs the checkout, with the extra arguments[1] if given."""
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        return fail(
            f"unclip needs Python 3.11 or newer, this is {found}: make PYTHON=/path/to/python3.11 ..."
        )
    if not 1 <= len(arguments) <= 2:
        return fail("usage: python3 tools/make_venv.py FOLDER [EXTRA]")
    folder = Path(arguments[0]).absolute()
    python = python_of(folder)
    if not has_pip(python) and not any(way(folder) and has_pip(python) for way in WAYS):
        return fail(
            "cannot make a virtual environment: this Python has no ensurepip, no pip was found, and none"
            " could be downloaded. On Debian, as root: apt-get update; apt-get install python3-venv"
        )
    extra = f"[{arguments[1]}]" if len(arguments) == 2 else ""
    print(f"Installing unclip{extra} into {folder.name} (the first time this downloads PyTorch)", flush=True)
    install: list[str | Path] = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    log = folder / LOG
    code = logged([*install, "--editable", f"{REPOSITORY}{extra}"], log)
    if code:
        return fail(f"{last_lines(log)}unclip could not be installed: all that pip said is in {log}")
    return 0


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def logged(command: list[str | Path], log: Path) -> int:
    """Runs a command whose output goes into a file; a terminal shows the last line of it, in one line."""
    shown = sys.stdout.isatty()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            file.write(line)
            file.flush()
            if shown and line.strip():
                columns = shutil.get_terminal_size().columns - 1
                print(f"\r\033[K{line.strip()[:columns]}", end="", flush=True)
        if shown:
            print("\r\033[K", end="", flush=True)
        return running.wait()


def last_lines(log: Path) -> str:
    return "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-LAST:])


def has_pip(python: Path) -> bool:
    return python.exists() and quietly([python, "-m", "pip", "--version"])


def quietly(command: list[str | Path], folder: Path | None = None) -> bool:
    """True where a command, run in a folder, succeeds; its output is dropped."""
    silent = subprocess.DEVNULL
    try:
        return subprocess.run(command, cwd=folder, stdout=silent, stderr=silent).returncode == 0
    except OSError:
        return False


def with_ensurepip(folder: Path) -> bool:
    return quietly([sys.executable, "-m", "venv", "--clear", folder])


def with_system_pip(folder: Path) -> bool:
    if not quietly([sys.executable, "-m", "venv", "--clear", "--without-pip", folder]):
        return False
    python = python_of(folder)
    pips: list[list[str | Path]] = [[sys.executable, "-m", "pip"], ["pip3"], ["pip"]]
    return any(quietly([*pip, "--python", python, "install", "pip"]) for pip in pips)


def with_virtualenv(folder: Path) -> bool:
    makers: list[list[str | Path]] = [[sys.executable, "-m", "virtualenv"], ["virtualenv"]]
    return any(quietly([*maker, "--clear", "--python", sys.executable, folder]) for maker in makers)


def with_uv(folder: Path) -> bool:
    return quietly(["uv", "venv", "--clear", "--seed", "--python", sys.executable, folder])


def with_downloaded_pip(folder: Path) -> bool:
    """Runs pip out of its own wheel, which is a zip file that Python can import from, to install itself."""
    if not quietly([sys.executable, "-m", "venv", "--clear", "--without-pip", folder]):
        return False
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if not quietly(["apt-get", "download", PIP_PACKAGE], scratch):
            return False
        for package in scratch.glob("*.deb"):
            if not quietly(["dpkg-deb", "--extract", package, scratch]):
                return False
        wheels = sorted(scratch.glob("usr/share/python-wheels/pip-*.whl"))
        python = python_of(folder)
        return any(quietly([python, wheel / "pip", "install", "--no-index", wheel]) for wheel in wheels)


WAYS: list[Callable[[Path], bool]] = [
    with_ensurepip,
    with_system_pip,
    with_virtualenv,
    with_uv,
    with_downloaded_pip,
]


def fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
