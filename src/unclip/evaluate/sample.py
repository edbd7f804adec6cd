"""The sample that a bundle is judged by: pictures of a split, their names, and what to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unclip.data.captions import JUDGED_LANGUAGES, fill
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.errors import DataError
from unclip.images import fit_square

HELD_OUT = (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS, Split.UNSEEN_STYLES)
CANDIDATES = 100  # captions that the judge chooses from, the right one among them


@dataclass(frozen=True)
class Sample:
    """Some pictures of a split, drawn by chance without replacement.

    Attributes:
        corpus: the split.
        positions: (N,) int64, of the pictures in it, in the order of chance: the first few are a sample too.
        concepts: (N,) str, what each shows.
        names: language -> the name of each picture, "" where the language has none.
        prompts: language -> what is drawn for each picture: the name, with the picture's style if asked for.
    """

    corpus: Corpus
    positions: np.ndarray
    concepts: np.ndarray
    names: dict[str, np.ndarray]
    prompts: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def split(self) -> str:
        return self.corpus.split

    def named(self, language: str) -> np.ndarray:
        """The rows, int64 (M,), that have a name in a language."""
        return np.flatnonzero(self.names[language] != "")

    def tags(self, language: str) -> list[set[str]]:
        """The tags of each picture in a language, in lower case and without its name."""
        described = (self.corpus.describe(position) for position in self.positions.tolist())
        return [
            {tag.casefold() for tag in record.options(language)[1]} if language in record.captions else set()
            for record in described
        ]

    def pixels(self, size: int) -> np.ndarray:
        """The pictures, uint8 (N, size, size, 3)."""
        return np.asarray(self.corpus.pixels(size)[self.positions])

    def stored(self, rows: np.ndarray, size: int) -> np.ndarray:
        """Some of the pictures from the corpus's files, uint8 (M, size, size, 3): no cache is made."""
        images = [self.corpus.image(position) for position in self.positions[rows].tolist()]
        return np.stack([np.asarray(fit_square(image, size)) for image in images])

    @cached_property
    def _numbers(self) -> np.ndarray:
        return np.unique(self.concepts, return_inverse=True)[1]

    def others(self, language: str, seed: int) -> np.ndarray:
        """For each row of `named(language)` the rows of 99 captions of other concepts, (M, K - 1).

        No two captions of one row read the same. Where there are fewer, K is smaller. The same for all
        pictures, drawn or real, that a caption is the right one of.
        """
        rows = self.named(language)
        texts = self.names[language]
        random = np.random.default_rng(seed)
        chosen: list[list[int]] = []
        for row in rows:
            taken = set(texts[self._numbers == self._numbers[row]].tolist())
            found: list[int] = []
            for other in random.permutation(rows):
                if texts[other] not in taken:
                    taken.add(texts[other])
                    found.append(int(other))
                    if len(found) == CANDIDATES - 1:
                        break
            chosen.append(found)
        width = min((len(found) for found in chosen), default=0)
        return np.array([found[:width] for found in chosen], np.int64).reshape(len(rows), width)


def take(corpus: Corpus, count: int, languages: Sequence[str], style: bool, seed: int) -> Sample:
    """`count` pictures of a split (all of them where it has fewer) that have a name in one of the languages.

    Raises DataError where no picture has.
    """
    random = np.random.default_rng(seed)
    found: list[int] = []
    for position in random.permutation(len(corpus)).tolist():
        if any(corpus.names(position, language) for language in languages):
            found.append(position)
            if len(found) == count:
                break
    if not found:
        raise DataError(
            f"no picture of {corpus.split} in {corpus.folder} has a name in {', '.join(languages)}: "
            "choose other languages"
        )
    positions = np.array(found)
    concepts = np.array(corpus.records["concept"].take(positions).to_pylist())
    names = {
        language: np.array([(corpus.names(p, language) or [""])[0] for p in positions.tolist()])
        for language in languages
    }
    prompts = {
        language: np.array(
            [
                _styled(corpus, p, name, language) if style and name else name
                for p, name in zip(positions.tolist(), names[language].tolist(), strict=True)
            ]
        )
        for language in languages
    }
    return Sample(corpus, positions, concepts, names, prompts)


def _styled(corpus: Corpus, position: int, name: str, language: str) -> str:
    """A name with the plainest phrase for the picture's style, where the language has one."""
    phrases = corpus.describe(position).options(language)[2]
    return fill(phrases[0], name, language) if phrases else name


def languages_of(corpus: Corpus) -> tuple[str, ...]:
    """English, Korean and German, as far as the corpus has them; else the language of most captions."""
    counts: dict[str, int] = {}
    for position in range(len(corpus)):
        for language in corpus.captions(position):
            counts[language] = counts.get(language, 0) + 1
    usual = tuple(language for language in JUDGED_LANGUAGES if counts.get(language))
    return usual or tuple(sorted(counts, key=lambda language: -counts[language])[:1])
