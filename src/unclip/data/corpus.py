"""Opens a corpus: its records, its pictures as arrays, its captions and its sampling weights."""

from __future__ import annotations

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from unclip.data import captions as captioning
from unclip.data.captions import Described
from unclip.data.colours import colours
from unclip.data.order import Order
from unclip.data.packed import PackedManifest
from unclip.data.records import (
    CACHE,
    FACES,
    GROUPS,
    MANIFEST_FILE,
    PACKED_FILE,
    SCENES,
    WEIGHT,
    Split,
    load_captions,
)
from unclip.errors import DataError, InputError
from unclip.runtime import atomic_path, folder_lock, reserve, write_failure

if TYPE_CHECKING:
    import pyarrow as pa

COLOUR_SIZE = 64  # of the pictures that colours are looked for in
COLOURLESS_STYLES = (
    "line art",
    "silhouette",
    "black and white clip art",
    "openmoji line",
)  # black, whatever the thing
PLACES = (
    "shard",
    "offset",
    "size",
    "large_shard",
    "large_offset",
    "large_size",
)  # columns: where pictures lie
CHECKSUMS = 24  # bytes at the end of a PNG: of zlib's data, of the chunk, and the last, empty one
EVERYTHING = "all"  # in place of a split's name: all of them


class Manifest(Protocol):
    """The rows of a corpus's manifest: as Parquet (`TableManifest`), or packed (`PackedManifest`)."""

    names: list[str]

    def __len__(self) -> int: ...

    def column(self, name: str) -> list[Any]: ...

    def row(self, index: int) -> dict[str, Any]: ...

    def captions(self) -> tuple[list[str], np.ndarray]: ...


def _manifest(folder: Path, split: str | None) -> Manifest:
    if (packed := folder / PACKED_FILE).is_file():
        return PackedManifest(packed, split)
    if not (file := folder / MANIFEST_FILE).is_file():
        raise DataError(
            f"{folder} is no corpus (it has no {MANIFEST_FILE}): make one with "
            f"`unclip data pictograms {folder}` or `unclip data prepare PICTURES {folder}`"
        )
    from unclip.data.manifest import TableManifest  # a packed corpus is read where there is no pyarrow

    return TableManifest(file, split)


