"""Where results go: a file for each machine, named by its processor."""

from __future__ import annotations

import re
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def result_path(script: str, processor: str, *more: object) -> Path:
    """`results/SCRIPT-PROCESSOR-MORE.json`, for example "clip", "AMD EPYC", 2 -> clip-amd-epyc-2.json."""
    name = re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-")
    return RESULTS / f"{'-'.join([script, name, *map(str, more)])}.json"
