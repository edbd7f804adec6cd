"""The promise that all encoders of the paper learn in the loop: ViT or ResNet, transformer or CBOW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support.styled_corpus import SEEN, drawings
from unclip.data import splits
from unclip.data.build import Input, build
from unclip.models.clip_loss import clip_loss
from unclip.train.log import read_metrics
from unclip.train.places import Places
from unclip.train.run import Run

IMAGES = {
    "vit": {"image_size": 32, "patch": 8, "width": 32, "layers": 1, "heads": 2, "patch_dropout": 0.25},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "heads": 4},
}
TEXTS = {
    "transformer": {"context": 16, "width": 32, "layers": 1, "heads": 2},
    "cbow": {"context": 16, "width": 32},
}
TRAIN = {
    "steps": 30,
    "batch": 24,
    "learning_rate": 5e-3,
    "warmup": 0,
    "log_steps": 5,
    "preview_steps": 0,
    "tensorboard": False,
    "precision": "float32",
}


def recipe(image: str, text: str, task: dict[str, Any], **train: Any) -> dict[str, Any]:
    model = {
        "embedding": 16,
        "image": {"kind": image, **IMAGES[image]},
        "text": {"kind": text, **TEXTS[text]},
    }
    return {
        "tokenizer": {"vocabulary": 300},
        "clip": {"model": model, "task": task, "train": {**TRAIN, **train}},
    }


def losses(data: Path, out: Path, settings: dict[str, Any]) -> list[float]:
    Run(settings, data, out, torch.device("cpu")).go("clip")
    return [line["loss"] for line in read_metrics(out / "clip") if line["kind"] == "train"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("image", IMAGES)
def test_every_pair_of_encoders_learns(styled: Path, tmp_path: Path, image: str, text: str) -> None:
    found = losses(styled, tmp_path, recipe(image, text, {"part": 8} if text == "cbow" else {}))
    assert found[-1] < found[0] - 0.3


def test_evaluations_look_at_unseen_concepts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "UNSEEN_PAIRS", 0.25)
    monkeypatch.setattr(splits, "UNSEEN_CONCEPTS", 0.3)
    inputs = [Input("seen", lambda: drawings("seen", SEEN))]
    for _ in build(tmp_path / "data", inputs, size=64, fingerprint="", title="Shapes"):
        pass
    run = Run(recipe("vit", "cbow", {}), tmp_path / "data", tmp_path / "run", torch.device("cpu"))
    task = run.task("clip")
    figures = task.evaluate(task.model.eval())
    assert {"recall_at_1_en", "unseen_concepts_recall_at_1_en", "unseen_concepts_recall_at_1"} <= set(figures)
    assert run.unseen_concepts is not None
    assert task.unseen is not None
    assert len(task.unseen.images) == len(run.unseen_concepts)


def test_clip_learns_with_sam_in_parts(styled: Path, tmp_path: Path) -> None:
    found = losses(styled, tmp_path, recipe("vit", "transformer", {"part": 8}, sam_rho=0.1))
    assert found[-1] < found[0] - 0.3


def test_pictures_of_one_caption_are_no_negatives(styled: Path, tmp_path: Path) -> None:
    task = Run(recipe("vit", "cbow", {}), styled, tmp_path, torch.device("cpu")).task("clip")
    model = task.model.eval()
    images, tokens, _ = task.pairs(Places.whole(4))
    tokens.ids[1], tokens.mask[1] = tokens.ids[0], tokens.mask[0]
    positives = torch.eye(4, dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = True
    features = model(images, tokens.ids, tokens.mask)
    expected = clip_loss(features.image, features.text, model.scale, positives=positives)
    loss, _ = task.loss(model, ((images, tokens, torch.arange(4)), None), Places.whole(4, 1))
    torch.testing.assert_close(loss, expected)
