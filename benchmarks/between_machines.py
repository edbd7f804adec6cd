"""PowerSGD over a slow link, against whole gradients: two network namespaces stand for machines.

    sudo python benchmarks/between_machines.py RECIPE --data CORPUS --stages RUN [--megabits 50]

Each way trains the stage `dalle1` of a recipe anew by `torchrun`, two processes in each namespace, with
shares inside a machine (`parallel = "hybrid"`); RUN holds the stages before it. The link is limited by tc's
token bucket: bandwidth, no delay. Written to `benchmarks/results/between-machines.json` are, for each way,
the bytes that crossed the link in a step (both ways together), the seconds of a step (the median, the first
two left out) and the losses. `benchmarks/between_machines.toml` is a recipe for it. Linux, as root, with
iproute2.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from unclip.runtime import atomic_path, processor_name
from unclip.train.log import read_metrics

RESULT = Path(__file__).parent / "results" / "between-machines.json"
MACHINES = ("unclip-m0", "unclip-m1")
ADDRESSES = ("10.77.31.1", "10.77.31.2")
PORT = 29577
LEFT_OUT = 2  # steps
LOOK_SECONDS = 0.5  # between two looks at the link
WAYS = {
    "whole": ("dalle1.train.gradient_hook=none",),
    "powersgd, rank 4": (
        "dalle1.train.gradient_hook=powersgd",
        "dalle1.train.powersgd_rank=4",
        "dalle1.train.powersgd_start=0",
    ),
    "powersgd, rank 16": (
        "dalle1.train.gradient_hook=powersgd",
        "dalle1.train.powersgd_rank=16",
        "dalle1.train.powersgd_start=0",
    ),
}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def linked(megabits: float) -> None:
    """Two namespaces with a link of so many megabits a second each way."""
    unlinked()
    ip("link", "add", "m0", "type", "veth", "peer", "name", "m1")
    for device, machine, address in zip(("m0", "m1"), MACHINES, ADDRESSES, strict=True):
        ip("netns", "add", machine)
        ip("link", "set", device, "netns", machine)
        ip("-n", machine, "addr", "add", f"{address}/24", "dev", device)
        for name in ("lo", device):
            ip("-n", machine, "link", "set", name, "up")
        limit = ["root", "tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "100ms"]
        command = ["ip", "netns", "exec", machine, "tc", "qdisc", "add", "dev", device, *limit]
        subprocess.run(command, check=True)


def unlinked() -> None:
    for machine in MACHINES:
        subprocess.run(["ip", "netns", "del", machine], stderr=subprocess.DEVNULL, check=False)


def sent() -> int:
    """Bytes that have crossed the link, both ways."""
    total = 0
    for device, machine in zip(("m0", "m1"), MACHINES, strict=True):
        command = ["ip", "-n", machine, "-s", "-j", "link", "show", device]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        total += json.loads(found.stdout)[0]["stats64"]["tx"]["bytes"]
    return total


def trained(recipe: str, data: Path, run: Path, steps: int, changes: list[str]) -> dict[int, int]:
    """One run of the stage `dalle1` on both machines: bytes that had crossed the link at the end of steps."""
    settings = [f"steps={steps}", "log_steps=1", "preview_steps=0", "evaluate_steps=0", "tensorboard=false"]
    settings += ["parallel=hybrid", "precision=float32", "warmup=0"]
    settings = [f"dalle1.train.{setting}" for setting in settings]
    stage = [word for setting in (*settings, *changes) for word in ("--set", setting)]
    processes = []
    for rank, (device, machine) in enumerate(zip(("m0", "m1"), MACHINES, strict=True)):
        command = ["ip", "netns", "exec", machine, sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "2"]
        command += [
            "--master-addr",
            ADDRESSES[0],
            "--master-port",
            str(PORT),
            "-m",
            "unclip",
            "train",
            recipe,
        ]
        command += ["--data", str(data), "--out", str(run), "--only", "dalle1", *stage]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": device}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL))
    seen: dict[int, int] = {}
    while None in [process.poll() for process in processes]:
        crossed, lines = sent(), read_metrics(run / "dalle1")
        seen.setdefault(max((line["step"] for line in lines), default=0), crossed)
        time.sleep(LOOK_SECONDS)
    if any(process.returncode for process in processes):
        raise SystemExit("a process failed")
    return seen


def measured(recipe: str, data: Path, stages: Path, steps: int, changes: list[str]) -> dict[str, object]:
    """Bytes and seconds of a step, and the losses, of one way."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(stages, run)
        seen = trained(recipe, data, run, steps, changes)
        lines = [line for line in read_metrics(run / "dalle1") if line["kind"] == "train"]
    seconds = [line["seconds"] for line in lines]
    each = [later - earlier for earlier, later in pairwise(seconds)][LEFT_OUT:]
    first, last = min(step for step in seen if step >= LEFT_OUT), max(seen)
    crossed = seen[last] - seen[first]  # without the weights that all processes get before the first step
    losses = [round(line["loss"], 4) for line in lines]
    return {
        "megabytes_a_step": round(crossed / (last - first) / 1e6, 3),
        "seconds_a_step": round(statistics.median(each), 3),
        "losses": losses,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--stages", type=Path, required=True, help="a run that has the stages before `dalle1`"
    )
    parser.add_argument("--megabits", type=float, default=50.0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], help="as of `unclip train`")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    common = arguments.set
    linked(arguments.megabits)
    try:
        ways = {
            name: measured(
                arguments.recipe, arguments.data, arguments.stages, arguments.steps, [*common, *changes]
            )
            for name, changes in WAYS.items()
        }
    finally:
        unlinked()
    report = {
        "recipe": arguments.recipe,
        "megabits": arguments.megabits,
        "steps": arguments.steps,
        "settings": arguments.set,
        "processor": processor_name(),
        "ways": ways,
    }
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    for name, found in ways.items():
        losses = found["losses"]
        assert isinstance(losses, list)
        print(
            f"{name:42}{found['megabytes_a_step']:9.2f} MB{found['seconds_a_step']:8.3f} s  loss {losses[-1]}"
        )


if __name__ == "__main__":
    main()
