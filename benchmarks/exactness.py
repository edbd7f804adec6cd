"""Measures how far a picture depends on the way in which it is computed, and the cost of `--exact`.

    python benchmarks/exactness.py > benchmarks/results/exactness.json

Draws the same pictures in each precision: together, alone and on one thread, and compares them by pixels.
Seconds are of processor time, the sum over all threads, for a picture drawn together with the others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import unclip
from unclip.runtime import processor_name

PROMPTS = ["a red apple", "a cat", "a rocket, 3D style"]
EACH, SEED = 2, 3
WAYS: dict[str, dict[str, Any]] = {
    "bfloat16": {"precision": "bfloat16"},
    "float32": {"precision": "float32"},
    "exact": {"exact": True},
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pictograms")
    parser.add_argument("--size", type=int, default=256)
    asked = parser.parse_args(arguments)
    rows, drawn = [], {}
    for way, options in WAYS.items():
        model = unclip.load(asked.model, device="cpu", **options)
        draw(model, PROMPTS[:1], 1, asked.size)  # networks are read, kernels chosen
        started = time.process_time()
        together = draw(model, PROMPTS, EACH, asked.size)
        seconds = (time.process_time() - started) / len(together)
        alone = np.concatenate([draw(model, [prompt], 1, asked.size) for prompt in PROMPTS])
        with one_thread():
            single = draw(model, PROMPTS, EACH, asked.size)
        drawn[way] = together
        rows.append(
            {
                "way": way,
                "processor_seconds_a_picture": round(seconds, 3),
                "alone": difference(together[::EACH], alone),
                "on one thread": difference(together, single),
                "against exact": None,
            }
        )
    for row in rows:
        row["against exact"] = difference(drawn[row["way"]], drawn["exact"])
    machine = {"processor": processor_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    kind = {"instructions": torch.backends.cpu.get_cpu_capability()}
    weights = {"model": asked.model, "weights": model.bundle.identity, "size": asked.size}
    print(json.dumps({**weights, **machine, **kind, "pictures": len(drawn["exact"]), "rows": rows}, indent=1))
    return 0


def draw(model: unclip.Model, prompts: list[str], n: int, size: int) -> np.ndarray:
    """Pictures (B, S, S, 3)."""
    return np.stack([np.asarray(one.image) for one in model.generate(prompts, n=n, size=size, seed=SEED)])


def difference(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """The largest difference in levels of 255, and the share of pixels that differ at all."""
    levels = np.abs(one.astype(int) - other)
    return {"levels": int(levels.max()), "pixels": round(float(levels.any(-1).mean()), 6)}


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    raise SystemExit(main())
