"""A corpus that does not fit this disk: its shards are fetched from a store while they are learned from."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from unclip.data.colours import colours
from unclip.data.corpus import COLOUR_SIZE, EVERYTHING, PLACES, Corpus, fitted
from unclip.data.order import WINDOW, Order
from unclip.data.records import MANIFEST_FILE, Split
from unclip.data.store import Cache, Span, Store, is_address
from unclip.errors import DataError
from unclip.processes import cores

AT_ONCE = 256  # pictures that are held at their stored size


def opened(source: str | Path, split: Split | str = Split.TRAIN, cache: Cache | None = None) -> Corpus:
    """The corpus in a folder, or at an address such as "s3://bucket/corpus".

    Args:
        source: the folder or the address.
        split: as of `Corpus`.
        cache: of shards that are fetched; by default as `Cache` has it. Of a folder nothing is cached.

    Raises:
        DataError, InputError: as `Corpus` and `Store`.
    """
    if isinstance(source, str) and is_address(source):
        return StreamedCorpus(Store(source, cache or Cache()), split)
    return Corpus(source, split)


class StreamedCorpus(Corpus):
    """A corpus as `unclip data` makes it, copied as it is to where the store finds it.

    Its manifest is fetched whole and held in memory; of the pictures no more is here than the store's cache
    holds. A picture is decoded when it is asked for.

    Raises:
        DataError: there is no corpus, or the store cannot be reached.
        InputError: there is no such split.
    """

    streams = True

    def __init__(self, store: Store, split: Split | str = Split.TRAIN) -> None:
        self.store = store
        try:
            manifest = store.file(MANIFEST_FILE)
        except DataError as error:
            raise DataError(
                f"{store.address} is no corpus that can be read: {error}. Name what holds a copy of the "
                "folder that `unclip data` made"
            ) from error
        super().__init__(manifest.parent, split)

    @property
    def where(self) -> str:
        return self.store.address

    def of(self, split: Split | str) -> Corpus:
        return StreamedCorpus(self.store, split)

    def file(self, name: str) -> Path:
        if name in self.store.look([name]):
            return self.store.file(name)
        return super().file(name)

    def order(self, weights: np.ndarray) -> Order:
        return Order(weights, self.column("shard"), self.store.keep)

    def check_files(self) -> None:
        ends = self._ends()
        found = self.store.look(sorted(ends))
        for shard, end in sorted(ends.items()):
            if shard not in found:
                raise DataError(f"{self.where}/{shard} is not there: copy the corpus there anew")
            if found[shard].size < end:
                raise DataError(
                    f"{self.where}/{shard} is cut off: it has {found[shard].size:,} bytes, and its pictures "
                    f"end at {end:,}. Copy it there anew"
                )

    def check_room(self, lanes: int, batch: int, processes: int) -> None:
        """Refuse a cache that does not hold the shards which a process has open at once.

        Args:
            lanes: as of `LoopConfig`.
            batch: places of a batch.
            processes: that train together.
        """
        shards = sorted(set(self.column("shard")))
        own = -(-min(lanes, batch, len(shards)) // processes)
        self.store.check_room(shards, min(len(shards), own * WINDOW))

    @cached_property
    def fingerprint(self) -> str:
        """64 digits that change with any row of the manifest, and with any file of a shard.

        It is another than that of the same corpus in a folder: here the store's checksums count.
        """
        whole = self if self.split == EVERYTHING else self.of(EVERYTHING)
        digest = hashlib.sha256()
        for name in whole.manifest.names:
            if not name.startswith("large_"):
                digest.update(repr(whole.column(name)).encode())
        shards = sorted(set(whole.column("shard")))
        for shard, found in sorted(self.store.look(shards).items()):
            digest.update(repr((shard, found.size, found.version)).encode())
        return digest.hexdigest()

    @cached_property
    def colours(self) -> np.ndarray:
        return cast(np.ndarray, _Colours(self))  # looked for when they are asked for

    def pixels(self, size: int) -> np.ndarray:
        """All pictures, in place of an array uint8 (N, size, size, 3): those that are indexed are fetched."""
        return cast(np.ndarray, StreamedPixels(self, size))

    def read(self, positions: np.ndarray) -> list[Image.Image]:
        """Pictures at their stored size. Raises DataError where one cannot be had."""
        spans = [Span(*self._places[position]) for position in positions.tolist()]
        return list(self._pool.map(self._image, spans, self.store.read(spans)))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(cores(), "unclip-decoding")

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        return list(zip(*(self.column(name) for name in PLACES[:3]), strict=True))

    def _read(self, shard: str, offset: int, size: int) -> Image.Image:
        span = Span(shard, offset, size)
        return self._image(span, self.store.read([span])[0])

    def _image(self, span: Span, content: bytes) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(content))
            image.load()
        except OSError as error:
            raise DataError(
                f"{self.where}/{span.name} is damaged ({error}): copy the corpus there anew"
            ) from error
        return image


class StreamedPixels:
    """The pictures of a corpus at one size, indexed as the array (N, S, S, 3) of them would be."""

    dtype = np.dtype(np.uint8)

    def __init__(self, corpus: StreamedCorpus, size: int) -> None:
        self._corpus, self._size = corpus, size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self._size, self._size, 3

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, index: Any) -> np.ndarray:
        """One picture (S, S, 3), or those (M, S, S, 3) that a slice, positions or a mask choose."""
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return fitted(self._corpus.read(chosen[None])[0], self._size)
        pictures = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for start in range(0, len(chosen), AT_ONCE):
            part = chosen[start : start + AT_ONCE]
            pictures[start : start + AT_ONCE] = [
                fitted(image, self._size) for image in self._corpus.read(part)
            ]
        return pictures


class _Colours:
    """The colours of a corpus's pictures, each found when it is asked for."""

    def __init__(self, corpus: StreamedCorpus) -> None:
        self._corpus = corpus
        self._found: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._corpus)

    def __getitem__(self, index: int) -> str:
        if index not in self._found:
            (image,) = self._corpus.read(np.array([index]))
            self._found[index] = str(colours(fitted(image, COLOUR_SIZE)[None])[0])
        return self._found[index]
