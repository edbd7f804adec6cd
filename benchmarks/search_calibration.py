"""Measure whether the probabilities of a search are right, and fit the numbers that make them so.

    python benchmarks/search_calibration.py CORPUS [--model BUNDLE] [--quick]

Pictures that the bundle's CLIP has not seen, of the splits of a corpus that were held out, are put into
indexes: each split, samples of some, and all of them together. They are asked for by names (of pictures that
are there, and half as many of none that is) and by picture. Of the first hits it is counted how often those
that are said to be right with some probability are. A hit is right if the corpus has one name for it and for
the query; of nearly the same thing it is wrong.

`fitted` are slope and offset by logistic regression on the indexes of `FITTED_TO` alone, and `error_fitted`
is what the error of each index would be with them. Where they are far from those of
`unclip.search.probability` (another CLIP in the bundle, say), they belong there. `rarer` is the power of an
index's size by which right pictures become rarer, fitted with them.

Prints tables and writes `benchmarks/results/search-calibration.json`. Less than two minutes on two cores.
`--quick` is a run of seconds over few pictures that measures nothing and writes no results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unclip import __version__
from unclip.data.classes import concept_names
from unclip.data.corpus import Corpus
from unclip.data.records import Split
from unclip.embedding import BATCH, ClipEmbedder
from unclip.runtime import atomic_path
from unclip.search.background import BACKGROUND
from unclip.search.index import Index
from unclip.search.probability import PICTURE, RARER, SMALLEST, TEXT, USUAL_SIZE, Calibration
from unclip.search.query import Term
from unclip.search.store import File, Found, Store

RESULTS = Path(__file__).parent / "results" / "search-calibration.json"
HELD_OUT = (Split.UNSEEN_PAIRS, Split.UNSEEN_CONCEPTS, Split.UNSEEN_STYLES)
FITTED_TO = Split.UNSEEN_PAIRS
SAMPLES = (100, 300)  # pictures of the smaller indexes of `FITTED_TO` and of all together
MOST = 2000  # pictures of a split
ASKED, SHOWN = 240, 200  # names, and pictures, that an index is asked for
LOOKED_AT = 10  # hits of each
EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of probabilities counted together
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7)
KINDS = {"text": TEXT, "picture": PICTURE}

Row = dict[str, Any]


@dataclass(frozen=True)
class Pictures:
    """The pictures of an index: names, embeddings (N, E), and where each stands in its split."""

    names: np.ndarray  # str (N,)
    vectors: np.ndarray
    places: tuple[tuple[Corpus, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def some(self, count: int) -> Pictures:
        """A sample, in order."""
        chosen = np.sort(np.random.default_rng(0).permutation(len(self))[:count])
        return Pictures(self.names[chosen], self.vectors[chosen], tuple(self.places[n] for n in chosen))


@dataclass(frozen=True)
class Hits:
    """The first hits of many queries to an index of `size`: what was said, and whether it was right."""

    size: int
    said: np.ndarray  # (H,)
    right: np.ndarray  # (H,) bool


def embedded(corpus: Corpus, clip: ClipEmbedder, most: int) -> Pictures:
    """The first pictures of a split, which are in an order of chance."""
    names = concept_names(corpus)
    count = min(len(corpus), most)
    vectors = [
        clip.embed_images([corpus.image(n) for n in range(start, min(start + BATCH, count))]).numpy()
        for start in range(0, count, BATCH)
    ]
    shown = np.array([names.get(concept, "") for concept in corpus.column("concept")[:count]])
    return Pictures(shown, np.concatenate(vectors), tuple((corpus, n) for n in range(count)))


def joined(parts: Sequence[Pictures]) -> Pictures:
    """All of them as one."""
    return Pictures(
        np.concatenate([part.names for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        tuple(place for part in parts for place in part.places),
    )


def make_index(folder: Path, pictures: Pictures, clip: ClipEmbedder, background: np.ndarray) -> None:
    """An index as `Writer` makes it, of embeddings that are there; files are named by their number."""
    settings = {"folder": str(folder), "model": "", "name": clip.name, "clip": clip.identity}
    store = Store.create(folder, settings | {"width": str(pictures.vectors.shape[1])})
    with store.transaction():
        store.set_background(BACKGROUND, background)
        for number, vector in enumerate(pictures.vectors):
            digest = number.to_bytes(16, "big")
            store.add(Found(digest, 1, 1, None, b"", vector, b""))
            store.put(File(str(number), 1, 1, ""), digest)
    store.close()


def asked(index: Index, pictures: Pictures, others: Sequence[str], kind: str) -> Hits:
    """An index asked by names, some of them of `others`, or by pictures of its own, which do not count."""
    random = np.random.default_rng(1)
    queries: list[tuple[Term, str, int]] = []  # with the name that is right, and the picture's own number
    if kind == "text":
        names = np.unique(pictures.names[pictures.names != ""])
        present = random.permutation(names)[:ASKED].tolist()
        absent = random.permutation(sorted(set(others) - set(names.tolist())))[: len(present) // 2].tolist()
        queries = [(Term(name), name, -1) for name in (*present, *absent)]
    else:
        for number in random.permutation(np.flatnonzero(pictures.names != ""))[:SHOWN].tolist():
            corpus, place = pictures.places[number]
            queries.append((Term(corpus.image(place)), str(pictures.names[number]), number))
    said, right = [], []
    for term, name, own in queries:
        hits = index.query((term,), top=LOOKED_AT + (own >= 0), fold=False)
        for hit in hits:
            if int(hit.path.name) != own:
                said.append(hit.probability)
                right.append(pictures.names[int(hit.path.name)] == name)
    return Hits(len(pictures), np.array(said), np.array(right, bool))


def measured(hits: Hits) -> Row:
    """Said and right by probability, the expected calibration error, and what a threshold leaves."""
    place = np.clip(np.digitize(hits.said, EDGES) - 1, 0, len(EDGES) - 2)  # (H,)
    rows, error = [], 0.0
    for number in np.unique(place):
        own = place == number
        said, right = float(hits.said[own].mean()), float(hits.right[own].mean())
        error += abs(said - right) * own.mean()
        row = {"from": EDGES[number], "to": EDGES[number + 1], "hits": int(own.sum())}
        rows.append(row | {"said": round(said, 3), "right": round(right, 3)})
    return {
        "pictures": hits.size,
        "hits": len(hits.said),
        "right": round(float(hits.right.mean()), 4),
        "error": round(float(error), 4),
        "thresholds": [threshold_row(hits, threshold) for threshold in THRESHOLDS],
        "bins": rows,
    }


def threshold_row(hits: Hits, threshold: float) -> Row:
    """Counts at a threshold: hits above it, the share of them that is right, the share of right ones kept."""
    above = hits.said >= threshold
    right = hits.right & above
    return {
        "threshold": threshold,
        "hits": int(above.sum()),
        "right": round(float(right.sum() / above.sum()), 3) if above.any() else None,
        "kept": round(float(right.sum() / max(1, hits.right.sum())), 3),
    }


def summary(row: Row) -> str:
    """An index's line in the table."""
    at = next(one for one in row["thresholds"] if one["threshold"] == 0.5)
    return (
        f"{row['pictures']:>5} pictures, {row['right']:6.1%} of {row['hits']} hits right, "
        f"error {row['error']:.3f} (fitted {row['error_fitted']:.3f}); of {at['hits']} from 50 % on "
        f"{at['right'] or 0:.0%} right, {at['kept']:.0%} of all right ones"
    )


