"""Is one version of the code as fast and as small as another? Pairs of runs in turn, on one machine.

    python benchmarks/before_after.py OLD/src NEW/src [--pairs 20]
    python benchmarks/before_after.py OLD/src NEW/src --command --options="--policy none" --out FILE

Each run is a new process: `unclip generate` once from the command to its end, and a loaded model that draws
one picture and four, the median of three each, by the clock and by the processor. `--options` are of the new
version's command alone. Written to `benchmarks/results/before-after.json` are the ratios new / old of the
medians, with 95 % intervals by resampling, also of the peak memory. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unclip.runtime import atomic_path, processor_name

RESULT = Path(__file__).parent / "results" / "before-after.json"
RESAMPLED = 2000
WARM = """
import json, statistics, sys, time
import unclip
from unclip.runtime import limit_spinning, peak_memory_bytes
limit_spinning()
started = time.perf_counter()
model = unclip.load(sys.argv[1])
found = {"load": time.perf_counter() - started}
for count in (1, 4):
    model.generate("a red apple", n=count, seed=1)
    times, processor = [], []
    for _ in range(3):
        started, used = time.perf_counter(), time.process_time()
        model.generate("a red apple", n=count, seed=1)
        times.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    found[f"{count} drawn"] = statistics.median(times)
    found[f"{count} drawn, processor"] = statistics.median(processor)
found["peak MiB"] = peak_memory_bytes() / 2**20
print(json.dumps(found))
"""


def processor_seconds() -> float:
    """The time that the processor has spent on processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(source: str, bundle: str, more: str = "", *, alone: bool = False) -> dict[str, float]:
    """Times in seconds and peak memory of one run of a version; `alone` is of the command alone."""
    environment = {**os.environ, "PYTHONPATH": source, "GOMP_SPINCOUNT": "10000"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    with tempfile.TemporaryDirectory() as folder:
        options = ["--seed", "1", "--model", bundle, "--out", folder, *shlex.split(more)]
        command = [sys.executable, "-m", "unclip", "generate", "a red apple", *options]
        started, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        seconds, processor = time.perf_counter() - started, processor_seconds() - used
    figures = {"command": seconds, "command, processor": processor}
    if alone:
        return figures
    warm = subprocess.run(
        [sys.executable, "-c", WARM, bundle], env=environment, check=True, capture_output=True, text=True
    )
    return {**figures, **json.loads(warm.stdout)}


def ratio(old: np.ndarray, new: np.ndarray) -> dict[str, float]:
    """Of the medians, new / old, with its 95 % interval."""
    random = np.random.default_rng(0)
    rows = random.integers(0, len(old), (RESAMPLED, len(old)))
    several = np.median(new[rows], axis=1) / np.median(old[rows], axis=1)
    low, high = np.quantile(several, [0.025, 0.975])
    return {"value": float(np.median(new) / np.median(old)), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("old", help="the folder src of the one version")
    parser.add_argument("new", help="the folder src of the other")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--bundle", default="pictograms", help="name or folder")
    parser.add_argument("--versions", nargs=2, default=["", ""], help="what the two are called")
    parser.add_argument("--command", action="store_true", help="measure the command alone")
    parser.add_argument("--options", default="", help="of the new version's command")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
    for pair in range(-1, arguments.pairs):  # the first is not counted: files are read for the first time
        order = ("old", "new") if pair % 2 else ("new", "old")
        for which in order:
            more = arguments.options if which == "new" else ""
            found = run(getattr(arguments, which), arguments.bundle, more, alone=arguments.command)
            if pair >= 0:
                runs[which].append(found)
        print(f"\r{pair + 1} of {arguments.pairs}", end="", file=sys.stderr)
    print(file=sys.stderr)
    figures = {
        what: {
            "old": statistics.median(one[what] for one in runs["old"]),
            "new": statistics.median(one[what] for one in runs["new"]),
            "ratio": ratio(*(np.array([one[what] for one in runs[which]]) for which in ("old", "new"))),
        }
        for what in runs["old"][0]
    }
    report = {
        "versions": dict(zip(("old", "new"), arguments.versions, strict=True)),
        "bundle": arguments.bundle,
        "options": arguments.options,
        "processor": processor_name(),
        "pairs": arguments.pairs,
        "figures": figures,
    }
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    for what, figure in figures.items():
        share = figure["ratio"]
        print(f"{what:22} {share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})")


if __name__ == "__main__":
    main()
