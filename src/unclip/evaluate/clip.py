"""CLIP alone: captions and tags find pictures, pictures find captions and names of concepts, or do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from unclip.data.classes import concept_names
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.sample import Sample
from unclip.evaluate.statistics import share

SECTION = "clip"
RANKS = (1, 5, 10)
TOP = (1, 5)


def retrieval(
    encoder: Encoder, samples: Sequence[Sample], findings: Findings, languages: Sequence[str]
) -> Iterator[Step]:
    """Recall at 1, 5 and 10 both ways on each sample, among all of its pictures, and at 1 by tags.

    Any picture (or caption) of the right concept is right.
    """
    total = len(samples) * len(languages)
    for number, sample in enumerate(samples):
        pictures = encoder.images(sample.pixels(encoder.size))  # (N, E)
        for done, language in enumerate(languages, number * len(languages) + 1):
            rows = sample.named(language)
            if len(rows) > max(RANKS):
                texts = encoder.texts(sample.names[language][rows].tolist())  # (M, E)
                similarity = texts @ pictures[rows].T  # (M, M)
                concepts = sample.concepts[rows]
                for variant, table in (
                    ("caption to picture", similarity),
                    ("picture to caption", similarity.T),
                ):
                    for rank in RANKS:
                        right = found(table, concepts, concepts, rank)
                        findings.figures.append(
                            Figure(
                                SECTION,
                                f"R@{rank}",
                                share(right, concepts),
                                sample.split,
                                language,
                                variant,
                                len(rows),
                            )
                        )
            findings.figures += by_tags(encoder, sample, pictures, language)
            yield "clip retrieval", done, total


def by_tags(encoder: Encoder, sample: Sample, pictures: np.ndarray, language: str) -> Iterator[Figure]:
    """Share of tags whose most similar of a sample's pictures (N, E) has that tag: other words than names.

    No figure where the sample has fewer than a dozen tags.
    """
    tagged = sample.tags(language)
    tags = sorted(set().union(*tagged))
    if len(tags) > max(RANKS):
        best = (encoder.texts(tags) @ pictures.T).argmax(axis=1)  # (T,)
        right = np.array([tag in tagged[picture] for tag, picture in zip(tags, best.tolist(), strict=True)])
        estimate = share(right, np.array(tags))
        yield Figure(SECTION, "R@1", estimate, sample.split, language, "tag to picture", len(sample))


def found(similarity: np.ndarray, wanted: np.ndarray, offered: np.ndarray, rank: int) -> np.ndarray:
    """True where the `rank` most similar of the columns hold the row's concept, bool (N,).

    Args:
        similarity: (N, M).
        wanted: (N,) concept of each row.
        offered: (M,) concept of each column.
        rank: how many columns are looked at, at most M.
    """
    if rank >= similarity.shape[1]:
        best = np.broadcast_to(np.arange(similarity.shape[1]), similarity.shape)
    else:
        best = np.argpartition(-similarity, rank - 1, axis=1)[:, :rank]  # (N, rank)
    return np.asarray((offered[best] == wanted[:, None]).any(axis=1))


def classification(
    encoder: Encoder, sample: Sample, findings: Findings, languages: Sequence[str]
) -> Iterator[Step]:
    """Zero-shot classification: the concept of each picture of the sample among all concepts of its split.

    A concept is described by its name, see `data.classes.concept_names`.
    """
    pictures = encoder.images(sample.pixels(encoder.size))  # (N, E)
    for done, language in enumerate(languages, 1):
        described = concept_names(sample.corpus, language)
        offered = np.array(list(described), dtype=str)
        rows = np.flatnonzero(np.isin(sample.concepts, offered))
        wanted = sample.concepts[rows]
        similarity = pictures[rows] @ encoder.texts(list(described.values())).T  # (M, C)
        for rank in (rank for rank in TOP if rank < len(offered) and len(rows)):
            right = found(similarity, wanted, offered, rank)
            name = f"zero-shot concept, top {rank}"
            figure = Figure(SECTION, name, share(right, wanted), sample.split, language, among=len(offered))
            findings.figures.append(figure)
        yield "clip zero-shot", done, len(languages)
