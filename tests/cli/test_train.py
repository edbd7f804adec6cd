"""`unclip train` hands a recipe with its settings to the run of its stages, and lists the recipes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from unclip import recipes
from unclip.cli import main
from unclip.data.store import CACHE_BYTES, Cache
from unclip.ray_cluster import HERE
from unclip.train.placing import Placing


class Recorder:
    """Stands where the run of a recipe does, and keeps what it was called with."""

    calls: tuple[Any, ...] = ()
    command: str
    redo: bool
    cache: Cache

    def __init__(
        self, recipe: dict[str, Any], data: Path | str, out: Path, device: Any, command: str, cache: Cache
    ) -> None:
        Recorder.calls = (recipe, data, out, str(device))
        Recorder.cache = cache
        Recorder.command = command

    def go(self, only: str | None = None, redo: bool = False) -> Path:
        Recorder.calls += (only,)
        Recorder.redo = redo
        return Path("run")

    def check(self, only: str | None = None, redo: bool = False) -> str:
        return f"checked {only} {redo}"


@pytest.fixture(autouse=True)
def _recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    run = ModuleType("unclip.train.run")
    run.Run = Recorder
    monkeypatch.setitem(sys.modules, "unclip.train.run", run)


def test_list_has_a_line_for_each_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == recipes.names()


def test_settings_steps_and_precision_reach_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "pictograms", "--data", "d", "--out", "o", "--device", "cpu", "--only", "clip"]
    arguments += ["--steps", "7", "--precision", "float32", "--set", "clip.train.seed=3"]
    assert main(arguments) == 0
    recipe, data, out, device, only = Recorder.calls
    assert (data, out, device, only) == (Path("d"), Path("o"), "cpu", "clip")
    assert recipe["clip"]["train"]["seed"] == 3
    for _, table in recipes.train_tables(recipe):
        assert (table["steps"], table["precision"]) == (7, "float32")
    assert capsys.readouterr().out == "run\n"


def test_a_setting_beats_the_steps_of_all_stages() -> None:
    settings = ["--set", "clip.train.steps=9", "--set", "prior.train.precision=bfloat16"]
    arguments = ["train", "pictograms", "--data", "d", "--out", "o", *settings]
    assert main([*arguments, "--steps", "7", "--precision", "float32"]) == 0
    recipe = Recorder.calls[0]
    assert [recipe[stage]["train"]["steps"] for stage in ("clip", "prior")] == [9, 7]
    assert [recipe[stage]["train"]["precision"] for stage in ("clip", "prior")] == ["float32", "bfloat16"]


def test_the_command_reaches_the_run_as_it_was_typed(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "pictograms", "--data", "my pictures", "--out", "o", "--redo"]
    assert main(arguments) == 0
    assert Recorder.command == "unclip train pictograms --data 'my pictures' --out o --redo"
    assert Recorder.redo
    capsys.readouterr()
    assert main([*arguments, "--check", "--only", "clip"]) == 0
    assert capsys.readouterr().out == "checked clip True\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pictogram", "--data", "d", "--out", "o"], "unknown recipe 'pictogram'"),
        (["pictograms", "--out", "o"], "--data"),
        (["pictograms", "--data", "d", "--out", "o", "--steps", "0"], "--steps"),
        (["pictograms", "--data", "d", "--out", "o", "--set", "clip"], "key=value"),
        (["pictograms", "--data", "d", "--out", "o", "--device", "gpu"], "unknown device 'gpu'"),
    ],
)
def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(["train", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_corpus_from_an_address_has_a_cache_of_the_size_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["train", "pictograms", "--out", "o", "--data"]
    assert main([*arguments, "s3://bucket/corpus", "--cache", "c", "--cache-size", "1.5"]) == 0
    assert Recorder.calls[1] == "s3://bucket/corpus"
    assert Recorder.cache == Cache(Path("c"), 1_500_000_000)
    assert main([*arguments, "https://example.org/corpus"]) == 0
    assert Recorder.cache == Cache(None, CACHE_BYTES)
    assert main([*arguments, "folder", "--cache-size", "1"]) == 2
    assert "an address as --data alone" in capsys.readouterr().err


def test_a_cluster_runs_the_same_command_without_what_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    placement, calls = ModuleType("unclip.train.placement"), []
    placement.run = lambda *given: calls.append(given) or "run\n"
    monkeypatch.setitem(sys.modules, "unclip.train.placement", placement)
    monkeypatch.setattr("unclip.ray_cluster.settle", lambda address: None)
    arguments = ["train", "pictograms", "--data", "d", "--out", "o", "--redo", "--set", "clip.train.seed=3"]
    arguments += ["--set", "clip.train.batch=8"]
    assert main([*arguments, "--ray", "--processes", "4", "--process-gpus", "1"]) == 0
    words, placing, address, _ = calls[0]
    assert (placing, address) == (Placing(processes=4, gpus=1), HERE)
    calls.clear()
    assert main([*arguments, "--ray", "10.0.0.1:6379"]) == 0
    assert calls[0][1:3] == (Placing(), "10.0.0.1:6379")
    assert main(words) == 0  # what a process is started with is a command by itself
    recipe, data, out, *_ = Recorder.calls
    assert (data, out, Recorder.redo) == (Path("d"), Path("o"), True)
    assert (recipe["clip"]["train"]["seed"], recipe["clip"]["train"]["batch"]) == (3, 8)
    assert not any("ray" in word or "process" in word for word in words)


def test_options_of_a_cluster_without_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "pictograms", "--data", "d", "--out", "o", "--restarts", "1"]) == 2
    assert "with --ray alone" in capsys.readouterr().err
    assert main(["train", "pictograms", "--data", "d", "--out", "o", "--ray", "--processes", "0"]) == 2
    assert "processes is 0: give 1 or more" in capsys.readouterr().err