class Corpus:
    """One split of a corpus, or with `EVERYTHING` all of them, pictures in the order of the manifest.

    The folder is as `unclip data` makes it, or as `data.packing` packs it.

    Raises:
        DataError: the folder is no corpus, or its manifest is of another kind.
        InputError: there is no such split.
    """

    streams = False  # its pictures are fetched from elsewhere

    def __init__(self, folder: Path | str, split: Split | str = Split.TRAIN) -> None:
        self.folder = Path(folder)
        if split not in (*Split, EVERYTHING):
            raise InputError(f"unknown split {str(split)!r}: choose {', '.join(Split)} or {EVERYTHING}")
        self.split = str(split)
        self.manifest = _manifest(self.folder, None if split == EVERYTHING else self.split)
        texts, self._caption_index = self.manifest.captions()
        self._captions = [load_captions(text) for text in texts]
        self._names: list[list[str]] = self.column("names")
        self._styles: list[str] = self.column("style")
        self._sources: list[str] = self.column("source")
        self._described: dict[int, Described] = {}

    @property
    def where(self) -> str:
        """The folder or the address of the corpus, for messages."""
        return str(self.folder)

    def of(self, split: Split | str) -> Corpus:
        """Another split of the same corpus. Raises InputError as the class does."""
        return Corpus(self.folder, split)

    def file(self, name: str) -> Path:
        """A file that lies beside the manifest, whether there is one or not."""
        return self.folder / name

    def order(self, weights: np.ndarray) -> Order | None:
        """The order in which to draw pictures by weights (N,); None where any may be drawn at any time."""
        return None

    @property
    def records(self) -> pa.Table:
        """The split's part of the manifest (columns as in `manifest.MANIFEST`).

        Raises DataError for a packed corpus, which has no table.
        """
        from unclip.data.manifest import TableManifest

        if not isinstance(self.manifest, TableManifest):
            raise DataError(f"{self.folder} is a packed corpus, to train on: name the corpus itself")
        return self.manifest.table

    def __len__(self) -> int:
        return len(self.manifest)

    def check_files(self) -> None:
        """Refuse a corpus whose files are not all there. Raises DataError."""
        for shard, end in self._ends().items():
            path = self.folder / shard
            if not path.is_file() or path.stat().st_size < end:
                raise DataError(f"{path} is damaged or missing: build the corpus anew")

    def check_room(self, lanes: int, batch: int, processes: int) -> None:
        """Refuse a cache that is too small to train from; a corpus in a folder needs none."""

    def _ends(self) -> dict[str, int]:
        """The byte at which the last picture of each shard ends."""
        ends: dict[str, int] = {}
        for name in ("", "large_"):
            columns = (self.column(f"{name}{column}") for column in ("shard", "offset", "size"))
            for shard, offset, size in zip(*columns, strict=True):
                if shard:
                    ends[shard] = max(ends.get(shard, 0), offset + size)
        return ends

    @cached_property
    def fingerprint(self) -> str:
        """64 digits that change with any picture, caption or split of the corpus, or with their order.

        Of the pictures it is made from the ends of their PNG files, where the checksums stand.
        """
        whole = self if self.split == EVERYTHING else self.of(EVERYTHING)
        digest = hashlib.sha256()
        for name in whole.manifest.names:
            if name not in PLACES:
                digest.update(repr(whole.column(name)).encode())
        places = zip(*(whole.column(name) for name in ("shard", "offset", "size")), strict=True)
        for shard, rows in groupby(places, itemgetter(0)):
            try:
                with (self.folder / shard).open("rb") as file:
                    for _, offset, size in rows:
                        file.seek(offset + max(0, size - CHECKSUMS))
                        digest.update(file.read(min(size, CHECKSUMS)))
            except OSError as error:
                raise DataError(
                    f"{self.folder / shard} is damaged or missing: build the corpus anew"
                ) from error
        return digest.hexdigest()

    def captions(self, index: int) -> dict[str, list[str]]:
        """language -> [name, tag, ...] of one picture."""
        return self._captions[self._caption_index[index]]

    def describe(self, index: int) -> Described:
        """The material of the captions of one picture."""
        if index not in self._described:
            self._described[index] = Described(self.captions(index), self._styles[index], self._names[index])
        return self._described[index]

    def caption(
        self,
        index: int,
        random: Random,
        languages: Mapping[str, float] = captioning.LANGUAGES,
        colours: float = 0.0,
        tags_as_names: float = 0.0,
        temperature: float = 1.0,
    ) -> str:
        """A training caption, different each time.

        Args:
            index: of the picture.
            random: decides everything.
            languages: shares such as {"en": .55, "other": .05}.
            colours: share of captions that say the picture's colour, where it has one.
            tags_as_names: share of captions that call the thing by one of its tags.
            temperature: of the languages' shares, see `captions.caption`.
        """
        said = colours and random.random() < colours and self._styles[index] not in COLOURLESS_STYLES
        said = said and self._sources[index] not in (
            SCENES,
            FACES,
        )  # theirs is of several things, or said already
        colour = str(self.colours[index]) if said else ""
        return captioning.caption(self.describe(index), random, languages, colour, tags_as_names, temperature)

    @cached_property
    def colours(self) -> np.ndarray:
        """The colour of each picture on the whole, str (N,), `colours.NONE` where none stands out.

        Looked for in the pictures once and kept in the folder's `cache`.
        """
        path = self._cache("colours")
        if not path.exists():
            pixels = self.pixels(COLOUR_SIZE)
            with self._caching(path), atomic_path(path) as temporary:
                np.save(temporary, colours(pixels))
        return np.load(path)

    def names(self, index: int, language: str = "en") -> list[str]:
        """The names, without tags and style, of one picture; empty where the language has none."""
        return captioning.names(self.captions(index), language)

    def name(self, index: int, language: str = "en") -> str:
        """One name of a picture; where the language has none an English one, or one in any language."""
        spoken = (language, "en", *self.captions(index))
        return next((found[0] for code in spoken if (found := self.names(index, code))), "")

    def column(self, name: str) -> list[Any]:
        """One column of the manifest, by picture."""
        return self.manifest.column(name)

    def image(self, index: int) -> Image.Image:
        """One picture at its stored size."""
        row = self.manifest.row(index)
        return self._read(row["shard"], row["offset"], row["size"])

    def at_least(self, side: int) -> np.ndarray:
        """int64 (M,): the positions of pictures whose source has `side` pixels: vector drawings and large
        bitmaps.
        """
        widths = np.array(self.column("width"), np.int64)
        return np.flatnonzero(np.array(self.column("vector"), bool) | (widths >= side))

    def large(self) -> np.ndarray:
        """int64 (M,): the positions of pictures that are also there at 1024 px."""
        return np.flatnonzero(np.array(self.column("large"), bool))

    def large_image(self, index: int) -> Image.Image:
        """One picture at 1024 px; `large()` says which have one."""
        row = self.manifest.row(index)
        if not row["large"]:
            raise InputError(f"picture {index} has no large rendering: large() lists those that have")
        return self._read(row["large_shard"], row["large_offset"], row["large_size"])

    def pixels(self, size: int) -> np.ndarray:
        """All pictures, uint8 (N, size, size, 3), as a memory map that is built once into the folder's
        `cache`.
        """
        if not len(self):
            return np.zeros((0, size, size, 3), np.uint8)
        path = self._cache(str(size))
        if not path.exists():
            with self._caching(path):
                if not path.exists():  # another process may have built it while this one waited
                    self._build_pixels(path, size)
        return np.load(path, mmap_mode="r")

    @contextmanager
    def _caching(self, path: Path) -> Iterator[None]:
        """While it lasts this process alone writes into the cache; others wait."""
        try:
            with folder_lock(path.parent, None):
                yield
        except OSError as error:
            raise DataError(
                f"cannot write {path} ({write_failure(error, path.parent)}): make room, or make the folder "
                "writable, and start the same command again"
            ) from error

    def _cache(self, what: str) -> Path:
        """The file for what was worked out of the pictures of this split; other pictures, other name."""
        places = zip(*(self.column(name) for name in ("key", "shard", "offset", "size")), strict=True)
        digest = hashlib.blake2b(repr(list(places)).encode(), digest_size=6).hexdigest()
        return self.folder / CACHE / f"{self.split}-{what}-{digest}.npy"

    def weights(
        self,
        source_weights: Mapping[str, float] | None = None,
        kind_weights: Mapping[str, float] | None = None,
        shares: Mapping[str, float] | None = None,
    ) -> np.ndarray:
        """Shares in which to draw the pictures, float64 (N,), sum 1.

        Pictures of the same concept and style share one weight, so that the five skin tones of a thing do
        not outweigh another thing, times the weights that a preparation gave (`data.prepare.reweighting`);
        `source_weights` multiplies by source, `kind_weights` by an emoji's group
        and its subgroup (1 where they name none); a source in `shares` makes up that share of all. Names of
        another corpus, of which this one has none, change
        nothing.

        Raises:
            InputError: a factor is below 0, no picture has a weight, or a source or a kind is named that the
                corpus does not have, among others that it has.
        """
        sources = self.column("source")
        groups, subgroups = (self.column(name) for name in GROUPS)
        by_source = _factors("source", source_weights, set(sources))
        by_kind = _factors("kind", kind_weights, {*groups, *subgroups} - {""})
        pairs = list(zip(self.column("concept"), self._styles, strict=True))
        counts = Counter(pairs)
        weights = np.array(
            [by_source.get(source, 1.0) / counts[pair] for source, pair in zip(sources, pairs, strict=True)]
        )
        for kinds in (groups, subgroups):
            weights *= [by_kind.get(kind, 1.0) for kind in kinds]
        if WEIGHT in self.manifest.names:
            weights *= np.array(self.column(WEIGHT), np.float64)
        if len(self) and not 0 < weights.sum() < np.inf:
            raise InputError(f"these factors leave no picture to draw: {source_weights}, {kind_weights}")
        return _with_shares(weights, np.array(sources), _factors("source", shares, set(sources)))

    def _read(self, shard: str, offset: int, size: int) -> Image.Image:
        try:
            with (self.folder / shard).open("rb") as file:
                file.seek(offset)
                image = Image.open(io.BytesIO(file.read(size)))
                image.load()
        except OSError as error:
            raise DataError(
                f"{self.folder / shard} is damaged or missing ({error}): build the corpus anew"
            ) from error
        return image

    def _build_pixels(self, path: Path, size: int) -> None:
        if isinstance(self.manifest, PackedManifest) and size > self.manifest.side:
            raise InputError(
                f"{self.folder} is packed at {self.manifest.side} px: its pictures cannot be had at {size} px"
            )
        rows = list(zip(*(self.column(name) for name in ("shard", "offset", "size")), strict=True))
        with atomic_path(path) as temporary:
            shape = (len(self), size, size, 3)
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            reserve(temporary)
            pixels = np.load(temporary, mmap_mode="r+")
            for index, place in enumerate(rows):
                pixels[index] = fitted(self._read(*place), size)
                if index % 500 == 0 and sys.stderr.isatty():
                    print(
                        f"\rcaching {self.split} at {size} px: {index:,} of {len(self):,}",
                        end="",
                        file=sys.stderr,
                    )
            pixels.flush()
        if sys.stderr.isatty():
            print(file=sys.stderr)


def fitted(image: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8 of a square picture."""
    image = image.convert("RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS)  # antialiased
    return np.asarray(image)


def _with_shares(weights: np.ndarray, sources: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    """Weights (N,) of sum 1 in which sources have the shares of the whole that are given."""
    rest, taken = weights.copy(), 0.0
    given = np.zeros_like(weights)
    for source, share in shares.items():
        own = sources == source
        if weights[own].sum() > 0:
            given[own] = share * weights[own] / weights[own].sum()
            taken += share
        rest[own] = 0
    if rest.sum() > 0:
        given += (1 - taken) * rest / rest.sum()
    return given / given.sum()


def _factors(what: str, given: Mapping[str, float] | None, known: set[str]) -> dict[str, float]:
    """`given`, unless some of its names are known and others are not: those are slips of the pen."""
    factors = dict(given or {})
    unknown = sorted(set(factors) - known)
    if unknown and len(unknown) < len(factors):
        raise InputError(f"unknown {what} {unknown[0]!r}: choose {', '.join(sorted(known))}")
    for name, factor in factors.items():
        if factor < 0:
            raise InputError(f"the factor of {what} {name!r} is {factor}: choose 0 or more")
    return factors
