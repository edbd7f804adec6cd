"""Asks an index: by text, by picture, by both; with filters, probabilities and near-duplicates folded."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from unclip.embedding import ClipEmbedder
from unclip.errors import InputError, SearchError
from unclip.photographs import Watch
from unclip.search.near import LEAST_COSINE, alike, groups, signatures
from unclip.search.probability import PICTURE, TEXT, likeness, standing_out
from unclip.search.query import EVERYTHING, Filters, Term, check, parse
from unclip.search.store import FOLDER, Picture, Store, find_index, is_of_before
from unclip.search.vectors import Vectors

UNWANTED = 0.5  # weight of what is not wanted; with more, its contrary comes first and not what is wanted
SAMPLE = 512  # pictures that stand for all of an index
MOST_LOOKED_AT = 10_000  # nearest pictures among which those above a threshold are looked for
REMEMBERED = 1000  # texts whose embeddings are kept

Question = str | Path | Image.Image | Sequence[Term]


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        path: of its file.
        probability: that the picture shows what was asked for; of several terms, that it shows every wanted
            one and no unwanted one. See `unclip.search.probability`.
        cosine: between query and picture in CLIP's space, -1 to 1; comparable within one query only.
        width, height: in pixels.
        bytes: length of the file.
        date: when it was taken or else changed, local time in ISO format.
        copies: further files with the same picture, or nearly the same.
        number: of the picture in the index.
    """

    path: Path
    probability: float
    cosine: float
    width: int
    height: int
    bytes: int
    date: str
    copies: tuple[Path, ...]
    number: int


@dataclass(frozen=True)
class _PreparedTerm:
    """A term as a vector; `others` are the background of a text, or the sample for a picture."""

    wanted: bool
    is_text: bool
    vector: np.ndarray  # (E,)
    others: np.ndarray  # (B, E)


@dataclass(frozen=True)
class _Prepared:
    """A query as vectors: what is ranked by, and each term for the probability."""

    ranking: np.ndarray  # (E,)
    terms: tuple[_PreparedTerm, ...]


