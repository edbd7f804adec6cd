"""Makes a virtual environment and installs this checkout into it: `python3 tools/make_venv.py .venv [EXTRA]`.

Runs on a bare Python: Debian's, for one, comes without pip and without ensurepip. Whatever is at hand is
used: ensurepip, a pip of the system, virtualenv, uv, and at last pip's own wheel from the package index,
checked against the hash that the index states.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
PACKAGE_INDEX = "https://pypi.org/simple"
# PyTorch from the usual index brings gigabytes of CUDA libraries; this one of PyTorch's own is without.
TORCH_FOR_CPU = "https://download.pytorch.org/whl/cpu"
TIMEOUT_SECONDS = 10


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
    python = folder / "bin" / "python"
    if not has_pip(python) and not any(way(folder) and has_pip(python) for way in WAYS):
        return fail(
            "cannot make a virtual environment: this Python has no ensurepip, no pip was found, and none"
            " could be downloaded. On Debian and Ubuntu: apt install python3-venv ca-certificates"
        )
    extra = f"[{arguments[1]}]" if len(arguments) == 2 else ""
    print(f"Installing unclip{extra} into {folder.name} (the first time this downloads PyTorch)", flush=True)
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", *index_options(python)]
    return subprocess.run([*install, "--editable", f"{REPOSITORY}{extra}"]).returncode


def has_pip(python: Path) -> bool:
    return python.exists() and quietly([python, "-m", "pip", "--version"])


def quietly(command: list[str | Path]) -> bool:
    try:
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def with_ensurepip(folder: Path) -> bool:
    return quietly([sys.executable, "-m", "venv", "--clear", folder])


def with_system_pip(folder: Path) -> bool:
    if not quietly([sys.executable, "-m", "venv", "--clear", "--without-pip", folder]):
        return False
    python = folder / "bin" / "python"
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
    index = os.environ.get("PIP_INDEX_URL", PACKAGE_INDEX).rstrip("/") + "/pip/"
    try:
        page = read(index).decode()
        links = re.findall(
            r'href="([^"]*/pip-(\d+(?:\.\d+)*)-py3-none-any\.whl#sha256=([0-9a-f]{64}))"', page
        )
        link, _, expected = max(links, key=lambda found: tuple(map(int, found[1].split("."))))
        wheel = read(urllib.parse.urljoin(index, html.unescape(link)).partition("#")[0])
    except (OSError, ValueError) as error:
        print(f"could not download pip: {error}", file=sys.stderr)
        return False
    if hashlib.sha256(wheel).hexdigest() != expected:
        print(f"pip from {index} does not have the hash that the index states", file=sys.stderr)
        return False
    path = folder / link.rpartition("/")[2].partition("#")[0]
    path.write_bytes(wheel)
    try:
        return quietly([folder / "bin" / "python", path / "pip", "install", "--no-index", path])
    finally:
        path.unlink()


WAYS: list[Callable[[Path], bool]] = [
    with_ensurepip,
    with_system_pip,
    with_virtualenv,
    with_uv,
    with_downloaded_pip,
]


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
        content: bytes = answer.read()
    return content


def index_options(python: Path) -> list[str]:
    """PyTorch without CUDA on a Linux without a GPU, unless the user has told pip where to look."""
    gpu = Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None
    if not sys.platform.startswith("linux") or gpu:
        return []
    settings = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    if re.search(r"index-url|find-links|no-index", settings.replace("_", "-"), re.IGNORECASE):
        return []
    try:
        read(f"{TORCH_FOR_CPU}/torch/")
    except OSError:
        return []
    return ["--extra-index-url", TORCH_FOR_CPU]


def fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
