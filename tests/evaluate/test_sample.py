"""Promises of the sample: the same captions each time, and rivals that really are of something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unclip.data.corpus import EVERYTHING, Corpus
from unclip.errors import DataError
from unclip.evaluate import sample as samples
from unclip.evaluate.sample import Sample, languages_of, take

LANGUAGES = ("en", "ko", "de")


@pytest.fixture(scope="module")
def everything(shapes: Path) -> Corpus:
    return Corpus(shapes, EVERYTHING)


@pytest.fixture(scope="module")
def sample(everything: Corpus) -> Sample:
    return take(everything, 40, LANGUAGES, style=True, seed=3)


def test_a_sample_is_by_chance_and_the_same_for_the_same_seed(everything: Corpus, sample: Sample) -> None:
    again, other = (take(everything, 40, LANGUAGES, style=True, seed=seed) for seed in (3, 4))
    assert len(sample) == len(set(sample.positions.tolist())) == 40
    assert (again.positions == sample.positions).all()
    assert (other.positions != sample.positions).any()
    assert len(take(everything, 1000, LANGUAGES, style=True, seed=3)) == len(everything)


def test_names_prompts_and_concepts_belong_to_their_pictures(everything: Corpus, sample: Sample) -> None:
    for row, position in enumerate(sample.positions.tolist()):
        name = everything.names(position)[0]
        assert sample.names["en"][row] == name
        style = everything.records["style"][position].as_py()
        assert sample.prompts["en"][row] == f"{name}, {style}"
        assert sample.concepts[row] == everything.records["concept"][position].as_py()
    pixels = sample.pixels(32)
    assert (pixels[0] == everything.pixels(32)[sample.positions[0]]).all()
    assert (
        sample.stored(np.array([0]), 256)[0] == np.asarray(everything.image(int(sample.positions[0])))
    ).all()
    plain = take(everything, 40, LANGUAGES, style=False, seed=3)
    assert (plain.prompts["de"] == plain.names["de"]).all()


def test_a_language_has_the_rows_that_it_names(sample: Sample) -> None:
    korean = sample.named("ko")
    assert 0 < len(korean) < len(sample)
    assert all("모양" in name for name in sample.names["ko"][korean])
    assert len(sample.named("en")) == len(sample)


def test_rivals_are_of_other_concepts_and_read_differently(sample: Sample) -> None:
    for language in LANGUAGES:
        rows, others = sample.named(language), sample.others(language, seed=0)
        assert len(others) == len(rows)
        assert others.shape[1] >= 12  # as many as there are other concepts, at least
        for row, rivals in zip(rows, others, strict=True):
            assert sample.concepts[row] not in sample.concepts[rivals]
            texts = sample.names[language][rivals]
            assert len(set(texts)) == len(texts)
            assert "" not in texts
    assert (sample.others("en", seed=0) == sample.others("en", seed=0)).all()


def test_there_are_at_most_99_rivals(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CANDIDATES", 6)
    assert sample.others("en", seed=0).shape == (40, 5)


def test_languages_are_those_of_the_corpus(everything: Corpus) -> None:
    assert languages_of(everything) == LANGUAGES
    with pytest.raises(DataError, match=r"no picture of all in .* has a name in fi"):
        take(everything, 5, ("fi",), style=True, seed=0)
