"""The things that rules need and that are handed in: a CLIP, evaluation pictures, a policy."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image

from unclip.data.draw_workers import open_staged
from unclip.data.prepare.decide import LEAST_QUALITY, Embedded, Evaluation, own_hashes
from unclip.data.prepare.rules import STANDING, Rules
from unclip.data.records import Drawing, load_captions
from unclip.runtime import atomic_path

BATCH = 64  # pictures that are embedded at once
MOST_CAPTIONS = 8  # of a picture, that are compared with it


class Embedder(Protocol):
    """A CLIP: `embedding.ClipEmbedder` is one. What it returns is L2-normalised, (N, E)."""

    identity: str

    def embed_images(self, images: Sequence[Image.Image], /) -> Any: ...

    def embed_texts(self, texts: Sequence[str], /) -> Any: ...


class Policy(Protocol):
    """Says of a picture (RGB) and its captions why they are refused, "" where they are not."""

    identity: str  # stands for all that its answers depend on

    def __call__(self, image: Image.Image, captions: Sequence[str], /) -> str: ...


@dataclass(frozen=True)
class Judges:
    """The rules that are on, and what they need.

    Attributes:
        rules: see `rules.chosen`.
        embedder: for the rules `semantic` and `score`.
        against: gives the evaluation pictures of which none may be in the corpus.
        policy: for the rule `policy`.
        faces: for the rule `faces`; refuses what shows one.
        report: a report is written.
    """

    rules: Rules = STANDING
    embedder: Embedder | None = None
    against: Callable[[], Iterable[Drawing]] | None = None
    policy: Policy | None = None
    faces: Policy | None = None
    report: bool = False


ALONE = Judges()  # the standing rules, which need nothing


def embed_all(paths: Iterable[Path], embedder: Embedder) -> Iterator[int]:
    """Embeds the pictures of staged files; yields how many rows are done. What is done is not done again."""
    done = 0
    for path in sorted(paths):
        kept = _kept(path, embedder)
        if not kept.exists():
            result = _embed(open_staged([path]), embedder)
            with atomic_path(kept) as temporary:
                np.savez(temporary, vectors=result.vectors, scores=result.scores)
        done += len(open_staged([path]))
        yield done


def embedded(paths: Iterable[Path], embedder: Embedder, before: Embedded | None = None) -> Embedded:
    """The embeddings of all pictures of files that `embed_all` has done, in their order, behind those of
    before.
    """
    vectors, scores = ([before.vectors], [before.scores]) if before is not None else ([], [])
    for path in sorted(paths):
        with np.load(_kept(path, embedder)) as kept:
            vectors.append(kept["vectors"])
            scores.append(kept["scores"])
    if not vectors:
        return Embedded(np.zeros((0, 1), np.float16), np.zeros(0, np.float32))
    wide = max(part.shape[1] for part in vectors)  # a file without any picture has no width of its own
    whole = [part if part.shape[1] == wide else np.zeros((len(part), wide), part.dtype) for part in vectors]
    return Embedded(np.concatenate(whole), np.concatenate(scores))


def evaluation(paths: Iterable[Path], embedder: Embedder | None) -> Evaluation:
    """The pictures of staged files as a set that nothing in the corpus may be like."""
    paths = list(paths)
    table = open_staged(paths)
    keys = table["key"].to_pylist()
    telling = table["quality"].to_numpy() >= LEAST_QUALITY
    rows = np.flatnonzero(table["png"].is_valid().to_numpy() & telling)
    hashes = own_hashes(table, rows)
    vectors = None
    if embedder is not None:
        for _ in embed_all(paths, embedder):
            pass
        vectors = embedded(paths, embedder).vectors
    return Evaluation(keys, hashes, [keys[index] for index in rows], vectors)


def refused(table: pa.Table, policy: Policy) -> Callable[[int], str]:
    """A policy as a function of the position of a picture in a table."""

    def why(index: int) -> str:
        captions = load_captions(table["captions"][index].as_py())
        texts = [*(texts[0] for texts in captions.values()), *table["names"][index].as_py()]
        return policy(_opened(table["png"][index].as_py()), texts)

    return why


def _kept(path: Path, embedder: Embedder) -> Path:
    return path.with_suffix(f".{embedder.identity[:16]}.npz")


def _embed(table: pa.Table, embedder: Embedder) -> Embedded:
    """The pictures of one staged file, and their captions: a function of them and of the CLIP alone."""
    scores = np.full(len(table), np.nan, np.float32)
    vectors: np.ndarray | None = None
    there = [index for index, whole in enumerate(table["png"].is_valid().to_pylist()) if whole]
    for start in range(0, len(there), BATCH):
        part = there[start : start + BATCH]
        rows = table.select(["png", "captions", "names"]).take(pa.array(part, pa.int64())).to_pylist()
        images = np.asarray(embedder.embed_images([_opened(row["png"]) for row in rows]), np.float32)
        if vectors is None:
            vectors = np.zeros((len(table), images.shape[1]), np.float16)
        vectors[part] = images.astype(np.float16)
        texts: list[str] = []
        owners: list[int] = []
        for place, row in enumerate(rows):
            own = [texts[0] for texts in load_captions(row["captions"]).values()] + row["names"]
            texts += own[:MOST_CAPTIONS]
            owners += [place] * len(own[:MOST_CAPTIONS])
        said = np.asarray(embedder.embed_texts(texts), np.float32)
        cosines = (images[owners] * said).sum(axis=1)
        best = np.full(len(part), -np.inf, np.float32)
        np.maximum.at(best, owners, cosines)
        scores[part] = best
    return Embedded(np.zeros((len(table), 1), np.float16) if vectors is None else vectors, scores)


def _opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")
