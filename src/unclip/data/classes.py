"""The concepts of a corpus as classes by name: what is told apart, and which pictures show it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from unclip.data.corpus import Corpus
from unclip.errors import InputError


def concept_names(corpus: Corpus, language: str = "en") -> dict[str, str]:
    """concept -> its name, of every concept that has one in a language.

    It is the first name of the concept's least special picture: no skin tone comes before a light one.
    """
    concepts = corpus.records["concept"].to_pylist()
    order = np.argsort(corpus.records["tone"].to_numpy(), kind="stable").tolist()
    found: dict[str, str] = {}
    for position in order:
        if concepts[position] not in found and (names := corpus.names(position, language)):
            found[concepts[position]] = names[0]
    return found


@dataclass(frozen=True)
class Classes:
    """The classes that pictures are told apart by: concepts, those of one name together.

    Attributes:
        labels: the names, by the alphabet.
        places: concept -> the place of its name in `labels`.
    """

    labels: tuple[str, ...]
    places: Mapping[str, int]

    @classmethod
    def drawn_in(cls, corpus: Corpus, styles: int) -> Self:
        """The names that a corpus shows in at least so many styles. Raises InputError for fewer than two."""
        names = concept_names(corpus)
        drawn = defaultdict[str, set[str]](set)
        pairs = zip(*(corpus.records[column].to_pylist() for column in ("concept", "style")), strict=True)
        for concept, style in pairs:
            if concept in names:
                drawn[names[concept]].add(style)
        return cls._of(names, sorted(name for name, own in drawn.items() if len(own) >= styles))

    @classmethod
    def named(cls, corpus: Corpus, labels: Sequence[str]) -> Self:
        """The classes of these labels. Raises InputError where a corpus has no concept of such a name."""
        names = concept_names(corpus)
        if missing := sorted(set(labels) - set(names.values())):
            raise InputError(
                f"{corpus.folder} has no concept {missing[0]!r} ({len(missing)} of {len(labels)} are "
                "missing): give the corpus that the labels are of"
            )
        return cls._of(names, labels)

    @classmethod
    def _of(cls, names: Mapping[str, str], labels: Sequence[str]) -> Self:
        if len(labels) < 2:
            raise InputError(f"{len(labels)} classes: choose fewer styles, so that there are two or more")
        place = {label: number for number, label in enumerate(labels)}
        return cls(tuple(labels), {c: place[name] for c, name in names.items() if name in place})

    def of_pictures(self, corpus: Corpus) -> np.ndarray:
        """The class of every picture of a split, int64 (N,); -1 where it shows none."""
        concepts = corpus.records["concept"].to_pylist()
        return np.array([self.places.get(concept, -1) for concept in concepts], np.int64)
