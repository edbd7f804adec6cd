"""Promises of the best of many: a better chooser finds better pictures, and one of one is chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from support.painter import Judge, Painter
from unclip.data.corpus import EVERYTHING, Corpus
from unclip.evaluate import reranking
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.sample import Sample, take
from unclip.stages.stage import finished


class Blind(Judge):
    """A chooser that sees nothing: every picture is the same to it."""

    def images(self, pixels: np.ndarray) -> np.ndarray:
        return np.ones((len(pixels), self.texts(["any"]).shape[1]), np.float32)


def figures(sample: Sample, encoder: Judge, name: str = reranking.RECALL) -> dict[str, Figure]:
    findings = Findings()
    finished(reranking.evaluate(Painter(noise=3.0), encoder, Judge(), sample, "en", findings, seed=0))
    return {figure.variant: figure for figure in findings.figures if figure.name == name}


@pytest.fixture(scope="module")
def sample(shapes: Path) -> Sample:
    return take(Corpus(shapes, EVERYTHING), 40, ["en"], style=False, seed=0)


def test_the_best_of_more_is_better(sample: Sample) -> None:
    found = figures(sample, Judge())
    assert list(found) == ["best of 1", "best of 4", "best of 16", "best of 64"]
    values = [figure.estimate.value for figure in found.values()]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.1
    assert found["best of 1"].among == len(set(sample.names["en"]))


def test_who_sees_nothing_gains_nothing(sample: Sample) -> None:
    found = figures(sample, Blind())
    values = [figure.estimate.value for figure in found.values()]
    assert max(values) < values[0] + 0.1


@pytest.mark.parametrize(("count", "wanted"), [(1, [0, 1, 2, 3]), (2, [1, 2]), (4, [2])])
def test_the_best_of_each_series_is_chosen(count: int, wanted: Sequence[int]) -> None:
    liked = np.array([[0.1, 0.3, 0.9, 0.2]])
    assert reranking.chosen(liked, count).tolist() == [wanted]
