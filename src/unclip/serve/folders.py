"""Folders of pictures that the server's owner has allowed: indexed and searched, and else left alone."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unclip.catalogue import available_bundles
from unclip.embedding import ClipEmbedder
from unclip.errors import InputError, SearchError
from unclip.model import Model
from unclip.photographs import SHARE
from unclip.runtime import check_writable
from unclip.search.index import Hit, Index
from unclip.search.query import EVERYTHING, Filters, Term
from unclip.search.store import FOLDER, Store, find_index
from unclip.search.writer import Writer
from unclip.serve.errors import ApiError
from unclip.serve.jobs import State
from unclip.serve.log import log
from unclip.serve.models import Models
from unclip.serve.worker import Worker
from unclip.stages.stage import chunks

AT_ONCE = 16  # pictures in one call of the model, between two steps of what is drawn


class SharedClip(ClipEmbedder):
    """A CLIP whose network is the worker's: texts and pictures are embedded between two steps of drawing."""

    def __init__(self, worker: Worker, models: Models, name: str) -> None:
        def refused() -> torch.nn.Module:
            raise RuntimeError("the network is the worker's")

        bundle = models.bundles[name]
        own = ClipEmbedder.of(bundle, torch.device("cpu"), torch.float32, refused)
        vars(self).update(vars(own), exact=models.where.get("exact", False))
        # what is said of photographs, a folder says for itself
        self.test, self.photographic = own.photographic, None
        self.seen = self.photographs = 0
        self._worker, self._bundle = worker, name

    @property
    def scale(self) -> float:
        return self._worker.with_model(self._bundle, lambda model: model.clip.scale).result()

    def embed_texts(self, texts: Sequence[str] | str) -> Tensor:
        """As of `ClipEmbedder`."""
        several = [texts] if isinstance(texts, str) else list(texts)

        def embedded(model: Model, some: Sequence[str]) -> Tensor:
            return model.clip.embed_texts(some)

        parts = chunks(several, AT_ONCE)  # between two of them others are drawn for
        works = (partial(embedded, some=part) for part in parts)
        return torch.cat([self._worker.with_model(self._bundle, work).result() for work in works])

    def embed_pixels(self, pixels: np.ndarray, *, raw: bool = False) -> Tensor:
        """As of `ClipEmbedder`."""
        found: Tensor = self._worker.with_model(
            self._bundle, lambda model: model.clip.embed_pixels(pixels, raw=raw)
        ).result()
        if self.test is not None and not raw:
            along = found.numpy() @ np.array(self.test.direction, np.float32)  # (N,)
            self.seen += len(along)
            self.photographs += int((along > self.test.least).sum())
        return found


@dataclass(eq=False)
class Folder:
    """A folder that is allowed.

    Attributes:
        id: stands for its path, and is the same after a restart.
        path: the folder.
        place: of its index.
        state: of the indexing, as of a job; None where there was none since the start.
        stage, done, total: how far it is.
        error: what went wrong with it, for a person.
        foreign: whether most of the pictures seen are photographs, which the CLIP does not know.
    """

    path: Path
    place: Path
    state: State | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str | None = None
    foreign: bool = False
    stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _index: Index | None = None

    @property
    def id(self) -> str:
        return f"fld_{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"

    def counts(self) -> tuple[int, int, int] | None:
        """Pictures, their files, and files that were skipped; None where there is no index."""
        try:
            store = Store.open(find_index(self.place))
        except SearchError:
            return None
        try:
            return store.counts()
        finally:
            store.close()


