"""Draws pictures in worker processes and keeps them in files of limited size, so that a stopped
build goes on. A picture that ends the process which draws it is broken, and the next one is drawn.
"""

from __future__ import annotations

import hashlib
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import pyarrow as pa

from unclip.data.manifest import MANIFEST
from unclip.data.prepare.captions import Judged, judge
from unclip.data.prepare.rules import STANDING, Rules
from unclip.data.rasterise import Drawn, Limits
from unclip.data.records import Drawing, dump_captions
from unclip.data.texts import extent
from unclip.errors import DataError
from unclip.processes import Contained, ContainedPool, Died, NotStarted, contained_pool, pop_finished_
from unclip.runtime import atomic_path

FINDING = pa.struct([("rule", pa.string()), ("caption", pa.string()), ("after", pa.string())])
STAGED = pa.schema(
    [
        *map(MANIFEST.field, ("key", "concept", "style", "source", "licence", "author", "tone")),
        *map(MANIFEST.field, ("names", "captions", "width", "vector")),
        ("reason", pa.string()),  # why it is not usable; null if it is
        ("detail", pa.string()),
        ("png", pa.binary()),
        ("preview", pa.binary()),  # a small PNG, for the report, of some that are not usable
        ("hash", pa.binary()),
        ("thumb", pa.binary()),  # uint8 (32, 32, 3)
        ("aspect", pa.float32()),
        ("pdq", pa.binary()),  # 8 hashes of 32 bytes
        ("quality", pa.int16()),  # of the hash
        ("letters", pa.int32()),  # of the longest caption
        ("findings", pa.list_(FINDING)),  # what the rules did to captions
        ("svg", pa.string()),
        ("fit", pa.string()),
        ("digest", pa.binary()),  # of all that goes in
    ]
)
MEMORY = 3 * 2**29  # bytes of addresses of a drawing process: 50 megapixels take 0.9 GiB
SVG_SECONDS, BITMAP_SECONDS = 10, 30  # of processor time for a picture; 50 megapixels take 4
CHUNK_BYTES, HELD_BYTES = 2**25, 2**26  # of pictures not drawn yet: in a file's worth, and in all
SHOWN = 4  # pictures a file's worth, and a reason, that are drawn though their captions drop them
STAGED_BYTES = 2**25  # of drawn pixels in a file's worth


class DrawingPool(Protocol):
    """Processes that draw, wherever they are.

    Attributes:
        workers: how many.
        held_bytes: of pictures that are not drawn yet, that may be with them or wait.
    """

    @property
    def workers(self) -> int: ...

    @property
    def held_bytes(self) -> int: ...

    def submit(self, drawings: list[Drawing], path: Path, size: int, rules: Rules) -> Future[None]:
        """Has `drawn` work on pictures and its result written to `path`, which appears when it is whole."""


@dataclass(frozen=True)
class LocalPool:
    """Processes of this machine."""

    contained: ContainedPool
    held_bytes: int = HELD_BYTES

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.contained.workers

    def submit(self, drawings: list[Drawing], path: Path, size: int, rules: Rules) -> Future[None]:
        """See `DrawingPool`."""
        return self.contained.executor.submit(draw_chunk, drawings, path, size, self.contained.free, rules)


DRAWS = "unclip.data.rasterise:draw", MEMORY  # of a `processes.Contained`


@contextmanager
def drawing_pool(workers: int) -> Iterator[LocalPool]:
    """A pool of processes that draw. Files appear only when they are whole, so nothing half-written stays."""
    with contained_pool(*DRAWS, workers) as pool:
        yield LocalPool(pool)


