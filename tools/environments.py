"""Virtual environments of what only one tool needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def environment(folder: Path, *packages: str | Path, constraints: Path | None = None) -> Path:
    """The Python of an environment that has these packages.

    Args:
        folder: where it is, or is made. One that was made of other packages is made anew.
        packages: requirements, or files of wheels.
        constraints: a file of the versions to take; else pip chooses, whatever PIP_CONSTRAINT says.
    """
    python, made = folder / "bin" / "python", folder / "made"
    wanted = "\n".join(map(str, packages))
    if made.is_file() and made.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    options = ["--quiet"] if constraints is None else ["--quiet", "--constraint", constraints]
    surroundings = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    subprocess.run([*pip, "install", *options, *packages], env=surroundings, check=True)
    made.write_text(wanted)
    return python
