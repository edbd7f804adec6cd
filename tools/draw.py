"""`make draw` where there is no make: `python tools/draw.py [PROMPT] [OPTIONS]`, on Windows, too.

Makes .venv where it is missing, installs this checkout, and draws into the folder pictures, or where --out
says.
"""

from __future__ import annotations

import subprocess
import sys

from make_venv import REPOSITORY, main, python_of

PROMPT = "a red apple"


def draw(arguments: list[str]) -> int:
    """Installs if need be, and draws: the first of the arguments is the prompt, the others are options."""
    folder = REPOSITORY / ".venv"
    installed = folder / "installed"
    if not installed.is_file():
        if code := main([str(folder)]):
            return code
        installed.touch()
    prompt, options = (arguments[0], arguments[1:]) if arguments else (PROMPT, [])
    if not any(option == "--out" or option.startswith("--out=") for option in options):
        options = ["--out", str(REPOSITORY / "pictures"), *options]
    return subprocess.run([python_of(folder), "-m", "unclip", "generate", *options, "--", prompt]).returncode


if __name__ == "__main__":
    sys.exit(draw(sys.argv[1:]))
