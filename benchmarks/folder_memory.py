"""Measures the memory that `unclip data folder` takes with pictures that weigh more and more.

    python benchmarks/folder_memory.py [--workers 2] [--quick]

Folders of noise, as PNG, with a caption beside each: 256 of 5 MB, 24 of 40 MB, 6 of 149 MB, which have as
many pixels as are read at all. Memory is that of the process and all that it starts, what they share counted
once (PSS), looked at every 20 ms. Writes `benchmarks/results/folder-memory.json`, with --quick nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results"
FOLDERS = ((256, 5), (24, 40), (6, 149))  # pictures, and megabytes of each
PAUSE = 0.02  # seconds between two looks


def make(folder: Path, count: int, megabytes: int) -> None:
    """A folder of different pictures of noise."""
    side = math.isqrt(megabytes * 10**6 // 3)
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    half, tile = side // 2, side // 8
    for number in range(count):
        tiles = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)  # none is another's near-duplicate
        noise[:half, :half] = tiles.repeat(tile + 1, 0).repeat(tile + 1, 1)[:half, :half]
        Image.fromarray(noise).save(folder / f"{number}.png", compress_level=0)
        (folder / f"{number}.txt").write_text(f"picture number {number}")


def held(process: int) -> int:
    """Bytes that a process holds, and those that it has started."""
    try:
        threads = Path(f"/proc/{process}/task").iterdir()
        started = " ".join((thread / "children").read_text() for thread in threads).split()
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    own = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return own + sum(held(int(child)) for child in started)


def measured(count: int, megabytes: int, workers: int) -> dict[str, object]:
    """One folder: its pictures, and the peak of memory while it became a corpus."""
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "pictures", Path(place) / "corpus"
        source.mkdir()
        make(source, count, megabytes)
        command = [sys.executable, "-m", "unclip", "data", "folder", str(source), str(out)]
        started = time.monotonic()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            [*command, "--workers", str(workers)], env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, held(process.pid))
                time.sleep(PAUSE)
            assert process.stderr is not None
            said = process.stderr.read().splitlines()
        if process.returncode:
            raise SystemExit("\n".join(said))
        return {
            "pictures": count,
            "megabytes_each": megabytes,
            "workers": workers,
            "peak_mb": round(peak / 10**6),
            "seconds": round(time.monotonic() - started),
            "said": next(line for line in said if " in, " in line),
        }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Measures all folders; with --quick one of small pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a small folder, and no results")
    chosen = parser.parse_args(arguments)
    rows = []
    for count, megabytes in ((4, 1),) if chosen.quick else FOLDERS:
        rows.append(measured(count, megabytes, chosen.workers))
        print(json.dumps(rows[-1]), flush=True)
    if not chosen.quick:
        (RESULTS / "folder-memory.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
