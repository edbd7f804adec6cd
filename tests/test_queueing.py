"""Promises of the simulation of benchmarks/queueing.py: where the answer is known, it is the answer."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("queueing")


def test_one_replica_without_batches_waits_as_a_queue_of_constant_service_does(script: Any) -> None:
    """Pollaczek and Khinchine: wait = load * service / (2 (1 - load))."""
    load, service = 0.7, 1.0
    arrivals = script.arrivals_of(load / service, 60_000, seed=1)
    waited = script.simulated(arrivals, 1, step=lambda rows: service / 4, steps=4, together=1)
    expected = service + load * service / (2 * (1 - load))
    assert sum(waited) / len(waited) == pytest.approx(expected, rel=0.05)


def test_the_server_is_a_queue_of_its_own(script: Any) -> None:
    arrivals = [0.0] * 10
    waited = script.simulated(arrivals, 10, step=lambda rows: 0.0, steps=1, server=0.5)
    assert sorted(waited) == pytest.approx([0.5 * number for number in range(1, 11)])


def test_a_full_batch_gives_the_gain_that_is_assumed(script: Any) -> None:
    arrivals = [0.0] * script.AT_ONCE * 50
    waited = script.simulated(arrivals, 1, step=script.batched, steps=script.STEPS)
    assert len(arrivals) / max(waited) == pytest.approx(script.GAIN / script.ALONE, rel=0.03)


def test_the_runs_that_were_measured_are_as_the_simulation_says() -> None:
    checks = json.loads((SCRIPTS / "results" / "queueing.json").read_text())["checks"]
    assert len(checks) >= 2
    for check in checks:
        for name in ("drawn", "mean", "p95"):
            assert check["simulated"][name] == pytest.approx(check["measured"][name], rel=0.1)
