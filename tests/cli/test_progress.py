"""The promise that work of hours says in a log how fast it is and how long it will still take."""

from __future__ import annotations

import re

import pytest

from unclip.cli import progress
from unclip.cli.progress import StageProgress


def test_rates_and_time_left_are_written_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    with StageProgress(rates=True) as shown:
        shown.update("scan", 5, 0)  # of an unknown number
        for step in (0, 3, 6):
            shown.update("pictures", step, 6)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"pictures: 3 of 6, [\d.e+]+/s, 0:00:00 left", lines[0])
    assert [line.split(":")[0] for line in lines] == ["pictures", "pictures", "scan"]


def test_rates_are_not_written_unless_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    with StageProgress() as shown:
        shown.update("pictures", 3, 6)
    assert " of 6" not in capsys.readouterr().err
