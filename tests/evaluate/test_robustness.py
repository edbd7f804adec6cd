"""Promises of the robustness table: the same pictures for both, and CLIP beside its equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from support.styled_corpus import COLOURS
from support.work import done
from unclip import recipes
from unclip.cli.robustness import register
from unclip.data.classes import Classes
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.errors import InputError
from unclip.evaluate.robustness import Robustness, robustness
from unclip.manifest import Preprocessing
from unclip.train.log import read_metrics
from unclip.train.run import Run
from unclip.train.state import checkpoint_paths, read_checkpoint

SETTINGS = [
    *("supervised.model.image.image_size=32", "supervised.model.image.width=8"),
    *("supervised.model.image.heads=4", "supervised.task.styles=2", "supervised.task.shift=1"),
    *("supervised.train.steps=8", "supervised.train.batch=16", "supervised.train.warmup=0"),
    *("supervised.train.learning_rate=0.01", "supervised.train.log_steps=1"),
    *("supervised.train.checkpoint_minutes=1e-6", "supervised.train.evaluate_steps=8"),
    *("supervised.train.tensorboard=false", "supervised.train.precision=float32"),
]
DEVICE = torch.device("cpu")
PAINT = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "orange": (255, 165, 0)}
TESTS = ["unseen-pairs", "unseen-styles", "hair", "heavy"]


@pytest.fixture(scope="module")
def run(styled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the shipped recipe, smaller."""
    recipe = recipes.load("supervised", SETTINGS)
    return Run(recipe, styled, tmp_path_factory.mktemp("run"), DEVICE).go()


class Seer:
    """A CLIP that sees the colour of a picture and takes every shape for a circle: right in one of two."""

    name, identity = "seer", "0"
    preprocessing = Preprocessing(64)

    def classifier(self, labels: tuple[str, ...], templates: str) -> Any:
        assert templates == "plain"
        self.labels = labels
        return self

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape[1:] == (64, 64, 3)
        return pixels

    def probabilities(self, pixels: np.ndarray) -> Tensor:
        rows = []
        for picture in pixels.reshape(len(pixels), -1, 3).astype(int):
            ink = picture[picture.min(1).argmin()]
            colour = min(PAINT, key=lambda name: np.abs(ink - PAINT[name]).sum())
            rows.append([float(label == f"{colour} circle") for label in self.labels])
        return torch.tensor(rows)


def measure(clip: Any, run: Path, data: Path) -> tuple[list[Any], Robustness]:
    return done(robustness(clip, run, data, device=DEVICE))


def test_a_supervised_model_learns_the_classes(run: Path) -> None:
    lines = read_metrics(run / "supervised")
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    (judged,) = [line for line in lines if line["kind"] == "evaluate"]
    assert 0 <= judged["accuracy"] <= 1


def test_both_are_tested_on_the_same_pictures_of_the_classes(styled: Path, run: Path) -> None:
    steps, found = measure(Seer(), run, styled)
    assert steps[-1] == ("supervised", 8, 8)
    assert found.classes == 2 * len(COLOURS)
    assert [row.name for row in found.supervised] == [f"supervised, step {k}" for k in range(1, 9)]
    classes = Classes.drawn_in(Corpus(styled), 2)
    pairs, styles = (
        int((classes.of_pictures(Corpus(styled, split)) >= 0).sum())
        for split in (Split.UNSEEN_PAIRS, Split.UNSEEN_STYLES)
    )
    assert styles == 16
    for row in (found.clip, *found.supervised):
        counts = {name: estimate.count for name, estimate in row.accuracy.items()}
        assert counts == {"unseen-pairs": pairs, "unseen-styles": 16, "hair": 8, "heavy": 8}
    for name in TESTS[1:]:
        assert found.clip.accuracy[name].value == pytest.approx(0.5)


def test_clip_is_compared_with_the_checkpoint_that_is_nearest_in_distribution(
    styled: Path, run: Path
) -> None:
    _, found = measure(Seer(), run, styled)
    ours = found.clip.accuracy["unseen-pairs"].value
    gaps = [abs(row.accuracy["unseen-pairs"].value - ours) for row in found.supervised]
    assert gaps[found.nearest] == min(gaps)
    for name in TESTS:
        theirs = found.supervised[found.nearest].accuracy[name].value
        difference = found.difference[name]
        assert difference.value == pytest.approx(found.clip.accuracy[name].value - theirs)
        assert difference.low <= difference.value <= difference.high
    between = found.difference["unseen-pairs"]
    assert found.equal == (between.low <= 0 <= between.high)


def test_one_weight_file_is_a_point_and_its_accuracy_is_that_of_its_logits(styled: Path, run: Path) -> None:
    _, whole = measure(Seer(), run, styled)
    _, found = measure(Seer(), run / "supervised/final/raw.safetensors", styled)
    (row,) = found.supervised
    assert row.accuracy == whole.supervised[-1].accuracy


def test_what_cannot_be_compared_is_refused(
    styled: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no checkpoints of a supervised run: make some by `unclip train"):
        measure(Seer(), tmp_path, styled)
    with monkeypatch.context() as patch:
        patch.setattr(Classes, "of_pictures", lambda self, corpus: np.full(len(corpus), -1))
        with pytest.raises(InputError, match="no pictures of the classes in unseen-pairs"):
            measure(Seer(), run, styled)
    state = read_checkpoint(checkpoint_paths(run / "supervised")[0])
    state["about"]["task"] = "clip"
    monkeypatch.setattr("unclip.evaluate.robustness.read_checkpoint", lambda path: state)
    with pytest.raises(InputError, match="a checkpoint of clip: give a supervised run"):
        measure(Seer(), run, styled)


def test_the_command_prints_a_table_and_a_document(tiny_bundle: Path, styled: Path, run: Path) -> None:
    app = typer.Typer()
    register(app)
    command = [str(tiny_bundle), str(run), "--data", str(styled)]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "| CLIP zero-shot |" in said.output
    assert "| supervised, step 8 |" in said.output
    assert "| CLIP less supervised, step" in said.output
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (document["model"]["name"], document["templates"]) == ("tiny", "plain")
    assert list(document["difference"]) == TESTS
    assert document["difference"]["hair"]["method"] == "bootstrap"
    assert document["clip"]["accuracy"]["hair"]["method"] == "wilson"
