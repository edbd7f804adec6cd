"""The promise that the script of the page's budget runs: on little, with nothing judged."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from support.browsing import CHROMIUM

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium-headless-shell")
def test_the_budget_of_the_page_is_measured(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("studio")
    out = tmp_path / "studio.json"
    script.main(["--pictures=90", "--opened=20", "--keys=8", f"--model={tiny_bundle}", f"--out={out}"])
    found = json.loads(out.read_text())
    assert found["pictures_seen"] == found["library"] == 90
    assert set(found["budget"]) <= set(found)
