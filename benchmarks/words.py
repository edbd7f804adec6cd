"""Measures how well CLIPs know words: does a plain name find a picture of its concept, in each language?

    python benchmarks/words.py CORPUS RUN_OR_BUNDLE ... [--result benchmarks/results/words.json]

One name a concept, of pictures without a skin tone, in every language that names most of them. Recall at 1
among the pictures of the split (`unseen-concepts`, and beside it `unseen-pairs`, whose concepts are known
from other styles), any picture of the concept being right, and recall at 5 with 600 pictures beside them
that were learned from. With 95 % intervals, of each language and of all languages together but English,
Korean and German.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unclip.data.corpus import Corpus
from unclip.data.records import FACES, SCENES, Split
from unclip.evaluate.clip import found
from unclip.evaluate.encoder import Encoder
from unclip.evaluate.statistics import Estimate, mean, share
from unclip.train.pictures import spread

SPLITS = (Split.UNSEEN_CONCEPTS, Split.UNSEEN_PAIRS)
FIRST = ("en", "ko", "de")  # that had nearly all captions so far
BESIDE = 600  # pictures that were learned from
LEAST_NAMED = 0.8  # share of the concepts with English names that a language names, to be asked in


def plain(corpus: Corpus) -> np.ndarray:
    """Positions of pictures of single things without a skin tone."""
    tones, sources = corpus.records["tone"].to_numpy(), np.array(corpus.column("source"))
    return np.flatnonzero((tones == 0) & ~np.isin(sources, (SCENES, FACES)))


def asked(corpus: Corpus, rows: np.ndarray, named_in: str) -> dict[str, tuple[list[str], list[str]]]:
    """Language -> concepts and a name of each, of the concepts that have one in the language `named_in`."""
    concepts = corpus.column("concept")
    names: dict[str, dict[str, str]] = {}
    for row in rows.tolist():
        if corpus.names(row, named_in):
            for language in corpus.captions(row):
                names.setdefault(language, {}).setdefault(concepts[row], corpus.names(row, language)[0])
    whole = len(names.get(named_in, {}))
    kept = {language: own for language, own in names.items() if len(own) >= LEAST_NAMED * whole}
    return {language: (list(own), list(own.values())) for language, own in kept.items()}


def measured(encoder: Encoder, corpus: Corpus, train: Corpus, named_in: str) -> Iterator[dict[str, Any]]:
    """A row a language, of the concepts that the language `named_in` names."""
    rows = plain(corpus)
    offered = np.array(corpus.column("concept"))[rows]
    pictures = encoder.images(np.asarray(corpus.pixels(encoder.size)[rows]))  # (N, E)
    beside = plain(train)[spread(len(plain(train)), BESIDE)]
    seen = encoder.images(np.asarray(train.pixels(encoder.size)[beside]))  # (M, E)
    both = np.concatenate([offered, np.array(train.column("concept"))[beside]])
    others: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def row(language: str, at_1: Estimate, at_5: Estimate, count: int) -> dict[str, Any]:
        return {
            "clip": encoder.name,
            "split": corpus.split,
            "language": language,
            "concepts": count,
            "pictures": len(offered),
            "R@1": asdict(at_1),
            f"R@5, {len(beside)} seen pictures beside": asdict(at_5),
        }

    for language, (concepts, names) in sorted(asked(corpus, rows, named_in).items()):
        wanted, texts = np.array(concepts), encoder.texts(names)
        at_1 = found(texts @ pictures.T, wanted, offered, 1)
        at_5 = found(texts @ np.concatenate([pictures, seen]).T, wanted, both, 5)
        if language not in FIRST:
            others.append((at_1, at_5, wanted))
        yield row(language, share(at_1, wanted), share(at_5, wanted), len(wanted))
    if others:
        first, fifth, groups = (np.concatenate(column) for column in zip(*others, strict=True))
        estimates = (mean(right.astype(float), groups, 0) for right in (first, fifth))
        yield row(f"{len(others)} others", *estimates, count=len(np.unique(groups)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("clips", nargs="+", help="a run of `unclip train`, or a bundle")
    parser.add_argument(
        "--named-in", default="ko", help="ask for concepts with a name in this language alone"
    )
    parser.add_argument("--splits", default=",".join(SPLITS))
    parser.add_argument("--result", type=Path)
    given = parser.parse_args(arguments)
    train, rows = Corpus(given.corpus, Split.TRAIN), []
    for source in given.clips:
        encoder = Encoder.load(source, torch.device("cpu"), torch.float32)
        for split in given.splits.split(","):
            for row in measured(encoder, Corpus(given.corpus, split), train, given.named_in):
                rows.append(row)
                fifth = next(value for key, value in row.items() if key.startswith("R@5"))
                shown = [f"{x['value']:.3f} ({x['low']:.2f}-{x['high']:.2f})" for x in (row["R@1"], fifth)]
                print(row["clip"], split, row["language"], row["concepts"], *shown, sep="\t", flush=True)
    if given.result:
        counts = Counter(row["clip"] for row in rows)
        print(f"{given.result}: {', '.join(f'{count} rows of {clip}' for clip, count in counts.items())}")
        given.result.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