def rarer(size: int) -> float:
    """The amount that the size of an index takes from the log-odds, for a power of 1."""
    return float(np.log(max(size, SMALLEST) / USUAL_SIZE))


def evidence(hits: Hits, calibration: Calibration) -> np.ndarray:
    """The evidence behind the probabilities, (H,)."""
    said = np.clip(hits.said, 1e-12, 1 - 1e-12)
    odds = np.log(said) - np.log1p(-said)
    return (odds + RARER * rarer(hits.size) - calibration.offset) / calibration.slope


def regression(columns: np.ndarray, right: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Weights (W,) of columns (H, W) for log-odds of which a part (H,) is given, by Newton's method."""
    weights = np.zeros(columns.shape[1])
    for _ in range(50):
        odds = np.clip(columns @ weights + given, -30, 30)
        share = 1 / (1 + np.exp(-odds))
        slope = columns.T @ (right - share) - 1e-6 * weights
        curvature = (columns * (share * (1 - share))[:, None]).T @ columns + 1e-6 * np.eye(len(weights))
        weights += np.clip(np.linalg.solve(curvature, slope), -5, 5)
    return weights


def fit(parts: Sequence[Hits], calibration: Calibration) -> Row:
    """Slope and offset with `RARER` as it is, and all three together."""
    right = np.concatenate([part.right for part in parts]).astype(np.float64)
    found = np.concatenate([evidence(part, calibration) for part in parts])
    size = np.concatenate([np.full(len(part.said), rarer(part.size)) for part in parts])
    one = np.ones_like(found)
    slope, offset = regression(np.stack([found, one], 1), right, -RARER * size)
    free = regression(np.stack([found, one, -size], 1), right, 0 * size)
    return dict(
        zip(("slope", "offset", "rarer"), (round(float(x), 3) for x in (slope, offset, free[2])), strict=True)
    )


def refitted(hits: Hits, calibration: Calibration, fitted: Row) -> Hits:
    """The hits with the probabilities that another slope and offset would have given."""
    other = Calibration(fitted["slope"], fitted["offset"])
    return Hits(hits.size, other.probability(evidence(hits, calibration), hits.size), hits.right)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of a corpus, see `unclip data`")
    parser.add_argument("--model", help="name or folder of a bundle; the shipped one by default")
    parser.add_argument("--quick", action="store_true", help="few pictures, no file of results")
    given = parser.parse_args(arguments)
    clip = ClipEmbedder.load(given.model)
    background = clip.embed_texts(list(BACKGROUND)).numpy()  # (B, E)
    splits = {split: Corpus(given.corpus, split) for split in HELD_OUT}
    most = 8 if given.quick else MOST
    parts = {str(name): embedded(corpus, clip, most) for name, corpus in splits.items() if len(corpus)}
    everything = joined(list(parts.values()))
    others = sorted(set(everything.names.tolist()) - {""})
    indexes = {**parts, "together": everything}
    for name in (str(FITTED_TO), "together"):
        for count in SAMPLES:
            if name in indexes and count < len(indexes[name]):
                indexes[f"{count} of {name}"] = indexes[name].some(count)
    report: Row = {
        "version": __version__,
        "model": {"name": clip.name, "clip": clip.identity},
        "fitted_to": str(FITTED_TO),
    }
    for kind, calibration in KINDS.items():
        hits: dict[str, Hits] = {}
        for name, pictures in indexes.items():
            with tempfile.TemporaryDirectory() as place:
                make_index(Path(place), pictures, clip, background)
                with Index(Path(place), clip=clip) as index:
                    hits[name] = asked(index, pictures, others, kind)
        of_fit = [part for name, part in hits.items() if name.endswith(FITTED_TO)]
        fitted = fit(of_fit or list(hits.values()), calibration)
        rows = {name: measured(part) for name, part in hits.items()}
        for name, row in rows.items():
            row["error_fitted"] = measured(refitted(hits[name], calibration, fitted))["error"]
            print(f"{kind:<8} {name:<20} {summary(row)}", flush=True)
        now = {"slope": calibration.slope, "offset": calibration.offset, "rarer": RARER}
        print(f"{kind:<8} now {now}, fitted to {FITTED_TO} {fitted}", flush=True)
        report[kind] = {"now": now, "fitted": fitted, "indexes": rows}
    if not given.quick:
        with atomic_path(RESULTS) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written to {RESULTS.relative_to(RESULTS.parent.parent.parent)}")


if __name__ == "__main__":
    main()
