"""Makes an index and brings it up to date: only what is new or changed is read, only new pictures embedded.

Files are read, hashed and decoded in worker processes while the model runs in this one. Every batch is
committed as a whole: a run that is stopped, or killed, goes on where it was.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unclip.errors import InputError, SearchError
from unclip.photographs import Watch
from unclip.processes import ContainedPool, cores, pop_finished_
from unclip.search.background import BACKGROUND
from unclip.search.files import walk, within
from unclip.search.reading import UNREADABLE, Job, Reading, read_all, readers
from unclip.search.store import (
    FOLDER,
    PREPARED,
    File,
    Found,
    Store,
    index_of,
    is_of_before,
    writer_lock,
)
from unclip.search.vectors import update_graph

if TYPE_CHECKING:
    from unclip.embedding import ClipEmbedder

BATCH = 64  # pictures in one call of the model, and at most in one commit
CHUNK = 16  # files that a worker reads at once
MOST_KNOWN = 1000  # hashes that a worker is told for a file
MOST_READ = 1000  # files that were read and are not entered yet; of most there is nothing to embed
AHEAD = 2  # chunks for each worker that are read or wait for the model


class Progress(NamedTuple):
    """The progress of a stage; a total of 0 is not known yet."""

    stage: str
    done: int
    total: int


@dataclass
class Summary:
    """The work of a run.

    Attributes:
        index: its folder.
        unchanged: files that were not read.
        read: files that were, because they are new or changed.
        embedded: pictures that were new to the index; a renamed or copied file is not.
        removed: files that are gone.
        skipped: files that are no picture or cannot be read, of this run, with the reason.
        skipped_before: the same of earlier runs; they are looked at again when they change.
        pictures, files, all_skipped: what the index holds now.
        seconds: of the whole run.
    """

    index: Path
    unchanged: int = 0
    read: int = 0
    embedded: int = 0
    removed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    skipped_before: list[tuple[str, str]] = field(default_factory=list)
    pictures: int = 0
    files: int = 0
    all_skipped: int = 0
    seconds: float = 0.0


class Writer:
    """One run over a folder; `run` tells of its progress, `summary` of what it did.

    Args:
        folder: of pictures.
        clip: embeds them.
        model: how the bundle was asked for, so that a search finds it again; None is the shipped one.
        out: where the index stands; None is within the folder.
        workers: processes that read; None is one a core.
        batch: pictures in one call of the model.

    Raises:
        InputError: there is no such folder, its index cannot be written, or no worker or picture in a batch.
    """

    def __init__(
        self,
        folder: Path,
        clip: ClipEmbedder,
        *,
        model: str | None = None,
        out: Path | None = None,
        workers: int | None = None,
        batch: int = BATCH,
    ) -> None:
        self._index = index_of(folder, out)
        if batch < 1 or (workers is not None and workers < 1):
            raise InputError(f"workers {workers}, batch {batch}: choose 1 or more")
        self._folder = folder.resolve()
        self._clip = clip
        self._watch = Watch(clip)
        self._model = model
        self._workers = workers or cores()
        self._batch = batch
        self._hashes: set[bytes] = set()
        self.summary = Summary(self._index)

    def run(self) -> Iterator[Progress]:
        """Do it.

        Raises:
            SearchError: another process writes this index, it was made with another model or for another
                folder, it cannot be written, or no process can start that reads. One that was made when
                CLIP's crop was rounded otherwise is made again.
        """
        started = time.monotonic()
        with writer_lock(self._index):
            store = Store.create(self._index, self._settings())
            try:
                self._check(store)
                yield from self._update(store)
                self.summary.pictures, self.summary.files, self.summary.all_skipped = store.counts()
            except (sqlite3.Error, OSError) as error:  # the disk is full, for example
                raise SearchError(
                    f"cannot write the index {self._index} ({error}): make room, and the same command goes on"
                ) from error
            finally:
                store.close()
        self.summary.seconds = time.monotonic() - started
        self._watch.tell()

    # --- which index ---

    def _settings(self) -> dict[str, str]:
        """Of a new index. An index within the folder of pictures does not name it: so it can be moved."""
        own = self._index == self._folder / FOLDER
        model = self._model or ""
        named = str(Path(model).resolve()) if model and Path(model).is_dir() else model
        return {
            "folder": "" if own else str(self._folder),
            "model": named,
            "name": self._clip.name,
            "clip": self._clip.identity,
            PREPARED: self._clip.preprocessing.identity,
        }

    def _check(self, store: Store) -> None:
        found = store.settings()
        if found["clip"] != self._clip.identity:
            if not is_of_before(found, self._clip.name, self._clip.preprocessing.fit):
                raise SearchError(
                    f"{self._index} was made with the model {found['name']} ({found['clip']}), this is "
                    f"{self._clip.name} ({self._clip.identity}): choose another place for its index by --out"
                )
            with store.transaction():
                store.clear()
                for name in ("clip", PREPARED):
                    store.set(name, self._settings()[name])
        if found["folder"] != self._settings()["folder"]:
            other = found["folder"] or self._index.parent
            raise SearchError(f"{self._index} is the index of {other}: choose another place by --out")
        if store.background()[0] != sorted(BACKGROUND):
            vectors = self._clip.embed_texts(list(BACKGROUND)).numpy()  # (N, E)
            with store.transaction():
                store.set_background(BACKGROUND, vectors)
                store.set("width", str(vectors.shape[1]))

    # --- the run ---

    def _update(self, store: Store) -> Iterator[Progress]:
        known = {file.path: (file.bytes, file.changed, reason) for file, reason in store.files()}
        waiting: list[File] = []
        unreadable: list[str] = []
        for count, file in enumerate(walk(self._folder, self._index), 1):
            if isinstance(file, str):
                unreadable.append(file)
                continue
            length, changed, reason = known.pop(file.path, (None, None, None))
            if (length, changed) == (file.bytes, file.changed) and not (reason or "").startswith(UNREADABLE):
                self.summary.unchanged += 1
                if reason is not None:
                    self.summary.skipped_before.append((file.path, reason))
            else:
                waiting.append(file)
            if count % 1000 == 0:
                yield Progress("scan", count, 0)
        if "" in unreadable:
            raise SearchError(f"cannot read the folder {self._folder}: check its permissions")
        self.summary.skipped += [(folder, "folder cannot be read") for folder in unreadable]
        yield Progress("scan", self.summary.unchanged + len(waiting), self.summary.unchanged + len(waiting))
        yield from self._read(store, waiting)
        # after the reading: the picture of a file that was renamed must still be there to be found
        gone = [path for path in known if not any(within(path, folder) for folder in unreadable)]
        with store.transaction():
            store.forget(gone)
            store.drop_orphans()
        self.summary.removed = len(gone)
        for done, total in update_graph(store):
            yield Progress("graph", done, total)

    def _read(self, store: Store, files: list[File]) -> Iterator[Progress]:
        if not files:
            return
        yield Progress("pictures", 0, len(files))
        read: list[tuple[File, Reading]] = []
        with readers(min(self._workers, -(-len(files) // CHUNK))) as pool:
            for part in self._readings(pool, store, files):
                read += part
                while _pictures(read) >= self._batch or len(read) >= MOST_READ:
                    yield self._keep_(store, read, len(files))
            while read:
                yield self._keep_(store, read, len(files))

    def _readings(
        self, pool: ContainedPool, store: Store, files: list[File]
    ) -> Generator[list[tuple[File, Reading]], None, None]:
        """Files with what was read of them, a chunk at a time, as the workers are done."""
        lengths = store.hashes_by_length()
        self._hashes = {digest for hashes in lengths.values() for digest in hashes}
        # where very many files are of one length, their pixels are read all the same and embedded only if new
        known = {length: tuple(some) for length, some in lengths.items() if len(some) <= MOST_KNOWN}
        shape = self._clip.preprocessing
        running: dict[Future[list[Reading]], list[File]] = {}
        chunks = iter(files)
        while (chunk := list(islice(chunks, CHUNK))) or running:
            if chunk:
                jobs = [
                    Job(self._folder / file.path, known.get(file.bytes, ()), shape.size, shape.fit)
                    for file in chunk
                ]
                running[pool.executor.submit(read_all, jobs, pool)] = chunk
            if not chunk or len(running) >= AHEAD * self._workers:
                for read, readings in pop_finished_(running):
                    yield list(zip(read, readings, strict=True))

    def _keep_(self, store: Store, read: list[tuple[File, Reading]], total: int) -> Progress:
        """Embed and commit the first files of `read`, at most a batch of pictures; they are taken out."""
        part: list[tuple[File, Reading]] = []
        new: dict[bytes, Reading] = {}
        while read and len(new) < self._batch:
            file, reading = read.pop(0)
            if reading.pixels is not None and reading.hash not in self._hashes:
                new.setdefault(reading.hash, reading)
            part.append((file, reading))
        found = self._embed(list(new.values()))
        with store.transaction():
            for picture in found:
                store.add(picture)
            for file, reading in part:
                store.put(file, reading.hash or None, reading.reason)
        self._hashes |= new.keys()
        self.summary.embedded += len(new)
        self.summary.read += len(part)
        self.summary.skipped += [(file.path, one.reason) for file, one in part if one.reason is not None]
        return Progress("pictures", self.summary.read, total)

    def _embed(self, readings: list[Reading]) -> list[Found]:
        if not readings:
            return []
        pixels = [reading.pixels for reading in readings if reading.pixels is not None]
        vectors = self._clip.embed_pixels(np.stack([one.square for one in pixels])).numpy()  # (B, E)
        self._watch.see(vectors)
        return [
            Found(
                hash=reading.hash,
                width=one.width,
                height=one.height,
                taken=one.date,
                signature=one.signature,
                vector=vector,
                thumbnail=one.thumbnail,
            )
            for reading, one, vector in zip(readings, pixels, vectors, strict=True)
        ]


def _pictures(read: list[tuple[File, Reading]]) -> int:
    return sum(reading.pixels is not None for _, reading in read)
