"""Promises of the failure model: the formulas are the papers', and a run writes as often as they say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from support.tiny_task import TinyTask
from unclip.errors import InputError
from unclip.train import failures, loop, state
from unclip.train.config import LoopConfig
from unclip.train.failures import Rhythm, daly, stretched, young

DAY = 86_400.0


@pytest.mark.parametrize("write", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("between", [3600.0, DAY, 30 * DAY])
def test_dalys_interval_is_the_one_that_takes_the_least_time(write: float, between: float) -> None:
    """Beside the minimum of his own Eq. 20, found by trying: it is flat there."""
    best = min(
        stretched(seconds, write, 60.0, between)
        for seconds in (daly(write, between) * 1.01**k for k in range(-100, 101))
    )
    assert stretched(daly(write, between), write, 60.0, between) == pytest.approx(best, rel=1e-3)


def test_youngs_formula_is_the_square_root_and_dalys_goes_over_into_it() -> None:
    assert young(50.0, 10_000.0) == 1000.0
    assert daly(1e-3, 30 * DAY) == pytest.approx(young(1e-3, 30 * DAY), rel=1e-4)
    assert daly(100.0, 50.0) == 50.0  # where a checkpoint takes twice as long as things hold


def test_a_run_that_fails_oftener_than_it_writes_never_ends() -> None:
    assert stretched(1e6, 1.0, 1.0, 100.0) == math.inf
    assert stretched(1.0, 1.0, 1e6, 1.0) == math.inf


def test_without_failures_a_run_is_longer_by_its_checkpoints_alone() -> None:
    assert stretched(990.0, 10.0, 60.0, 1e12) == pytest.approx(1000 / 990, rel=1e-6)


def test_the_interval_follows_from_the_time_of_writing() -> None:
    rhythm = Rhythm(None, failures.GPU_HOURS_BETWEEN_FAILURES / 1024)
    assert rhythm.seconds == failures.FIRST_SECONDS
    assert rhythm.written(30.0)
    assert rhythm.seconds == daly(30.0, failures.GPU_HOURS_BETWEEN_FAILURES * 3600 / 1024)
    assert "a checkpoint takes 30.0 s: one every 53." in rhythm.text
    assert not rhythm.written(30.0)  # nothing new to say


def test_one_process_loses_no_more_than_ten_minutes_where_writing_is_cheap() -> None:
    rhythm = Rhythm(None, failures.GPU_HOURS_BETWEEN_FAILURES)
    rhythm.written(0.3)
    assert rhythm.seconds == 600.0
    rhythm.written(30.0)
    assert rhythm.seconds == 6000.0  # half a percent of the time


def test_the_interval_that_a_recipe_sets_stays() -> None:
    rhythm = Rhythm(2.0, 1.0)
    assert not rhythm.written(30.0)
    assert rhythm.seconds == 120.0


@pytest.mark.parametrize("setting", ["checkpoint_minutes", "failure_hours"])
def test_intervals_are_above_zero(setting: str) -> None:
    with pytest.raises(InputError, match=f"{setting}: got 0.0, allowed is above 0"):
        LoopConfig(steps=1, batch=1, **{setting: 0.0})


def test_a_run_writes_by_the_time_that_writing_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one comes when it is due; the next would be 200 times its time later, and the run is over."""
    monkeypatch.setattr(failures, "FIRST_SECONDS", 1e-9)
    config = LoopConfig(steps=6, batch=8, preview_steps=0, tensorboard=False)
    loop.train(TinyTask(), config, tmp_path)
    steps = [int(path.name.split("-")[1]) for path in state.checkpoint_paths(tmp_path)]
    assert steps == [6, 1]
    said = [line for line in capsys.readouterr().err.splitlines() if "a checkpoint takes" in line]
    assert len(said) == 1


def test_a_run_that_says_its_minutes_writes_by_them(tmp_path: Path) -> None:
    config = LoopConfig(steps=4, batch=8, preview_steps=0, tensorboard=False, checkpoint_minutes=1e-9, keep=9)
    loop.train(TinyTask(), config, tmp_path)
    assert [int(path.name.split("-")[1]) for path in state.checkpoint_paths(tmp_path)] == [4, 3, 2, 1]
