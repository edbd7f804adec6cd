"""Draws pictures in worker processes and keeps them in files of a few hundred, so that a stopped build
goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from unclip.data.filters import THUMB
from unclip.data.rasterise import Unusable, draw_bitmap, draw_svg, png
from unclip.data.records import MANIFEST, Drawing, dump_captions
from unclip.errors import DataError
from unclip.processes import pool, pop_finished_
from unclip.runtime import atomic_path

STAGED = pa.schema(
    [
        *map(MANIFEST.field, ("key", "concept", "style", "source", "licence", "author", "tone")),
        *map(MANIFEST.field, ("names", "captions", "width", "vector")),
        ("reason", pa.string()),  # why it is not usable; null if it is
        ("png", pa.binary()),
        ("hash", pa.binary()),
        ("thumb", pa.binary()),  # uint8 (32, 32, 3)
        ("svg", pa.string()),
        ("fit", pa.string()),
    ]
)


def stage(
    drawings: Iterable[Drawing], folder: Path, name: str, size: int, workers: int, chunk: int
) -> Iterator[tuple[Path, int]]:
    """Draws into `folder/NAME-00000.arrow` and so on, `chunk` pictures each; yields (file, pictures in it).

    A file of an earlier, stopped build is taken as it is if it holds the same pictures. The files' names
    are in the order of the drawings, though they may be yielded in another.
    """
    iterator = iter(drawings)
    chunks = iter(lambda: list(islice(iterator, chunk)), [])
    running: dict[Future[None], tuple[Path, int]] = {}
    with _pool(workers) as pool:
        for number, part in enumerate(chunks):
            path = folder / f"{name}-{number:05d}.arrow"
            if path.exists() and _keys(path) == [drawing.key for drawing in part]:
                yield path, len(part)
                continue
            running[pool.submit(draw_chunk, part, path, size)] = (path, len(part))
            if len(running) > 2 * workers:
                yield from (drawn for drawn, _ in pop_finished_(running))
        while running:
            yield from (drawn for drawn, _ in pop_finished_(running))


def _keys(path: Path) -> list[str]:
    return open_staged([path])["key"].to_pylist()


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Processes that draw; files appear only when they are whole, so nothing half-written stays."""
    try:
        with pool(workers) as executor:
            yield executor
    except BrokenProcessPool as error:
        raise DataError("a drawing process was killed: run the same command again to go on") from error


def draw_chunk(drawings: list[Drawing], path: Path, size: int) -> None:
    """Draws pictures and writes them to one Arrow file, which appears only when it is whole."""
    rows = [draw(drawing, size) for drawing in drawings]
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, STAGED) as writer,
    ):
        writer.write_table(pa.Table.from_pylist(rows, schema=STAGED))


def draw(drawing: Drawing, size: int) -> dict[str, object]:
    """One row of `STAGED`: the picture, or the reason why there is none."""
    row: dict[str, object] = {
        "key": drawing.key,
        "concept": drawing.concept,
        "style": drawing.style,
        "source": drawing.source,
        "licence": drawing.licence,
        "author": drawing.author,
        "tone": drawing.tone,
        "names": list(drawing.names),
        "captions": dump_captions(drawing.captions),
        "width": 0,
        "vector": drawing.svg is not None,
        "reason": None,
        "svg": drawing.svg,
        "fit": drawing.fit.value,
    }
    try:
        if not drawing.concept or not any(drawing.captions.values()):
            raise Unusable("unusable caption")
        if drawing.svg is not None:
            image = draw_svg(drawing.svg, size, drawing.fit)
        else:
            assert drawing.bitmap is not None
            image, row["width"] = draw_bitmap(drawing.bitmap, size, drawing.fit)
    except Unusable as error:
        return row | {"reason": error.reason, "svg": None}
    return row | {
        "png": png(image),
        "hash": hashlib.blake2b(image.tobytes(), digest_size=16).digest(),
        "thumb": np.asarray(image.resize((THUMB, THUMB))).tobytes(),
    }


def open_staged(paths: Iterable[Path]) -> pa.Table:
    """The pictures of the given files, ordered by name, as one table whose bytes stay on disk."""
    return pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(paths))
