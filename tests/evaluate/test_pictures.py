"""Promises of the figures of pictures: what is copied is called memorised, what is right is found right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unclip.data.corpus import EVERYTHING, Corpus
from unclip.evaluate import pictures
from unclip.evaluate.figures import Findings
from unclip.evaluate.pictures import Scored, apart, retrieval, score, shrunk
from unclip.evaluate.sample import Sample, take

LANGUAGES = ("en", "ko")


class Reader:
    """A judge that gives every text a direction of its own."""

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.direction(text) for text in texts])

    def direction(self, text: str) -> np.ndarray:
        vector = np.random.default_rng(list(text.encode())).normal(size=64)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.fixture(scope="module")
def sample(shapes: Path) -> Sample:
    return take(Corpus(shapes, EVERYTHING), 30, LANGUAGES, style=True, seed=0)


def test_a_picture_that_says_its_caption_is_right_and_one_that_says_another_is_not(sample: Sample) -> None:
    judge = Reader()
    names = sample.names["en"]
    right = judge.texts(names.tolist())
    own = score(judge, sample, "en", right, seed=0)
    assert own.right.all()
    assert own.offered == sample.others("en", 0).shape[1] + 1
    rival = sample.others("en", 0)[:, 0]
    wrong = score(judge, sample, "en", right[rival], seed=0)
    assert not wrong.right.any()
    few = score(judge, sample, "en", right[:4], seed=0)
    assert few.rows.tolist() == [0, 1, 2, 3]


def test_the_ratio_is_of_the_same_captions_and_languages_are_compared_by_it(sample: Sample) -> None:
    findings = Findings()
    scored = {}
    for language, hits in (("en", 1.0), ("ko", 0.5)):
        rows = sample.named(language)
        drawn = np.arange(len(rows)) < hits * len(rows)
        features = np.zeros((len(rows), 2))
        scored[language] = (
            Scored(rows, features, drawn, 20),
            Scored(rows, features, np.ones(len(rows), bool), 20),
        )
    retrieval(findings, sample, scored, LANGUAGES, seed=0)
    found = {(f.name, f.language, f.variant): f.estimate.value for f in findings.figures}
    assert found["judge R@1", "en", "drawn"] == 1
    assert found["judge R@1, drawn / real", "ko", ""] == pytest.approx(0.5, abs=0.03)
    assert found["judge R@1, drawn / real, against en", "ko", ""] == pytest.approx(0.5, abs=0.03)
    assert len(found) == 3 + 4


def test_a_copy_is_memorised_and_a_new_thing_is_not(sample: Sample) -> None:
    random = np.random.default_rng(0)
    training = random.normal(size=(500, 8))
    rows = sample.named("en")
    copies = training[: len(rows)] + 0.001
    new = random.normal(size=(len(rows), 8)) * 5
    findings = Findings()
    series = {pictures.DRAWN: copies, pictures.REAL: new}
    position = pictures.memorised(findings, sample, "en", series, training, "x")
    assert position.tolist() == list(range(len(rows)))
    shares = {figure.variant: figure.estimate.value for figure in findings.figures}
    assert shares["drawn"] == 1
    assert shares["real"] < 0.3


def test_variety_is_none_among_copies_and_one_among_strangers() -> None:
    assert apart(np.eye(4)[[0, 0, 0]]) == pytest.approx(0)
    assert apart(np.eye(4)) == pytest.approx(1)
    assert apart(np.eye(4)[[0, 0, 1]]) == pytest.approx(2 / 3)


def test_small_pictures_are_averages() -> None:
    white = np.full((3, 64, 64, 3), 255, np.uint8)
    white[1, :32] = 0
    small = shrunk(white)
    assert small.shape == (3, 32 * 32 * 3)
    assert small.dtype == np.uint8
    assert small[1].mean() == pytest.approx(127.5, abs=3)