class Folders:
    """The folders that the owner of the server has allowed, and no others.

    Args:
        paths: of the folders.
        data: where indexes go of folders that cannot be written to.

    Raises:
        InputError: a folder that is not there, or two of one name.
    """

    def __init__(self, paths: Sequence[Path], data: Path) -> None:
        self.found: dict[str, Folder] = {}
        for path in paths:
            if not path.is_dir():
                raise InputError(f"no such folder: {path}")
            folder = Folder(path.resolve(), _place(path.resolve(), data))
            if folder.path.name in {other.path.name for other in self.found.values()}:
                raise InputError(f"two folders are called {folder.path.name}: allow one of them")
            self.found[folder.id] = folder
        self._threads: list[threading.Thread] = []

    def begin(self, folder: Folder, worker: Worker, models: Models, bundle: str) -> None:
        """Index a folder, or bring its index up to date, in a thread of its own; it says how far it is."""
        with folder._lock:
            if folder.state is not None and not folder.state.ended:
                return
            folder.state, folder.stage, folder.done, folder.total = State.RUNNING, "", 0, 0
            folder.error, folder.stopped = None, False
        thread = threading.Thread(
            target=self._work, args=(folder, worker, models, bundle), name="unclip-index", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End what is being indexed, after the batch that it is at."""
        for folder in self.found.values():
            folder.stopped = True
        for thread in self._threads:
            thread.join()

    def _work(self, folder: Folder, worker: Worker, models: Models, bundle: str) -> None:
        try:
            clip = _clip(bundle, worker, models)
            known = bundle if bundle in available_bundles() else str(models.bundles[bundle].folder)
            writer = Writer(folder.path, clip, model=known, out=folder.place, workers=1, batch=AT_ONCE)
            for stage, done, total in writer.run():
                folder.stage, folder.done, folder.total = stage, done, total
                folder.foreign = isinstance(clip, SharedClip) and clip.photographs > SHARE * clip.seen
                if folder.stopped:
                    folder.state = State.CANCELLED
                    return
            folder.state = State.DONE
        except (InputError, SearchError) as error:
            log("failed", folder=folder.id, error=str(error))
            folder.error = "it cannot be indexed: see the server's log"
            folder.state = State.FAILED
        except Exception as error:  # whatever it is, it is told
            log("failed", folder=folder.id, error=repr(error))
            folder.error, folder.state = "it failed: see the server's log", State.FAILED

    def query(
        self,
        folder: Folder,
        worker: Worker,
        models: Models,
        terms: Sequence[Term],
        top: int,
        threshold: float,
        filters: Filters = EVERYTHING,
    ) -> list[Hit]:
        """The pictures that suit best. Raises ApiError where there is no index, or its model is not here."""
        index = self.index(folder, worker, models)
        return index.query(terms, top=top, threshold=threshold, filters=filters)

    def index(self, folder: Folder, worker: Worker, models: Models) -> Index:
        """The index of a folder, opened once. Raises ApiError as `query`."""
        with folder._lock:
            if folder._index is None:
                folder._index = _opened(folder, worker, models)
            return folder._index


def _opened(folder: Folder, worker: Worker, models: Models) -> Index:
    try:
        store = Store.open(find_index(folder.place))
    except SearchError:
        raise ApiError(409, "this folder is not indexed: index it first", code="not_indexed") from None
    try:
        settings = store.settings()
    finally:
        store.close()
    for name in models.bundles:
        if "clip" in models.bundles[name].components:
            clip = SharedClip(worker, models, name)
            if clip.identity == settings["clip"]:
                return Index(folder.place, clip=clip)
    try:
        return Index(folder.place, clip=_clip(settings["name"], worker, models))
    except (InputError, SearchError):
        message = f"the index was made with the model {settings['name']}, which is not here: index it again"
        raise ApiError(409, message, code="model_not_found") from None


def _clip(name: str, worker: Worker, models: Models) -> ClipEmbedder:
    """The CLIP of a bundle that is served; of another on disk, one that draws nothing perhaps, its own.

    Raises InputError where there is none.
    """
    if name in models.bundles:
        return SharedClip(worker, models, name)
    if name not in available_bundles():
        raise InputError(f"no bundle {name} is here")
    return ClipEmbedder.load(name, device=models.where.get("device"))


def _place(path: Path, data: Path) -> Path:
    """Where a folder's index is: within it, as `unclip index` makes it; where that cannot be, in `data`."""
    own = path / FOLDER
    if own.is_dir():
        return own
    try:
        check_writable(path)
    except InputError:
        return data / "indexes" / hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return own


def folder_document(folder: Folder) -> dict[str, Any]:
    """The JSON document of a folder."""
    counts = folder.counts()
    pictures, files, skipped = counts or (0, 0, 0)
    return {
        "id": folder.id,
        "object": "unclip.folder",
        "name": folder.path.name,
        "indexed": counts is not None,
        "pictures": pictures,
        "files": files,
        "skipped": skipped,
        "state": None if folder.state is None else str(folder.state),
        "stage": folder.stage,
        "done": folder.done,
        "total": folder.total,
        "error": folder.error,
        "photographs": folder.foreign,
    }