class Index:
    """An index that is open for questions; it follows what a writer commits meanwhile.

    Args:
        folder: of the pictures, or of the index itself.
        model: name or folder of the bundle that embeds queries; None is the one of the index.
        device: as in `unclip.load`.
        clip: a model that is loaded already, instead.

    Attributes:
        folder: of the pictures; paths of hits begin with it.

    Raises:
        SearchError: there is no index, or it cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str | None = None,
        device: str | None = None,
        clip: ClipEmbedder | None = None,
    ) -> None:
        place = find_index(folder)
        self._store = Store.open(place)
        settings = self._store.settings()
        self.folder = Path(settings["folder"]) if settings["folder"] else _beside(place, folder)
        self._settings = settings
        self._model = model or settings["model"] or None
        self._device = device
        self._clip = self._checked(clip) if clip is not None else None
        self._vectors: Vectors | None = None
        self._version = -1
        self._texts: dict[str, np.ndarray] = {}
        self._looked = False  # whether what is in it are photographs
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """The number of different pictures."""
        with self._lock:
            return self._store.counts()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the index."""
        self._store.close()

    @property
    def clip(self) -> ClipEmbedder:
        """The model that the index was made with.

        Raises:
            SearchError: it is not there, or another one has taken its name.
        """
        with self._lock:
            if self._clip is None:
                self._clip = self._checked(ClipEmbedder.load(self._model, device=self._device))
            return self._clip

    def query(
        self,
        question: Question,
        *,
        top: int = 20,
        threshold: float = 0.0,
        filters: Filters = EVERYTHING,
        fold: bool = True,
    ) -> list[Hit]:
        """The pictures that suit a question best: the nearest ones, the most probable of them first.

        Args:
            question: a text as `query.parse` reads it, a picture or its file, or terms.
            top: most pictures to return.
            threshold: least probability, 0 to 1.
            filters: which files may be found.
            fold: nearly equal pictures count as one, the others are its copies.

        Raises:
            InputError: a question or setting that is not so, or a file that is no picture.
            SearchError: see `clip`.
        """
        if top < 1 or not 0 <= threshold <= 1:
            raise InputError(f"top {top}, threshold {threshold}: choose top from 1, threshold from 0 to 1")
        terms = _terms(question)
        where, values = filters.condition()
        with self._lock, self._store.snapshot():
            vectors = self._current()
            if not len(vectors):
                return []
            prepared = self._prepare(terms, vectors)
            allowed = self._store.ids(where, values) if values else None
            total = len(vectors) if allowed is None else len(allowed)
            count = min(max(4 * top, 64), total)
            while True:
                ids, cosines = vectors.nearest(prepared.ranking, count, allowed)
                kept = self._chosen(ids.tolist(), vectors, prepared, top, threshold, fold)
                enough = len(kept) >= top or count >= min(total, max(MOST_LOOKED_AT, 4 * top))
                if enough:
                    break
                count = min(4 * count, total)
            kept.sort(key=lambda one: -one[1])  # they are shown with it; of equal ones the nearer first
            cosine = dict(zip(ids.tolist(), cosines.tolist(), strict=True))
            return self._hits(kept, cosine, where, values)

    def duplicates(self) -> list[list[Path]]:
        """Files of nearly identical pictures, in groups, the largest picture of each first."""
        with self._lock, self._store.snapshot():
            vectors = self._current()
            ids = vectors.ids.tolist()
            place = {number: position for position, number in enumerate(ids)}
            pictures = self._store.pictures(ids)
            pairs: list[tuple[int, int]] = []
            for first, second in vectors.near_pairs(LEAST_COSINE):
                same = _alike([pictures[i] for i in first.tolist()], [pictures[i] for i in second.tolist()])
                chosen = zip(first[same].tolist(), second[same].tolist(), strict=True)
                pairs += [(place[one], place[other]) for one, other in chosen]
            members = [[ids[position] for position in group] for group in groups(len(ids), pairs)]
            grouped = {number for group in members for number in group}
            members += [[number] for number in ids if number not in grouped]
            files = self._store.files_of(ids, "1", ())
        found = []
        for group in members:
            group.sort(key=lambda number: -pictures[number].width * pictures[number].height)
            paths = [self.folder / file.path for number in group for file, _ in files.get(number, [])]
            if len(paths) > 1:
                found.append(paths)
        return sorted(found, key=lambda paths: paths[0])

    def thumbnail(self, hit: Hit) -> Image.Image | None:
        """The kept thumbnail of a hit, at most 256 pixels; None where the picture is gone from the index."""
        data = self.thumbnail_file(hit.number)
        return None if data is None else Image.open(io.BytesIO(data))

    def thumbnail_file(self, number: int) -> bytes | None:
        """The same of a picture's number, as the JPEG that is kept."""
        with self._lock:
            return self._store.thumbnail(number)

    def path(self, number: int) -> Path | None:
        """The first file of a picture, by its number; None where it is gone from the index."""
        with self._lock:
            files = self._store.files_of([number], "1", ()).get(number)
        return self.folder / files[0][0].path if files else None

    # --- how ---

    def _checked(self, clip: ClipEmbedder) -> ClipEmbedder:
        if clip.identity != self._settings["clip"]:
            if is_of_before(self._settings, clip.name, clip.preprocessing.fit):
                raise SearchError(
                    f"the index was made when {clip.name} cut pictures out a pixel beside their middle: make "
                    f"it again by `unclip index {self.folder}`"
                )
            raise SearchError(
                f"the index was made with the model {self._settings['name']} ({self._settings['clip']}), "
                f"this is {clip.name} ({clip.identity}): name the right one by --model, or make an index "
                "with this one by --out"
            )
        return clip

    def _current(self) -> Vectors:
        version = self._store.version
        if self._vectors is None or version != self._version:
            self._vectors, self._version = Vectors(self._store), version
        return self._vectors

    def _prepare(self, terms: Sequence[Term], vectors: Vectors) -> _Prepared:
        sample = vectors.sample(SAMPLE)  # (K, E)
        if not self._looked:
            self._looked, watch = True, Watch(self.clip)
            watch.see(sample)
            watch.tell()
        ranking = np.zeros(sample.shape[1], np.float32)
        prepared = []
        for term in terms:
            vector = self._embedded(term)
            spread = (sample @ vector).std() if len(terms) > 1 else 0.0
            # Cosines with pictures spread wider than those with texts: each term is to count alike.
            ranking += (1.0 if term.wanted else -UNWANTED) * vector / (spread or 1.0)
            others = self._background() if term.is_text else sample
            prepared.append(_PreparedTerm(term.wanted, term.is_text, vector, others))
        return _Prepared(ranking / (np.linalg.norm(ranking) or 1.0), tuple(prepared))

    def _embedded(self, term: Term) -> np.ndarray:
        """A term's embedding, (E,); texts are remembered."""
        if isinstance(term.content, str):
            if term.content not in self._texts:
                if len(self._texts) >= REMEMBERED:
                    self._texts.pop(next(iter(self._texts)))
                self._texts[term.content] = self.clip.embed_texts([term.content]).numpy()[0]
            return self._texts[term.content]
        embedding, watch = self.clip.embed_images([term.content]), Watch(self.clip)
        watch.see(embedding)
        watch.tell()
        return embedding.numpy()[0]

    def _background(self) -> np.ndarray:
        return self._store.background()[1].astype(np.float32)

    def _chosen(
        self,
        ids: list[int],
        vectors: Vectors,
        prepared: _Prepared,
        top: int,
        threshold: float,
        fold: bool,
    ) -> list[tuple[int, float, list[int]]]:
        """The first `top` pictures that pass, their probabilities and the pictures that they stand for."""
        pictures = self._store.pictures(ids)
        rows = vectors.of(ids)
        ids = [number for number in ids if number in pictures and number in rows]
        if not ids:
            return []
        matrix = np.stack([rows[number] for number in ids])  # (N, E)
        probability = _probabilities(matrix, prepared, self.clip.scale, len(vectors))  # (N,)
        kept: list[tuple[int, float, list[int]]] = []
        places: list[int] = []
        for place, number in enumerate(ids):
            if probability[place] < threshold:
                continue
            if fold and places:
                near = matrix[places] @ matrix[place] >= LEAST_COSINE
                same = [
                    index
                    for index in np.flatnonzero(near).tolist()
                    if _alike([pictures[kept[index][0]]], [pictures[number]])[0]
                ]
                if same:
                    kept[same[0]][2].append(number)
                    continue
            if len(kept) == top:
                break
            kept.append((number, float(probability[place]), []))
            places.append(place)
        return kept

    def _hits(
        self,
        kept: list[tuple[int, float, list[int]]],
        cosines: dict[int, float],
        where: str,
        values: Sequence[object],
    ) -> list[Hit]:
        numbers = [number for first, _, others in kept for number in (first, *others)]
        files = self._store.files_of(numbers, where, values)
        pictures = self._store.pictures(numbers)
        hits = []
        for number, probability, others in kept:
            own = [pair for one in (number, *others) for pair in files.get(one, [])]
            if not own:
                continue
            file, date = own[0]
            hits.append(
                Hit(
                    path=self.folder / file.path,
                    probability=probability,
                    cosine=cosines[number],
                    width=pictures[number].width,
                    height=pictures[number].height,
                    bytes=file.bytes,
                    date=date,
                    copies=tuple(self.folder / other.path for other, _ in own[1:]),
                    number=number,
                )
            )
        return hits


