"""The promise that the tables of docs/policy.md are those of the results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_tables_are_the_results() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import policy
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    said = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8").splitlines()
    results = json.loads(policy.RESULT.read_text(encoding="utf-8"))
    assert [row for row in policy.tables(results) if row not in said] == []


def test_the_goals_hold() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "policy.json").read_text(encoding="utf-8"))
    false, missed = results["prompts"]["false refusals"], results["prompts"]["missed"]
    assert all(false[code]["captions"]["value"] <= 0.5 for code in ("en", "ko", "de"))
    assert false["all"]["hard cases"]["value"] <= 2
    assert all(rows["the half that is reported"]["value"] <= 20 for rows in missed.values())
    assert all(rows["persons"]["value"] <= 20 for rows in missed.values())
    assert results["pictures"]["faces"]["faces of LFW"]["count"] >= 95
    assert results["pictures"]["faces"]["other photographs"]["count"] <= 2


def test_the_ratios_of_time_are_the_results_and_nothing_is_slower_that_can_be_told() -> None:
    said = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks" / "results" / "policy-speed.json").read_text(encoding="utf-8"))
    for name, what in (("command, processor", "processor time"), ("command", "time by the clock")):
        ratio = results["figures"][name]["ratio"]
        assert f"| {what} | {ratio['value']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f}) |" in said
        assert ratio["low"] <= 1
