"""Does `unclip serve` slow `unclip --help`? Pairs of runs in turn, with the verb and without it.

    python benchmarks/help.py [--pairs 40]

Each run is a new process. Without means that `unclip.cli.serve` is an empty group, so that nothing is
imported for it. It is the processor's time that is compared, which other work on the machine hardly changes.
Written to `benchmarks/results/help.json` are the medians and their ratio with / without, with a 95 % interval
by resampling.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from before_after import processor_seconds, ratio

from unclip.runtime import atomic_path, processor_name

RESULT = Path(__file__).parent / "results" / "help.json"
WITH = "import sys; from unclip.cli import main; sys.exit(main(['--help']))"
WITHOUT = (
    "import sys, types, typer; empty = types.ModuleType('unclip.cli.serve'); empty.app = typer.Typer();"
    f"sys.modules['unclip.cli.serve'] = empty; {WITH}"
)


def seconds(program: str) -> float:
    """Processor seconds of one run."""
    before = processor_seconds()
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    command = [sys.executable, "-c", program]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return processor_seconds() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    found: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    for pair in range(-1, arguments.pairs):  # the first is not counted: files are read for the first time
        for program in (WITH, WITHOUT) if pair % 2 else (WITHOUT, WITH):
            used = seconds(program)
            if pair >= 0:
                found[program].append(used)
    with_serve, without = (np.array(found[program]) for program in (WITH, WITHOUT))
    document = {
        "pairs": arguments.pairs,
        "processor": processor_name(),
        "python": sys.version.split()[0],
        "with serve": float(np.median(with_serve)),
        "without": float(np.median(without)),
        "ratio": ratio(without, with_serve),
    }
    with atomic_path(arguments.out) as path:
        path.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
