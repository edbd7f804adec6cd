"""Promises of the figures of CLIP: a picture of the same concept is right, and perfect features score one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unclip.data.corpus import EVERYTHING, Corpus
from unclip.data.prepare.run import build_folder
from unclip.evaluate import clip
from unclip.evaluate.clip import found
from unclip.evaluate.figures import Findings
from unclip.evaluate.sample import Sample, take


class Oracle:
    """An encoder that knows the corpus: features are the number of the concept, one-hot."""

    size = 32

    def __init__(self, sample: Sample) -> None:
        corpus = sample.corpus
        self.concepts = sorted(set(corpus.records["concept"].to_pylist()))
        named = {
            name: concept
            for position, concept in enumerate(corpus.records["concept"].to_pylist())
            for language in ("en", "ko", "de")
            for name in corpus.names(position, language)
        }
        self.named = named
        self.shown = sample.concepts

    def images(self, pixels: np.ndarray) -> np.ndarray:
        assert len(pixels) == len(self.shown)
        return self._features(self.shown.tolist())

    def texts(self, texts: list[str]) -> np.ndarray:
        return self._features([self.named[text] for text in texts])

    def _features(self, concepts: list[str]) -> np.ndarray:
        return np.eye(len(self.concepts), dtype=np.float32)[[self.concepts.index(c) for c in concepts]]


@pytest.fixture(scope="module")
def sample(shapes: Path) -> Sample:
    return take(Corpus(shapes, EVERYTHING), 60, ("en", "ko", "de"), style=True, seed=0)


def test_a_picture_of_the_same_concept_is_right() -> None:
    similarity = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]])
    wanted, offered = np.array(["cat", "dog"]), np.array(["dog", "cat", "cat"])
    assert found(similarity, wanted, offered, 1).tolist() == [True, True]
    assert found(-similarity, wanted, offered, 1).tolist() == [False, False]
    assert found(-similarity, wanted, offered, 2).tolist() == [True, False]
    assert found(-similarity, wanted, offered, 3).tolist() == [True, True]
    assert found(-similarity, wanted, offered, 9).tolist() == [True, True]


def test_an_oracle_finds_everything(sample: Sample) -> None:
    findings, oracle = Findings(), Oracle(sample)
    steps = list(clip.retrieval(oracle, [sample], findings, ("en", "ko", "de")))
    steps += clip.classification(oracle, sample, findings, ("en", "ko", "de"))
    assert steps[2] == ("clip retrieval", 3, 3)
    assert len(findings.figures) == 3 * 2 * 3 + 3 * 2
    assert {figure.estimate.value for figure in findings.figures} == {1.0}
    counts = {figure.language: figure.estimate.count for figure in findings.figures if figure.name == "R@1"}
    assert counts["en"] == 60 > counts["ko"]


def test_a_tag_is_found_where_a_picture_has_it(tmp_path: Path) -> None:
    """The name is no tag, a shared tag may find any of its pictures, and a wrong one counts."""
    (tmp_path / "own").mkdir()
    lines = []
    for k in range(12):
        Image.new("RGB", (64, 64), (20 * k, 90, 200 - 10 * k)).save(tmp_path / "own" / f"{k}.png")
        captions = {"en": [f"name {k}", f"Tag {k}", f"name {k}", "shared"]}
        lines.append(json.dumps({"file_name": f"{k}.png", "captions": captions}))
    (tmp_path / "own" / "metadata.jsonl").write_text("\n".join(lines))
    for _ in build_folder(tmp_path / "own", tmp_path / "corpus"):
        pass
    sample = take(Corpus(tmp_path / "corpus", EVERYTHING), 12, ("en",), style=False, seed=0)
    order = [int(name.removeprefix("name ")) for name in sample.names["en"]]

    class Tags:
        def texts(self, texts: list[str]) -> np.ndarray:
            shown = {"shared": 3, "tag 5": 6} | {f"tag {k}": k for k in range(12) if k != 5}
            return np.eye(12)[[order.index(shown[text]) for text in texts]]

    (figure,) = clip.by_tags(Tags(), sample, np.eye(12), "en")
    assert (figure.variant, figure.among) == ("tag to picture", 12)
    assert (figure.estimate.value, figure.estimate.count) == (12 / 13, 13)
    assert not list(clip.by_tags(Tags(), sample, np.eye(12), "de"))


def test_a_guess_finds_by_chance(sample: Sample) -> None:
    class Guess(Oracle):
        def images(self, pixels: np.ndarray) -> np.ndarray:
            return np.random.default_rng(0).normal(size=(len(pixels), len(self.concepts)))

    findings = Findings()
    list(clip.classification(Guess(sample), sample, findings, ("en",)))
    top = {figure.name: figure for figure in findings.figures}["zero-shot concept, top 1"]
    assert top.among == 24
    assert top.estimate.value < 0.25
