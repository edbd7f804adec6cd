"""Promises of training for a time: it ends in time, with weights, and goes on where it was cut off."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from unclip import native, recipes
from unclip.errors import InputError, Interrupted
from unclip.train import state, timed
from unclip.train.run import Run
from unclip.train.timed import Stopwatch, train_for

FAST = [
    *("clip.train.log_steps=5", "clip.train.evaluate_steps=0", "clip.train.warmup=0"),
    *("clip.train.tensorboard=false", "layout.train.tensorboard=false"),  # it takes seconds to load
]


def run_of(recipe: Path, corpus: Path, out: Path, *settings: str) -> Run:
    return Run(recipes.load(recipe, [*FAST, *settings]), corpus, out, torch.device("cpu"))


def test_a_stage_is_trained_for_its_time_and_its_rate_decays(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    train_for(run_of(recipe, corpus, tmp_path / "run"), 0.01, {"clip": 1}, str)
    run, told = run_of(recipe, corpus, tmp_path / "run", "layout.train.log_steps=5"), list[str]()
    began = time.monotonic()
    found = train_for(run, 0.15, {"layout": 1}, told.append)  # its CLIP is there
    assert time.monotonic() - began < 30
    assert list(found) == ["layout"]
    native.load_model(found["layout"])
    assert run.recipe["layout"]["train"]["steps"] == state.newest_step(tmp_path / "run" / "layout")
    assert any("to go" in text for text in told)
    lines = [json.loads(line) for line in (tmp_path / "run/layout/metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates[-1] < max(rates)  # its decay began: how far it came is the machine's pace


def test_the_same_call_again_leaves_what_is_done_and_trains_the_rest(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    first = train_for(run_of(recipe, corpus, tmp_path / "run"), 0.02, {"clip": 1}, str)
    before = first["clip"].read_bytes()
    told: list[str] = []
    again = train_for(run_of(recipe, corpus, tmp_path / "run"), 0.05, {"clip": 1, "layout": 1}, told.append)
    assert told[0] == "clip: is there"
    assert again["clip"].read_bytes() == before
    assert again["layout"].exists()


def test_what_was_cut_off_goes_on_from_its_checkpoint(
    recipe: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(recipe, corpus, tmp_path / "run")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(state, "write_weights", killed)
        train_for(run, 0.02, {"clip": 1}, str)
    steps = state.newest_step(tmp_path / "run" / "clip")
    assert steps
    again = run_of(recipe, corpus, tmp_path / "run")
    assert train_for(again, 0.05, {"clip": 1}, str)["clip"].exists()
    assert (state.newest_step(tmp_path / "run" / "clip") or 0) > steps


def test_a_time_that_is_over_at_once_still_ends_with_weights(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    found = train_for(run_of(recipe, corpus, tmp_path / "run"), 1e-6, {"clip": 1}, str)
    native.load_model(found["clip"])
    assert state.newest_step(tmp_path / "run" / "clip") == 1


def test_a_signal_ends_it_with_a_checkpoint(
    recipe: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Signalled(Stopwatch):
        def is_set(self) -> bool:
            if len(self.asked) == 4:
                self.set()
            return super().is_set()

    monkeypatch.setattr(timed, "Stopwatch", Signalled)
    with pytest.raises(Interrupted, match="start the same command again"):
        train_for(run_of(recipe, corpus, tmp_path / "run"), 1, {"clip": 1}, str)
    assert state.newest_step(tmp_path / "run" / "clip") == 5


def test_a_stopwatch_counts_from_the_first_question() -> None:
    watch = Stopwatch(0.05, float("inf"))
    time.sleep(0.1)
    assert not watch.is_set()
    assert watch.per_second is None
    time.sleep(0.06)
    assert watch.is_set()
    assert not watch.told
    assert Stopwatch(9.0, 0.0).is_set()
    for _ in range(4):
        watch.is_set()
    assert watch.per_second is not None


@pytest.mark.parametrize(
    ("minutes", "shares", "settings", "message"),
    [
        (0, {"clip": 1}, [], "allowed are numbers above 0"),
        (1, {"clip": -1}, [], "allowed are numbers above 0"),
        (1, {}, [], "allowed are numbers above 0"),
        (1, {"clap": 1}, [], "unknown stage 'clap': this recipe trains clip"),
        (1, {"clip": 1}, ["clip.train.schedule='cosine'"], "use wsd"),
    ],
)
def test_what_cannot_be_done_in_time_is_refused(
    recipe: Path, corpus: Path, tmp_path: Path, minutes: float, shares: dict[str, float], settings: list[str],
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        train_for(run_of(recipe, corpus, tmp_path / "run", *settings), minutes, shares, str)
