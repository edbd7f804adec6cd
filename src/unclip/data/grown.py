"""A corpus whose sources have grown: what was read before is known, so that only what is new is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from unclip.data.draw_workers import STAGED, digest_of
from unclip.data.prepare.decide import Embedded
from unclip.data.records import Drawing, LeftOut
from unclip.runtime import atomic_path

FOLDER = "known"
NOT_KEPT = ("png", "preview", "svg")  # they are in the shards, or not used any more
SETTINGS = b"unclip.settings"
ROWS = 1024


class Known:
    """All that a corpus was made of, whether it was kept or dropped, but for the pictures themselves.

    Attributes:
        table: rows as of `draw_workers.STAGED`, with the reason why a picture was dropped.
        embedded: their embeddings, where there was a CLIP.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        paths = sorted(folder.glob("*.arrow"))
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
        empty = STAGED.empty_table()
        self.table: pa.Table = pa.concat_tables([empty, *map(_widened, tables)])
        self.parts = len(paths)
        self.embedded: Embedded | None = None
        kept = [path.with_suffix(".npz") for path in paths]
        if kept and all(path.exists() for path in kept):
            loaded = [np.load(path) for path in kept]
            self.embedded = Embedded(*(np.concatenate([one[name] for one in loaded]) for name in EMBEDDED))
        self._digests = set(self.table["digest"].to_pylist())
        self.gone = False

    @classmethod
    def open(cls, out: Path, settings: str, kept: int) -> Known | None:
        """The state of the corpus in `out`; None if it was made with other settings, or cannot be used.

        Args:
            out: the corpus.
            settings: stands for everything but the sources.
            kept: pictures in its manifest.
        """
        folder = out / FOLDER
        try:
            for path in folder.glob("*.arrow"):
                schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
                if (schema.metadata or {}).get(SETTINGS, b"").decode() != settings:
                    return None
            known = cls(folder)
        except (OSError, pa.ArrowException, ValueError):
            return None
        whole = known.table["reason"].null_count == kept and len(known._digests) == len(known.table)
        return known if whole and kept else None

    def new(self, drawings: Iterable[Drawing]) -> Iterator[Drawing]:
        """The drawings that are not known yet; afterwards `gone` says whether others are missing."""
        missing = set(self._digests)
        self.gone = True
        for drawing in drawings:
            digest = digest_of(drawing)
            if digest in self._digests:
                missing.discard(digest)
            else:
                yield drawing
        self.gone = bool(missing)


EMBEDDED = ("vectors", "scores")


def keep(
    folder: Path,
    table: pa.Table,
    dropped: Mapping[int, LeftOut],
    settings: str,
    *,
    first: int,
    part: int,
    embedded: Embedded | None,
) -> None:
    """Writes what is known from row `first` on as one more part.

    Args:
        folder: of the parts.
        table: rows as of `STAGED`.
        dropped: why pictures were dropped, by position.
        settings: stands for everything but the sources.
        first: the first row that is not known yet.
        part: how many parts there are already.
        embedded: embeddings of all rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part:05d}.arrow"
    if embedded is not None:
        with atomic_path(path.with_suffix(".npz")) as temporary:
            np.savez(temporary, vectors=embedded.vectors[first:], scores=embedded.scores[first:])
    schema = pa.schema([field for field in STAGED if field.name not in NOT_KEPT])
    schema = schema.with_metadata({SETTINGS: settings.encode()})
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for start in range(first, len(table), ROWS):
            rows = table.slice(start, ROWS).select(schema.names).to_pylist()
            for index, row in enumerate(rows, start):
                left = dropped.get(index)
                row["reason"], row["detail"] = (left.reason, left.detail) if left else (None, row["detail"])
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def forget(out: Path) -> None:
    """Removes what was known of a corpus that is made anew."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)


def _widened(table: pa.Table) -> pa.Table:
    there = set(table.column_names)
    columns = [
        table[field.name] if field.name in there else pa.nulls(len(table), field.type) for field in STAGED
    ]
    return pa.table(columns, STAGED)
