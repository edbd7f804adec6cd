"""Draws pictures in worker processes and keeps them in files of limited size, so that a stopped
build goes on. A picture that ends the process which draws it is broken, and the next one is drawn.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from queue import SimpleQueue

import pyarrow as pa

from unclip.data.rasterise import Drawn
from unclip.data.records import MANIFEST, Drawing, dump_captions
from unclip.data.texts import extent
from unclip.errors import DataError
from unclip.processes import Contained, ContainedPool, Died, NotStarted, contained_pool, pop_finished_
from unclip.runtime import atomic_path

STAGED = pa.schema(
    [
        *map(MANIFEST.field, ("key", "concept", "style", "source", "licence", "author", "tone")),
        *map(MANIFEST.field, ("names", "captions", "width", "vector")),
        ("reason", pa.string()),  # why it is not usable; null if it is
        ("detail", pa.string()),
        ("png", pa.binary()),
        ("hash", pa.binary()),
        ("thumb", pa.binary()),  # uint8 (32, 32, 3)
        ("svg", pa.string()),
        ("fit", pa.string()),
    ]
)
MEMORY = 3 * 2**29  # bytes of addresses of a drawing process: 50 megapixels take 0.9 GiB
SVG_SECONDS, BITMAP_SECONDS = 10, 30  # of processor time for a picture; 50 megapixels take 4
CHUNK_BYTES, HELD_BYTES = 2**25, 2**26  # of pictures not drawn yet: in a file's worth, and in all
STAGED_BYTES = 2**25  # of drawn pixels in a file's worth


def drawing_pool(workers: int) -> AbstractContextManager[ContainedPool]:
    """A pool of processes that draw. Files appear only when they are whole, so nothing half-written stays."""
    return contained_pool("unclip.data.rasterise:draw", MEMORY, workers)


def stage(
    drawings: Iterable[Drawing], folder: Path, name: str, size: int, pool: ContainedPool, most: int
) -> Iterator[tuple[Path, int]]:
    """Draws into `folder/NAME-00000.arrow` and so on, `most` pictures or 32 MiB each; yields (file, pictures
    in it).

    A file of an earlier, stopped build is taken as it is if it holds the same pictures. The files' names
    are in the order of the drawings, though they may be yielded in another.
    """
    running: dict[Future[None], tuple[Path, int]] = {}
    weights: dict[Path, int] = {}
    most = max(1, min(most, STAGED_BYTES // (3 * size * size)))
    for number, (part, weight) in enumerate(_chunks(drawings, most)):
        path = folder / f"{name}-{number:05d}.arrow"
        if path.exists() and _keys(path) == [drawing.key for drawing in part]:
            yield path, len(part)
            continue
        while running and (len(running) > pool.workers or sum(weights.values()) + weight > HELD_BYTES):
            yield from _drawn(running, weights)
        weights[path] = weight
        running[pool.executor.submit(draw_chunk, part, path, size, pool.free)] = (path, len(part))
    while running:
        yield from _drawn(running, weights)


def _drawn(
    running: dict[Future[None], tuple[Path, int]], weights: dict[Path, int]
) -> Iterator[tuple[Path, int]]:
    for (path, count), _ in pop_finished_(running):
        del weights[path]
        yield path, count


def _chunks(drawings: Iterable[Drawing], most: int) -> Iterator[tuple[list[Drawing], int]]:
    """(pictures, their bytes): so many pictures, or fewer that are large."""
    part: list[Drawing] = []
    weight = 0
    for drawing in drawings:
        part.append(drawing)
        weight += len(drawing.content) + extent(dict(drawing.captions)) + extent(drawing.names)
        if len(part) >= most or weight >= CHUNK_BYTES:
            yield part, weight
            part, weight = [], 0
    if part:
        yield part, weight


def _keys(path: Path) -> list[str]:
    return open_staged([path])["key"].to_pylist()


def draw_chunk(drawings: list[Drawing], path: Path, size: int, painters: SimpleQueue[Contained]) -> None:
    """Draws pictures and writes them to one Arrow file, which appears only when it is whole.

    Raises:
        DataError: a drawing process cannot start, or was killed from outside. The next build notices the
            picture that was drawn when it was killed, and gives it up if it happens again: its drawing may
            take the memory.
    """
    killed = path.with_suffix(".killed")
    suspect = killed.read_bytes() if killed.exists() else b""
    painter = painters.get()
    rows = []
    try:
        for drawing in drawings:
            try:
                rows.append(draw(drawing, size, painter))
            except Died as death:
                key = drawing.key.encode()
                if death.signal in (signal.SIGKILL, signal.SIGTERM) and key != suspect:
                    killed.write_bytes(key)
                    raise DataError(
                        "a drawing process was killed: run the same command again to go on"
                    ) from None
                rows.append(_row(drawing, _broken(death.signal)))
    except NotStarted as error:
        raise DataError(f"a drawing process cannot start: {error}") from error
    finally:
        painters.put(painter)
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, STAGED) as writer,
    ):
        writer.write_table(pa.Table.from_pylist(rows, schema=STAGED))


def _broken(ended: int) -> Drawn:
    if ended == signal.SIGXCPU:
        return Drawn("too slow", "it takes more than its share of processor time")
    by = f" ({signal.Signals(ended).name})" if ended else ""
    return Drawn("broken", f"to draw it ends the process{by}")


def draw(drawing: Drawing, size: int, painter: Contained) -> dict[str, object]:
    """One row of `STAGED`: the picture, or the reason why there is none. Raises Died as the painter does."""
    if not drawing.concept or not any(drawing.captions.values()):
        return _row(drawing, Drawn("unusable caption", "it has no words"))
    seconds = BITMAP_SECONDS if drawing.svg is None else SVG_SECONDS
    return _row(drawing, painter(drawing.content, size, drawing.fit, seconds=seconds))


def _row(drawing: Drawing, drawn: Drawn) -> dict[str, object]:
    return {
        "key": drawing.key,
        "concept": drawing.concept,
        "style": drawing.style,
        "source": drawing.source,
        "licence": drawing.licence,
        "author": drawing.author,
        "tone": drawing.tone,
        "names": list(drawing.names),
        "captions": dump_captions(drawing.captions),
        "vector": drawing.svg is not None,
        "svg": drawing.svg if drawn.reason is None else None,
        "fit": drawing.fit.value,
        **vars(drawn),
    }


def open_staged(paths: Iterable[Path]) -> pa.Table:
    """The pictures of the given files, ordered by name, as one table whose bytes stay on disk."""
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(paths)]
    return pa.concat_tables([STAGED.empty_table(), *tables])