def _probabilities(matrix: np.ndarray, prepared: _Prepared, scale: float, count: int) -> np.ndarray:
    """Of pictures (N, E) of an index of `count` that they are what was asked for, (N,)."""
    result = np.ones(len(matrix))
    for term in prepared.terms:
        if term.is_text:
            right = TEXT.probability(standing_out(matrix, term.vector, term.others, scale), count)
        else:
            right = PICTURE.probability(likeness(matrix, term.vector, term.others), count)
        result *= right if term.wanted else 1 - right
    return result


def _alike(first: Sequence[Picture], second: Sequence[Picture]) -> np.ndarray:
    """True where the pixels of pairs of pictures are nearly the same, (P,) bool."""
    if not first:
        return np.zeros(0, bool)
    return alike(
        signatures([picture.signature for picture in first]),
        signatures([picture.signature for picture in second]),
        np.array([picture.width / picture.height for picture in first]),
        np.array([picture.width / picture.height for picture in second]),
    )


def _terms(question: Question) -> tuple[Term, ...]:
    if isinstance(question, str):
        return parse(question)
    if isinstance(question, (Path, Image.Image)):
        return (Term(question),)
    return check(question)


def _beside(place: Path, asked: Path) -> Path:
    """The folder that an index stands in, as it was asked for."""
    return asked if place == asked / FOLDER else Path(os.path.normpath(place / ".."))
