"""The index on disk: SQLite for files, pictures, vectors and thumbnails, in one file.

SQLite in WAL mode lets any number of readers work beside one writer, and what is committed survives a writer
that is killed. Vectors stand here too, in float16: the graph that `vectors` keeps for large indexes is made
from them and can be made again.

Files and pictures are two things: a file is a path, a picture is what the bytes of one or several files hold.
So a file that is renamed or copied costs no embedding.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from unclip.errors import InputError, SearchError
from unclip.images import Fitting
from unclip.runtime import check_writable

FOLDER = ".unclip-index"  # within the folder of pictures
DATABASE = "index.sqlite"
LOCK = "writer.sqlite"
PREPARED = "prepared"  # setting: how pictures were prepared for the CLIP, `manifest.Preprocessing.identity`
FORMAT = "1"
BUSY_SECONDS = 30.0  # that a commit waits for another connection's
SCHEMA = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
-- AUTOINCREMENT: a number that was used never means another picture, not even to an old graph
CREATE TABLE picture (
    id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, width INTEGER NOT NULL,
    height INTEGER NOT NULL, signature BLOB NOT NULL, taken TEXT
);
CREATE TABLE vector (picture INTEGER PRIMARY KEY REFERENCES picture ON DELETE CASCADE, half BLOB NOT NULL);
CREATE TABLE thumbnail (picture INTEGER PRIMARY KEY REFERENCES picture ON DELETE CASCADE, jpeg BLOB NOT NULL);
-- path: bytes, because names of files need not be text. reason: why there is no picture
CREATE TABLE file (
    path BLOB PRIMARY KEY, bytes INTEGER NOT NULL, changed INTEGER NOT NULL, date TEXT NOT NULL,
    picture INTEGER REFERENCES picture, reason TEXT
) WITHOUT ROWID;
CREATE INDEX file_of_picture ON file (picture);
CREATE TABLE background (text TEXT PRIMARY KEY, half BLOB NOT NULL);
"""


@dataclass(frozen=True)
class File:
    """A file of the folder. `path` is relative to it, `changed` in nanoseconds, `date` local ISO time."""

    path: str
    bytes: int
    changed: int
    date: str


@dataclass(frozen=True)
class Found:
    """A picture that is new to the index; `vector` is (E,), L2-normalised."""

    hash: bytes
    width: int
    height: int
    taken: str | None
    signature: bytes
    vector: np.ndarray
    thumbnail: bytes


@dataclass(frozen=True)
class Picture:
    """A picture of the index. `signature` is what `near` compares."""

    id: int
    width: int
    height: int
    signature: bytes


def find_index(folder: Path) -> Path:
    """The folder of an index: the one named, or the one within the named folder of pictures.

    Raises:
        SearchError: there is none.
    """
    for candidate in (folder / FOLDER, folder):
        if (candidate / DATABASE).is_file():
            return candidate
    raise SearchError(f"no index in {folder}: make one by `unclip index {folder}`")


