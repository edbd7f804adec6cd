"""Promises of drawing in bulk: the order of the prompts is kept; stage by stage is the same as at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.pictures import ROUNDING
from support.work import done
from unclip.drawing import Options
from unclip.evaluate.stages import Stages, draw
from unclip.model import Model

PROMPTS = ["a green apple a red apple", "a red apple", "빨간 사과", "ein roter Apfel"]


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Stages:
    return Stages(Model.load(tiny_bundle, device="cpu", precision="float32"))


def test_pictures_are_those_of_the_pipeline_in_the_order_of_the_prompts(model: Stages) -> None:
    steps, pictures = done(draw(model.model, PROMPTS, 5, "drawing", Options(size=64), first=3))
    assert steps[-1] == ("drawing", 4, 4)
    for row, prompt in enumerate(PROMPTS):
        wanted = np.asarray(
            model.model.generate(prompt, n=4 + row, size=64, seed=5)[3 + row].image, dtype=int
        )
        assert np.abs(wanted - pictures[row]).max() <= ROUNDING


def test_prior_and_decoder_one_by_one_are_the_same_as_together(model: Stages) -> None:
    _, together = done(draw(model.model, PROMPTS, 5, "drawing", Options(size=64)))
    steps, embeddings = done(model.imagine(PROMPTS, 5, "prior"))
    assert steps[-1] == ("prior", 4, 4)
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    _, apart = done(model.paint(PROMPTS, embeddings, 5, "decoder"))
    assert np.abs(together.astype(int) - apart).max() <= ROUNDING
    _, turned = done(model.paint(PROMPTS, embeddings[::-1].copy(), 5, "decoder"))
    assert np.abs(together.astype(int) - turned).max() > ROUNDING


def test_enlarging_keeps_the_order(model: Stages) -> None:
    low = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3)).astype(np.uint8)
    name = model.chain[256]
    steps, large = done(model.enlarge(name, low, 1, "up"))
    assert large.shape == (9, 256, 256, 3)
    assert steps[-1] == ("up", 9, 9)
    _, first = done(model.enlarge(name, low[:1], 1, "up"))
    assert np.abs(large[:1].astype(int) - first).max() <= ROUNDING
