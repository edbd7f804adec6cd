"""Renews constraints.txt, the versions by which CI and the image install: `tools/constraints.py`.

uv resolves pyproject.toml with all of its extras, for every system and every Python that it supports.
`make constraints` calls it; https://docs.astral.sh/uv/pip/compile/#universal-resolution
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from environments import REPOSITORY, environment

UV = "uv==0.13.*"
HEADER = """\
# The versions by which CI and the image install: every dependency, with all extras, on every system.
# Renewed by `make constraints`. What the package itself allows stands in pyproject.toml.
"""
# What uv says of each line, since pyproject.toml says it of all (tool.uv.environments).
SYSTEMS = "(sys_platform == 'darwin' or sys_platform == 'linux' or sys_platform == 'win32')"
OF_ALL = (
    f" ; python_full_version < '3.15' and {SYSTEMS}",
    "python_full_version < '3.15' and ",
    f" and {SYSTEMS}",
)


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print("usage: tools/constraints.py [FILE]", file=sys.stderr)
        return 2
    target = Path(arguments[0]) if arguments else REPOSITORY / "constraints.txt"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    uv = environment(REPOSITORY / "build" / "uv", UV).parent / "uv"
    resolve = [uv, "pip", "compile", "pyproject.toml", "--all-extras", "--universal", "--quiet"]
    options = ["--python-version", oldest, "--no-header", "--no-annotate"]
    found = subprocess.run(
        [*resolve, *options], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    for marker in OF_ALL:
        found = found.replace(marker, "")
    target.write_text(HEADER + found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
