"""Promises of training from a store: it is a run like any other, and goes on with the very next picture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.sharded_corpus import build_sharded, in_s3
from unclip import native, recipes
from unclip.cli import main
from unclip.data.store import Cache
from unclip.errors import DataError, InputError, Interrupted, TrainingError
from unclip.train.run import Run

CHANGES = ("clip.train.steps=12", "clip.train.log_steps=1", "clip.train.tensorboard=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sharded(tmp_path_factory.mktemp("corpus") / "sharded")


@pytest.fixture(scope="module")
def s3(folder: Path) -> Iterator[str]:
    with in_s3(folder) as address:
        yield address


class StopsAfter(threading.Event):
    """Is set once it has been asked so many times; the loop asks once a step."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.left = questions

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def run(recipe: Path, data: str | Path, out: Path, cache: Path, **more: threading.Event) -> Run:
    loaded = recipes.load(str(recipe), CHANGES)
    return Run(loaded, data, out, torch.device("cpu"), cache=Cache(cache, 10**7), **more)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return native.load_model(out / "clip" / "final" / "raw.safetensors").state_dict()


@pytest.mark.parametrize("stopped", [1, 5, 11])
def test_a_run_that_was_stopped_sees_the_pictures_that_one_which_was_not_sees(
    stopped: int, recipe: Path, s3: str, tmp_path: Path
) -> None:
    """Twelve steps of eight are more than an epoch of the 90 pictures."""
    run(recipe, s3, tmp_path / "whole", tmp_path / "cache").go("clip")
    with pytest.raises(Interrupted):
        run(recipe, s3, tmp_path / "stopped", tmp_path / "cache", stop=StopsAfter(stopped)).go("clip")
    run(recipe, s3, tmp_path / "stopped", tmp_path / "cache").go("clip")
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "stopped").items():
        assert torch.equal(tensor, expected[name]), name


def test_the_command_line_trains_stage_after_stage_from_s3(
    recipe: Path, s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(recipe), "--data", s3, "--out", str(tmp_path / "run"), "--only", "prior"]
    assert main([*arguments, "--cache", str(tmp_path / "cache"), "--cache-size", "0.1"]) == 0
    assert "pictures to learn from" in capsys.readouterr().err
    for stage in ("clip", "prior"):
        assert (tmp_path / "run" / stage / "final" / "raw.safetensors").is_file()


def test_a_cache_that_is_too_small_is_refused_before_the_first_step(
    recipe: Path, s3: str, tmp_path: Path
) -> None:
    loaded = recipes.load(str(recipe))
    small = Run(loaded, s3, tmp_path / "run", torch.device("cpu"), cache=Cache(tmp_path / "cache", 5000))
    with pytest.raises(DataError, match="is too small: .* shards of s3://.* are open at once"):
        small.check()


def test_rows_of_one_kind_are_refused_before_the_first_step(recipe: Path, s3: str, tmp_path: Path) -> None:
    loaded = recipes.load(str(recipe))
    loaded["clip"]["task"] = {"pictures": {"hard_negatives": 0.5}}
    whole = Run(loaded, s3, tmp_path / "run", torch.device("cpu"), cache=Cache(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"hard_negatives: got 0.5, .* use 0, or a corpus in a folder"):
        whole.check()


def test_stages_that_were_trained_from_elsewhere_are_stale(
    recipe: Path, folder: Path, s3: str, tmp_path: Path
) -> None:
    run(recipe, s3, tmp_path / "run", tmp_path / "cache").go("clip")
    again = run(recipe, folder, tmp_path / "run", tmp_path / "cache")
    with pytest.raises(TrainingError, match="the corpus is another"):
        again.go("clip")