class Store:
    """One connection to an index. Rows come in the order of their numbers or paths."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, str]) -> Self:
        """Open an index for writing; where there is none, an empty one with these settings is made.

        Raises:
            SearchError: the folder cannot be written, or holds something else.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            store = cls(folder, _connect(folder / DATABASE))
            with store.transaction():
                if not store._rows("SELECT 1 FROM sqlite_master WHERE name = 'setting'"):
                    for statement in SCHEMA.split(";"):
                        store._connection.execute(statement)
                    for name, value in {**settings, "format": FORMAT}.items():
                        store.set(name, value)
        except (OSError, sqlite3.Error) as error:
            raise SearchError(
                f"cannot write the index {folder} ({error}): choose another place by --out"
            ) from error
        store._check_format()
        return store

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an index for reading. Raises SearchError where it is damaged or of another version."""
        try:
            connection = _connect_to_read(folder / DATABASE)
        except sqlite3.Error as error:
            raise SearchError(f"cannot read the index {folder}: {error}") from error
        store = cls(folder, connection)
        try:
            store._check_format()
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise SearchError(f"cannot read the index {folder}: {error}") from error
            raise
        return store

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written within together, or nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk ends it by itself
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Hold all that is read within to one moment, whatever is committed meanwhile."""
        self._connection.execute("BEGIN")
        try:
            self._rows("SELECT 1 FROM setting")  # the moment is that of the first reading
            yield
        finally:
            self._connection.execute("COMMIT")

    @property
    def version(self) -> int:
        """A number that changes when another connection commits."""
        return int(self._rows("PRAGMA data_version")[0][0])

    # --- settings ---

    def settings(self) -> dict[str, str]:
        return dict(self._rows("SELECT name, value FROM setting"))

    def set(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))

    # --- files ---

    def files(self) -> Iterator[tuple[File, str | None]]:
        """Each file, and the reason if it has no picture."""
        query = "SELECT path, bytes, changed, date, reason FROM file"
        for path, length, changed, date, reason in self._connection.execute(query):
            yield File(os.fsdecode(path), length, changed, date), reason

    def files_of(
        self, pictures: Sequence[int], where: str, values: Sequence[Any]
    ) -> dict[int, list[tuple[File, str]]]:
        """By number of the picture the files that a condition allows, and the date that counts for each."""
        found: dict[int, list[tuple[File, str]]] = {}
        for part in _parts(pictures):
            query = (
                "SELECT picture, path, bytes, changed, date, coalesce(taken, date) FROM file JOIN picture "
                f"ON picture.id = file.picture WHERE picture IN ({_marks(part)}) AND {where} ORDER BY path"
            )
            for picture, path, length, changed, date, counts in self._rows(query, (*part, *values)):
                found.setdefault(picture, []).append((File(os.fsdecode(path), length, changed, date), counts))
        return found

    def hashes_by_length(self) -> dict[int, list[bytes]]:
        """The hashes of pictures by the length of their files in bytes."""
        found: dict[int, list[bytes]] = {}
        query = "SELECT DISTINCT bytes, hash FROM file JOIN picture ON picture.id = file.picture"
        for length, digest in self._connection.execute(query):
            found.setdefault(length, []).append(digest)
        return found

    def put(self, file: File, digest: bytes | None, reason: str | None = None) -> None:
        """Enter a file with the picture of a hash, which must be there, or with the reason why not."""
        picture = self._rows("SELECT id FROM picture WHERE hash = ?", (digest,))[0][0] if digest else None
        values = (os.fsencode(file.path), file.bytes, file.changed, file.date, picture, reason)
        self._connection.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)", values)

    def forget(self, paths: Iterable[str]) -> None:
        """Remove files that are gone."""
        self._connection.executemany("DELETE FROM file WHERE path = ?", ((os.fsencode(p),) for p in paths))

    # --- pictures ---

    def add(self, found: Found) -> None:
        """Enter a picture, unless one of its hash is there."""
        cursor = self._connection.execute(
            "INSERT OR IGNORE INTO picture (hash, width, height, signature, taken) VALUES (?, ?, ?, ?, ?)",
            (found.hash, found.width, found.height, found.signature, found.taken),
        )
        if cursor.rowcount:
            half = found.vector.astype(np.float16).tobytes()
            self._connection.execute("INSERT INTO vector VALUES (?, ?)", (cursor.lastrowid, half))
            self._connection.execute(
                "INSERT INTO thumbnail VALUES (?, ?)", (cursor.lastrowid, found.thumbnail)
            )

    def clear(self) -> None:
        """Remove all files and pictures, to be read again."""
        self._connection.execute("DELETE FROM file")
        self.drop_orphans()

    def drop_orphans(self) -> int:
        """Remove pictures that no file holds any more; returns how many."""
        query = "DELETE FROM picture WHERE NOT EXISTS (SELECT 1 FROM file WHERE file.picture = picture.id)"
        return self._connection.execute(query).rowcount

    def ids(self, where: str, values: Sequence[Any]) -> np.ndarray:
        """Numbers of the pictures of which a file fulfils a condition, int64 (N,), rising."""
        query = (
            "SELECT DISTINCT picture.id FROM picture JOIN file ON file.picture = picture.id "
            f"WHERE {where} ORDER BY 1"
        )
        return np.array(self._rows(query, values), np.int64).reshape(-1)

    def pictures(self, ids: Sequence[int]) -> dict[int, Picture]:
        """Pictures by their number; those that are gone are not among them."""
        found = {}
        for part in _parts(ids):
            query = f"SELECT id, width, height, signature FROM picture WHERE id IN ({_marks(part)})"
            found.update({row[0]: Picture(*row) for row in self._rows(query, part)})
        return found

    # --- texts that queries are compared with ---

    def background(self) -> tuple[list[str], np.ndarray]:
        """The texts and their vectors, float16 (N, E)."""
        rows = self._rows("SELECT text, half FROM background ORDER BY text")
        return [row[0] for row in rows], _halves([row[1] for row in rows])

    def set_background(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Replace them; vectors are (N, E)."""
        self._connection.execute("DELETE FROM background")
        halves = (vector.astype(np.float16).tobytes() for vector in vectors)
        self._connection.executemany("INSERT INTO background VALUES (?, ?)", zip(texts, halves, strict=True))

    def thumbnail(self, picture: int) -> bytes | None:
        """The JPEG of a picture, if it is still there."""
        rows = self._rows("SELECT jpeg FROM thumbnail WHERE picture = ?", (picture,))
        return rows[0][0] if rows else None

    def numbers(self) -> np.ndarray:
        """Numbers of all pictures, int64 (N,), rising."""
        return np.fromiter(
            (row[0] for row in self._connection.execute("SELECT id FROM picture ORDER BY id")), np.int64
        )

    def vectors(self, after: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Numbers above `after`, int64 (N,), and their vectors, float16 (N, E)."""
        query = "SELECT picture, half FROM vector WHERE picture > ? ORDER BY picture"
        return _matrix(self._connection.execute(query, (after,)))

    def vectors_of(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The same for some numbers, of those that are still there."""
        rows: list[tuple[int, bytes]] = []
        for part in _parts(ids):
            query = f"SELECT picture, half FROM vector WHERE picture IN ({_marks(part)}) ORDER BY picture"
            rows += self._rows(query, part)
        return _matrix(rows)

    def counts(self) -> tuple[int, int, int]:
        """Numbers of pictures, of files that hold one, and of files that were skipped."""
        pictures = self._rows("SELECT count(*) FROM picture")[0][0]
        files, all_files = self._rows("SELECT count(picture), count(*) FROM file")[0]
        return pictures, files, all_files - files

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    def _check_format(self) -> None:
        found = self.settings().get("format")
        if found != FORMAT:
            raise SearchError(
                f"{self.folder} is an index of format {found}, this version reads {FORMAT}: make it again"
            )


def is_of_before(settings: Mapping[str, str], name: str, fit: Fitting) -> bool:
    """True where an index was made with the CLIP of this name when every CLIP rounded its crop down.

    Such an index does not record the preparation of its pictures. With "crop" they were cut a pixel beside
    the middle.
    """
    return PREPARED not in settings and settings["name"] == name and fit == "crop"


def index_of(folder: Path, out: Path | None = None) -> Path:
    """Where the index of a folder of pictures is written to: `out`, or within the folder.

    Raises:
        InputError: there is no such folder, or no index can be written there.
    """
    if not folder.is_dir():
        raise InputError(f"no such folder: {folder}")
    place = out or folder / FOLDER
    check_writable(place, "choose another place by --out")
    return place.resolve()


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Held by the one process that writes; the system takes it from a process that is killed.

    Raises:
        SearchError: another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / LOCK, timeout=0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise SearchError(f"cannot write to {folder} ({error}): choose another place by --out") from error
    with contextlib.closing(connection):
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise SearchError(
                    f"another process writes the index {folder}: wait until it is done"
                ) from None
            raise SearchError(f"cannot write to {folder} ({error}): choose another place by --out") from error
        yield


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error:  # for example because the file is something else
        connection.close()
        raise
    connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last commits, not the index
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # A folder that cannot be written has no place for the files by which connections agree, and no writer.
    mode = "mode=ro" if os.access(path.parent, os.W_OK) else "immutable=1"
    uri = f"file:{quote(str(path.resolve()))}?{mode}"
    # Threads may share it: `Index` lets one at a time.
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _matrix(rows: Iterable[tuple[int, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    ids, halves = [], []
    for number, half in rows:
        ids.append(number)
        halves.append(half)
    return np.array(ids, np.int64), _halves(halves)


def _halves(stored: Sequence[bytes]) -> np.ndarray:
    """float16 (N, E); (0, 0) of none."""
    if not stored:
        return np.empty((0, 0), np.float16)
    return np.frombuffer(b"".join(stored), np.float16).reshape(len(stored), -1)


def _parts(ids: Sequence[int], size: int = 500) -> Iterator[list[int]]:
    for start in range(0, len(ids), size):
        yield [int(number) for number in ids[start : start + size]]


def _marks(part: Sequence[int]) -> str:
    return ", ".join("?" * len(part))
