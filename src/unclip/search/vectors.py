"""The nearest vectors of an index to another: all of them compared, or a graph for large indexes.

Below `EXACT` pictures every vector is compared. Above, a graph (HNSW, 1603.09320) finds nearly all of the
nearest in a fraction of the time; it stands in a file beside the database, is mapped and not read, and may be
older than the database: pictures that came since are compared one by one, those that are gone are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from usearch.compiled import MetricKind
from usearch.index import Index as Graph
from usearch.index import search as compare_all

from unclip.processes import cores
from unclip.runtime import atomic_path
from unclip.search.store import Store

EXACT = 100_000  # pictures up to which all are compared
STALE = 0.02  # share of the graph's pictures that may come or go before it is brought up to date
ADDED_AT_ONCE = 1000  # to a graph
COMPARED_AT_ONCE = 256  # with all others: 100 MB at most
CONNECTIONS = 16  # of a node, M in the paper
# Half of the usual efConstruction makes the graph in 0.6 of the time; twice the usual ef, a fifth more for a
# query, finds what the graph then lacks (of 100,000 vectors .997 of the nearest ten with 64 and 256 and with
# 128 and 128, of the corpus's pictures for texts .993 and .989).
EXPANSION_ADD = 64  # efConstruction in the paper
EXPANSION_SEARCH = 256  # ef; the more, the fewer are missed
GRAPH_FILE, GRAPH_THROUGH = "graph_file", "graph_through"  # settings of the store
GRAPH_FILES = "graph-*.usearch"


class Vectors:
    """The vectors of an index at one moment."""

    def __init__(self, store: Store) -> None:
        settings = store.settings()
        self._store = store
        self._graph = _opened(store.folder, settings, Graph.view)
        through = int(settings[GRAPH_THROUGH]) if self._graph is not None else 0
        self.ids = store.numbers()  # (N,) rising
        self._ids, self._matrix = store.vectors(through)  # those that are compared: (M,), (M, E)

    def __len__(self) -> int:
        return len(self.ids)

    def nearest(
        self, query: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest `count` pictures to (E,), or fewer: numbers (K,) and cosines (K,), nearest first.

        `allowed` are the numbers that may be found, rising; None allows all.
        """
        if self._graph is None:
            rows = slice(None) if allowed is None else np.isin(self._ids, allowed, assume_unique=True)
            return _compared(self._ids[rows], self._matrix[rows], query, count)
        if allowed is not None and len(allowed) <= EXACT:
            return _compared(*self._store.vectors_of(allowed.tolist()), query, count)
        alive = self.ids if allowed is None else allowed
        found, cosines = self._from_graph(query, count, alive)
        rows = _among(self._ids, alive)
        new, their = _compared(self._ids[rows], self._matrix[rows], query, count)
        found, cosines = np.concatenate([found, new]), np.concatenate([cosines, their])
        order = np.argsort(-cosines, kind="stable")[:count]
        return found[order], cosines[order]

    def of(self, ids: Sequence[int]) -> dict[int, np.ndarray]:
        """Vectors by number, float32 (E,), of those that are there."""
        wanted = np.array(ids, np.int64)
        if self._graph is not None:
            numbers, matrix = self._store.vectors_of(wanted.tolist())
        else:
            rows = np.flatnonzero(np.isin(self._ids, wanted, assume_unique=True))
            numbers, matrix = self._ids[rows], self._matrix[rows]
        return dict(zip(numbers.tolist(), matrix.astype(np.float32), strict=True))

    def sample(self, count: int) -> np.ndarray:
        """At most `count` of the pictures' vectors, spread evenly, float32 (K, E)."""
        places = np.unique(np.linspace(0, len(self.ids) - 1, min(count, len(self.ids))).astype(int))
        return np.stack(list(self.of(self.ids[places].tolist()).values()))

    def near_pairs(self, least: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of pictures whose cosine is `least` or more, as numbers (P,) and (P,), the lower one first.

        With a graph only pairs among the 32 nearest of each.
        """
        if self._graph is None:
            matrix = self._matrix.astype(np.float32)
            for start in range(0, len(matrix), COMPARED_AT_ONCE):
                cosines = matrix[start : start + COMPARED_AT_ONCE] @ matrix[start:].T  # (B, M - start)
                rows, columns = np.nonzero(cosines >= least)
                kept = columns > rows
                yield self._ids[start + rows[kept]], self._ids[start + columns[kept]]
            return
        for start in range(0, len(self.ids), ADDED_AT_ONCE):
            for number, vector in self.of(self.ids[start : start + ADDED_AT_ONCE].tolist()).items():
                found, cosines = self.nearest(vector, 32)
                others = found[(cosines >= least) & (found > number)]
                yield np.full(len(others), number), others

    def _from_graph(self, query: np.ndarray, count: int, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`, of the graph's pictures: more are asked for until enough of them are alive."""
        assert self._graph is not None
        asked = min(2 * count, len(self._graph))
        while True:
            matches = self._graph.search(query.astype(np.float32), asked)
            found = np.asarray(matches.keys).astype(np.int64)
            kept = _among(found, alive)
            if kept.sum() >= count or asked >= len(self._graph):
                return found[kept][:count], 1 - np.asarray(matches.distances)[kept][:count]
            asked = min(4 * asked, len(self._graph))


def update_graph(store: Store) -> Iterator[tuple[int, int]]:
    """Make the graph of a large index, or bring it up to date; yields (done, total).

    A small index has none. The file is replaced whole, and what stands in the database decides which one
    counts, so a process that is killed here leaves a graph that can be used.
    """
    settings, ids = store.settings(), store.numbers()
    if len(ids) <= EXACT:
        if settings.get(GRAPH_FILE):
            _enter(store, "", 0)
        _remove_others(store.folder, "")
        return
    graph = _opened(store.folder, settings, Graph.load)
    through = int(settings[GRAPH_THROUGH]) if graph is not None else 0
    new = ids[ids > through]
    if graph is None:
        graph, gone = _graph(int(settings["width"])), np.empty(0, np.int64)
    else:
        gone = np.setdiff1d(np.asarray(graph.keys).astype(np.int64), ids, assume_unique=True)
        if len(new) + len(gone) < STALE * len(graph):
            return
    if len(gone):
        graph.remove(gone.astype(np.uint64))
    for start in range(0, len(new), ADDED_AT_ONCE):
        numbers, matrix = store.vectors_of(new[start : start + ADDED_AT_ONCE].tolist())
        # the first ones alone: what comes in at the same time is not linked, and small graphs would miss it
        threads = 1 if len(graph) < ADDED_AT_ONCE else cores()
        graph.add(numbers.astype(np.uint64), matrix, threads=threads)
        yield min(start + ADDED_AT_ONCE, len(new)), len(new)
    name = f"graph-{int(ids[-1])}-{len(ids)}.usearch"
    with atomic_path(store.folder / name) as temporary:
        try:
            graph.save(temporary)
        except RuntimeError as error:  # usearch's way to say that the disk is full
            raise OSError(str(error)) from error
    _enter(store, name, int(ids[-1]))
    _remove_others(store.folder, name)


def _enter(store: Store, name: str, through: int) -> None:
    with store.transaction():
        store.set(GRAPH_FILE, name)
        store.set(GRAPH_THROUGH, str(through))


def _remove_others(folder: Path, name: str) -> None:
    """Graphs that do not count, and what killed writers left; readers keep those that they have mapped."""
    for pattern in (GRAPH_FILES, f".{GRAPH_FILES}"):
        for path in folder.glob(pattern):
            if path.name != name:
                path.unlink(missing_ok=True)


def _among(few: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Membership of a few numbers in many, which rise: without looking at all of those, as np.isin does."""
    places = np.minimum(np.searchsorted(many, few), max(len(many) - 1, 0))
    return many[places] == few if len(many) else np.zeros(len(few), bool)


def _compared(
    ids: np.ndarray, matrix: np.ndarray, query: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest `count` of vectors (M, E) by comparing all."""
    if not len(ids):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    matches = compare_all(
        matrix, query.astype(np.float16)[None], min(count, len(ids)), MetricKind.Cos, exact=True
    )
    order = np.asarray(matches.keys).reshape(-1).astype(np.int64)
    return ids[order], 1 - np.asarray(matches.distances).reshape(-1)


def _graph(width: int) -> Graph:
    return Graph(
        ndim=width,
        metric=MetricKind.Cos,
        dtype="f16",
        connectivity=CONNECTIONS,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )


def _opened(folder: Path, settings: dict[str, str], how: Callable[[Graph, Path], object]) -> Graph | None:
    """The graph that counts, loaded to be changed or viewed to be searched.

    None where there is none, it is damaged, or another has just taken its place: then all are compared until
    it is made again.
    """
    name = settings.get(GRAPH_FILE)
    if not name or not (folder / name).is_file():
        return None
    graph = _graph(int(settings["width"]))
    try:
        how(graph, folder / name)
    except (RuntimeError, ValueError, OSError):
        return None
    return graph
