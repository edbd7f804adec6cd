"""Promises of the best weights: those of the highest figure, whatever the loss did, also after a stop."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from support.tiny_task import TinyTask
from unclip import recipes
from unclip.errors import InputError, Interrupted
from unclip.train.config import LoopConfig, Precision
from unclip.train.loop import train
from unclip.train.run import Run


class Blind:
    """A task that cannot judge its model."""

    name, config = "blind", dict[str, Any]()

    def __init__(self) -> None:
        self.model = TinyTask().model


VALUES = {2: 0.1, 4: 0.5, 6: 0.3, 8: 0.5, 10: 0.2}


class Judging(TinyTask):
    """Evaluates to what a table says of the steps that the model has seen, and keeps its weights of then."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.asked = 0

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        self.asked += 1
        step = int(model.seen)
        self.weights[step] = {name: value.clone() for name, value in model.state_dict().items()}
        return {"found": VALUES.get(step, 0.0), "other": 1.0}


def settings(**changes: Any) -> LoopConfig:
    plain: dict[str, Any] = {
        "steps": 10,
        "batch": 8,
        "warmup": 0,
        "preview_steps": 0,
        "tensorboard": False,
        "ema": (),
        "evaluate_steps": 2,
    }
    return LoopConfig(precision=Precision.FLOAT32, **{**plain, **changes})


def step_of(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(file.get_tensor("seen"))


def test_the_weights_of_the_highest_figure_are_kept_and_of_two_alike_the_first(tmp_path: Path) -> None:
    task = Judging()
    final = train(task, settings(best="found"), tmp_path)
    assert {path.name for path in final.iterdir()} == {"raw.safetensors", "best.safetensors"}
    best = load_file(final / "best.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in task.weights[4].items())
    assert step_of(final / "raw.safetensors") == 10


def test_the_weights_that_training_begins_with_may_be_the_best(tmp_path: Path) -> None:
    class Worse(Judging):
        def evaluate(self, model: nn.Module) -> dict[str, float]:
            return {**super().evaluate(model), "found": -float(model.seen)}

    final = train(Worse(), settings(best="found"), tmp_path)
    assert step_of(final / "best.safetensors") == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "evaluate"] == [0, 2, 4, 6, 8, 10]


def test_each_evaluation_is_told_beside_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(Judging(), settings(best="found"), tmp_path)
    told = capsys.readouterr().err
    assert "step 4: found 0.5, the best so far" in told
    assert "step 6: found 0.3, best 0.5 at step 4" in told


def test_a_run_that_is_stopped_behind_the_best_ends_with_the_same_best(tmp_path: Path) -> None:
    once = train(Judging(), settings(best="found"), tmp_path / "once")
    train(Judging(), settings(best="found", steps=6, schedule="constant"), tmp_path / "twice")
    twice = train(Judging(), settings(best="found", schedule="constant"), tmp_path / "twice")
    assert step_of(twice / "best.safetensors") == step_of(once / "best.safetensors") == 4


def test_before_the_end_the_folder_of_results_holds_none(tmp_path: Path) -> None:
    class Stops(Judging):
        def evaluate(self, model: nn.Module) -> dict[str, float]:
            if int(model.seen) == 6:
                stop.set()
            return super().evaluate(model)

    stop = threading.Event()
    with pytest.raises(Interrupted):
        train(Stops(), settings(best="found"), tmp_path, stop=stop)
    assert step_of(tmp_path / "best.safetensors") == 4
    assert not (tmp_path / "final").exists()


def test_a_figure_that_there_is_not_is_refused_before_the_first_step(tmp_path: Path) -> None:
    task = Judging()
    with pytest.raises(InputError, match=r"train\.best: .*'foundd': did you mean 'found'"):
        train(task, settings(best="foundd"), tmp_path)
    assert list(task.weights) == [0]


def test_best_needs_evaluations(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="best: got 'found', allowed is empty unless evaluate_steps"):
        settings(best="found", evaluate_steps=0)
    with pytest.raises(InputError, match="blind evaluates nothing"):
        train(Blind(), settings(best="found"), tmp_path)


def test_a_run_that_is_done_and_asked_for_its_best_has_its_last(tmp_path: Path) -> None:
    train(Judging(), settings(), tmp_path)
    final = train(Judging(), settings(best="found"), tmp_path)
    assert step_of(final / "best.safetensors") == 10


def test_a_stage_counts_by_its_best_weights_unless_it_says_otherwise(
    corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    best = "clip.train.best=recall_at_1_en"

    def result(*more: str) -> str:
        return (
            Run(recipes.load(recipe, [best, *more]), corpus, tmp_path, torch.device("cpu"))
            .result("clip")
            .name
        )

    assert result() == "best.safetensors"
    assert result("clip.weights=ema-0") == "ema-0.safetensors"
    run = Run(recipes.load(recipe, [best]), corpus, tmp_path, torch.device("cpu"))
    run.go("clip")
    assert (tmp_path / "clip/final/best.safetensors").is_file()
    wrong = Run(recipes.load(recipe, ["clip.weights=best"]), corpus, tmp_path / "b", torch.device("cpu"))
    with pytest.raises(InputError, match=r"clip\.weights: got 'best', allowed are raw, ema-0"):
        wrong.check("clip")
