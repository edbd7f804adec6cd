"""Measure how fast the shipped bundle draws, and keep the figures.

    python benchmarks/generate.py [--model NAME_OR_FOLDER] [--repeats 5]

Writes `benchmarks/results/generate-PROCESSOR-CORES-DEVICE.json` and prints the table with what is aimed at on
two cores of a CPU. Leave the machine alone meanwhile. Exit code 1 says that a target was missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from places import result_path

from unclip.bench import Benchmark, Report, document, table

# Seconds and bytes aimed at on two cores, at 256 px.
TARGETS = {"help": 0.3, "cold": 4.0, "warm": 2.0, "memory": 10**9}


def measured(report: Report) -> dict[str, float]:
    """Figures to compare with `TARGETS`: --help, one picture cold, four pictures warm, peak memory."""
    return {
        "help": report.cold.help,
        "cold": report.cold.total,
        "warm": report.warm[-1].total,
        "memory": max(report.cold.peak_memory_bytes, report.peak_memory_bytes),
    }


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments.model, arguments.device, repeats=arguments.repeats)
    for stage, step, total in benchmark.run():
        print(f"{stage} {step}/{total}", file=sys.stderr)
    report = benchmark.report
    assert report is not None
    machine = report.machine
    path = result_path("generate", machine.processor, machine.cores, machine.device)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document(report), indent=1) + "\n")
    print(table(report))
    missed = 0
    for name, value in measured(report).items():
        met = value <= TARGETS[name]
        missed += not met
        print(f"{name:<8} {value:>14.2f} of {TARGETS[name]:>14.2f}  {'met' if met else 'MISSED'}")
    print(f"written to {path.relative_to(Path(__file__).parent.parent)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