def stage(
    drawings: Iterable[Drawing],
    folder: Path,
    name: str,
    size: int,
    pool: DrawingPool,
    most: int,
    rules: Rules = STANDING,
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
        while running and (len(running) > pool.workers or sum(weights.values()) + weight > pool.held_bytes):
            yield from _drawn(running, weights)
        weights[path] = weight
        running[pool.submit(part, path, size, rules)] = (path, len(part))
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


class Killed(Exception):
    """A drawing process was killed from outside, while it drew the picture `key`: its drawing may take the
    memory.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key.encode()


def draw_chunk(
    drawings: list[Drawing],
    path: Path,
    size: int,
    painters: SimpleQueue[Contained],
    rules: Rules = STANDING,
) -> None:
    """Has pictures `drawn` by one of some processes, and writes a file, which appears when it is whole.

    Raises:
        DataError: a drawing process cannot start, or was killed from outside.
    """
    painter = painters.get()
    try:
        write_drawn(path, lambda suspect: drawn(drawings, size, painter, rules, suspect))
    finally:
        painters.put(painter)


def write_drawn(path: Path, work: Callable[[bytes], bytes]) -> None:
    """Writes the result of `drawn` to a file, which appears when it is whole.

    `work` is told the key of the picture that was drawn when the process was killed the last time: it gives
    that picture up if it happens again.

    Raises:
        DataError: the drawing process was killed; the next build notices.
    """
    killed = path.with_suffix(".killed")
    try:
        content = work(killed.read_bytes() if killed.exists() else b"")
    except Killed as death:
        killed.write_bytes(death.key)
        raise DataError("a drawing process was killed: run the same command again to go on") from None
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def drawn(
    drawings: list[Drawing], size: int, painter: Contained, rules: Rules = STANDING, suspect: bytes = b""
) -> bytes:
    """Judges captions and draws pictures; returns an Arrow file of rows as of `STAGED`.

    What is in it depends on the arguments alone, wherever it is made.

    Args:
        drawings: the pictures.
        size: pixels of a side.
        painter: draws.
        rules: those that are on.
        suspect: the key of a picture that is given up if the process is killed while it is drawn.

    Raises:
        DataError: the drawing process cannot start.
        Killed: it was killed from outside.
    """
    rows = []
    shown = Counter[str]()  # of what the rules of captions drop
    try:
        for drawing in drawings:
            judged = judge(drawing, rules) if rules.judges_captions else Judged(drawing)
            digest = digest_of(drawing)
            if judged.reason:
                shown[judged.reason] += 1
                if shown[judged.reason] > SHOWN:
                    rows.append(_row(judged, Drawn(judged.reason, judged.detail)) | {"digest": digest})
                    continue
            drawing = judged.drawing
            try:
                rows.append(draw(judged, size, painter, rules.limits) | {"digest": digest})
            except Died as death:
                if death.signal in (signal.SIGKILL, signal.SIGTERM) and drawing.key.encode() != suspect:
                    raise Killed(drawing.key) from None
                rows.append(_row(judged, _broken(death.signal)) | {"digest": digest})
    except NotStarted as error:
        raise DataError(f"a drawing process cannot start: {error}") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, STAGED) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=STAGED))
    return sink.getvalue().to_pybytes()


def digest_of(drawing: Drawing) -> bytes:
    """16 bytes that change with anything of a picture that is not drawn yet."""
    content = drawing.content
    digest = hashlib.blake2b(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"), digest_size=16
    )
    about = (drawing.key, drawing.source, drawing.style, drawing.concept, drawing.licence, drawing.author)
    said = (*about, drawing.tone, drawing.fit.value, dump_captions(drawing.captions), *drawing.names)
    digest.update(repr(said).encode("utf-8", "backslashreplace"))
    return digest.digest()


def _broken(ended: int) -> Drawn:
    if ended == signal.SIGXCPU:
        return Drawn("too slow", "it takes more than its share of processor time")
    by = f" ({signal.Signals(ended).name})" if ended else ""
    return Drawn("broken", f"to draw it ends the process{by}")


def draw(judged: Judged, size: int, painter: Contained, limits: Limits) -> dict[str, object]:
    """One row of `STAGED`: the picture, or the reason why there is none. Raises Died as the painter does.

    Of a picture that is dropped for its captions there is a preview.
    """
    drawing = judged.drawing
    if not drawing.concept or not any(drawing.captions.values()):
        return _row(judged, Drawn("unusable caption", "it has no words"))
    seconds = BITMAP_SECONDS if drawing.svg is None else SVG_SECONDS
    drawn = painter(drawing.content, size, drawing.fit, limits, seconds=seconds)
    if judged.reason:
        drawn = Drawn(
            judged.reason,
            judged.detail,
            width=drawn.width,
            aspect=drawn.aspect,
            preview=drawn.png or drawn.preview,
        )
    return _row(judged, drawn)


def _row(judged: Judged, drawn: Drawn) -> dict[str, object]:
    drawing = judged.drawing
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
        "letters": judged.letters,
        "findings": [vars(finding) for finding in judged.findings],
        **vars(drawn),
    }


def open_staged(paths: Iterable[Path]) -> pa.Table:
    """The pictures of the given files, ordered by name, as one table whose bytes stay on disk."""
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in sorted(paths)]
    return pa.concat_tables([STAGED.empty_table(), *tables])
