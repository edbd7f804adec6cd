"""The promise that a corpus's concepts are classes by name, the same ones in every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.styled_corpus import COLOURS
from unclip.data.classes import Classes, concept_names
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.errors import InputError


def test_classes_are_names_that_several_styles_show(styled: Path) -> None:
    train = Corpus(styled)
    classes = Classes.drawn_in(train, 2)
    expected = sorted(f"{colour} {shape}" for colour in COLOURS for shape in ("circle", "square"))
    assert list(classes.labels) == expected
    assert len(Classes.drawn_in(train, 1).labels) == 12
    assert classes == Classes.named(train, classes.labels)


@pytest.mark.parametrize("split", [Split.TRAIN, Split.UNSEEN_PAIRS, Split.UNSEEN_STYLES])
def test_pictures_of_every_split_have_the_class_of_their_concept(styled: Path, split: Split) -> None:
    classes = Classes.drawn_in(Corpus(styled), 2)
    corpus = Corpus(styled, split)
    found = classes.of_pictures(corpus)
    assert found.shape == (len(corpus),)
    assert (found >= 0).any()
    for place, index in enumerate(found.tolist()):
        name = corpus.names(place)[0]
        assert (index == -1) == ("stripe" in name)
        assert index == -1 or classes.labels[index] == name


def test_concepts_of_one_name_are_one_class(styled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Corpus, "names", lambda self, index, language="en": ["a shape" if index % 2 else "a thing"]
    )
    corpus = Corpus(styled)
    classes = Classes.drawn_in(corpus, 1)
    assert classes.labels == ("a shape", "a thing")
    assert set(classes.places) == set(concept_names(corpus))
    assert set(np.unique(classes.of_pictures(corpus))) == {0, 1}


def test_what_is_no_class_is_refused(styled: Path) -> None:
    train = Corpus(styled)
    with pytest.raises(InputError, match="0 classes: choose fewer styles"):
        Classes.drawn_in(train, 9)
    with pytest.raises(InputError, match=r"has no concept 'a cat' \(1 of 2 are missing\)"):
        Classes.named(train, ["a cat", "red circle"])
    assert concept_names(train, "ko") == {}
