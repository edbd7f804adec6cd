"""A server, `unclip serve`, while something is asked of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

READY = "unclip: ready on "
END_SECONDS = 600


@contextmanager
def served(
    command: Sequence[str | Path], scratch: Path, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The address of a server, which has drawn its first picture.

    Args:
        command: `unclip serve` as it is called here, with its options; port and folder are added.
        scratch: its working directory; its data and its log are put there.
        environment: of the process; None is that of this one.

    Raises:
        SystemExit: it ended too early, with another code than 0, or with a traceback in its log.
    """
    log = scratch / "log"
    options = ["--port", "0", "--data", str(scratch / "data")]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, *options], cwd=scratch, stderr=stderr, env=dict(environment or os.environ)
        )
    try:
        while True:
            line = next((line for line in log.read_text().splitlines() if line.startswith(READY)), None)
            if line is not None:
                break
            if process.poll() is not None:
                raise SystemExit(f"the server has ended:\n{log.read_text()}")
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        yield line.removeprefix(READY)
    finally:
        process.terminate()
        code = process.wait(END_SECONDS)
        said = log.read_text()
        if "Traceback" in said or code != 0:
            print(said[said.find("Traceback") :][:4000])
            raise SystemExit(f"the server ended with {code}, or failed once")
