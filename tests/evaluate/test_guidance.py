"""Promises of the sweep of guidance: it tells fidelity from diversity, by caption and by class."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from support.painter import Judge, Painter
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.records import Split
from unclip.drawing import Event, Job, Options
from unclip.errors import DataError
from unclip.evaluate.encoder import Encoder
from unclip.evaluate.guidance import Asked, Point, captioned, classed, measured, sweep
from unclip.evaluate.sample import take
from unclip.stages.stage import finished

SCALES = (0.3, 1.0, 8.0)


@pytest.fixture(scope="module")
def points(shapes: Path) -> list[Point]:
    sample = take(Corpus(shapes, EVERYTHING), 40, ["en"], style=False, seed=0)
    asked = captioned(Judge(), sample, "en", 40, seed=0)
    return finished(sweep(Painter(), Judge(), asked, "guidance", SCALES, 3, seed=0))


def test_guidance_trades_diversity_for_fidelity(points: list[Point]) -> None:
    assert [point.scale for point in points] == list(SCALES)
    right, variety = ([getattr(point, name).value for point in points] for name in ("right", "variety"))
    assert right == sorted(right)
    assert right[0] < 0.8
    assert right[-1] == 1
    assert variety == sorted(variety, reverse=True)
    assert variety[-1] < 0.1
    assert all(point.right.count == 3 * 40 for point in points)
    assert all(point.distance is not None for point in points)


def test_what_is_not_swept_is_off(shapes: Path) -> None:
    asked_for = []

    class Listening(Painter):
        def draw(self, jobs: Sequence[Job], options: Options) -> Iterator[Event]:
            asked_for.append((options.guidance, options.clip_guidance))
            return super().draw(jobs, options)

    sample = take(Corpus(shapes, EVERYTHING), 4, ["en"], style=False, seed=0)
    asked = captioned(Judge(), sample, "en", 4, seed=0)
    for option in ("guidance", "clip_guidance"):
        finished(sweep(Listening(), Judge(), asked, option, (0.0, 2.0), 2, seed=0))
    assert asked_for == [(0.0, None)] * 2 + [(2.0, None)] * 2 + [(1.0, 0.0)] * 2 + [(1.0, 2.0)] * 2


def test_few_pictures_have_no_distance() -> None:
    asked = Asked(("a", "b"), np.array(["a", "b"]), np.eye(2), lambda features: features[:, 0] > 0)
    point = measured(asked, np.stack([np.eye(2), np.eye(2)], axis=1), 1.0, seed=0)
    assert point.distance is None
    assert (point.right.value, point.variety.value) == (0.5, 0.0)


def test_a_class_is_right_where_the_nearest_training_picture_has_it(shapes: Path) -> None:
    train, judge = Corpus(shapes), Judge()
    work = classed(judge, train, train, "style", 12, seed=0)
    asked = finished(work)
    assert len(asked.prompts) == 12
    assert set(asked.prompts) <= set(train.column("style"))
    assert asked.right(asked.real).all()
    assert not asked.right(np.roll(asked.real, 1, axis=0)).all()
    with pytest.raises(DataError, match="has a subgroup"):
        next(classed(judge, train, Corpus(shapes, Split.UNSEEN_PAIRS), "subgroup", 4, seed=0))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("guidance")


def test_the_script_measures_a_bundle(
    script: Any, shapes: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "FREE", (1.0, 2.0))
    judge = Encoder.load(str(tiny_bundle), torch.device("cpu"), torch.float32)
    (curve,) = script.measure(str(tiny_bundle), shapes, judge, captions=3, pictures=2, seed=0)
    assert (curve["option"], curve["prompts"], curve["family"]) == ("guidance", 3, "unclip")
    assert [point["scale"] for point in curve["points"]] == [1.0, 2.0]
    assert json.loads(json.dumps(curve)) == curve


def test_the_curves_are_drawn(script: Any, points: list[Point]) -> None:
    drawn = [
        {
            "scale": point.scale,
            "right": {"value": point.right.value},
            "variety": {"value": point.variety.value},
        }
        for point in points
    ]
    curves = [{"bundle": name, "option": "clip_guidance", "points": drawn} for name in ("one", "two")]
    root = ElementTree.fromstring(script.figure(curves))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"one, clip guidance", "two, clip guidance", "0.3", "8"} <= set(texts)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2 * len(SCALES)
