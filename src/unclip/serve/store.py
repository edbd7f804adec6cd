"""The jobs and pictures that are kept: SQLite for what is known of them, files for what was drawn.

Every commit is on the disk before it is told of (`synchronous FULL`): a job that was accepted survives a
power cut. A picture's file is written before the row that names it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unclip.errors import UnclipError
from unclip.runtime import atomic_path
from unclip.serve.jobs import ANY, Job, State, Stored, Wanted

BUSY_SECONDS = 10.0
PLAIN_SECONDS = 86400.0  # that the row of a request that nobody kept stays
SCHEMA = """
create table if not exists jobs (
    id text primary key, owner text not null, verb text not null, bundle text not null, state text not null,
    kept integer not null, request text not null, prompt text not null, idempotency text, fingerprint text,
    created real not null, ended real, error text, withheld text not null default '[]'
) strict;
create unique index if not exists jobs_idempotency on jobs (owner, idempotency);
create index if not exists jobs_created on jobs (owner, created);
create table if not exists pictures (
    id text primary key, job text not null, owner text not null, position integer not null,
    file text not null, format text not null, bytes integer not null, width integer not null,
    height integer not null, seed text not null, number integer not null, score real, prompt text not null,
    bundle text not null, settings text not null, created real not null, expires real,
    starred integer not null default 0, board text not null default '', deleted real,
    digest text not null default '', parents text not null default '[]'
) strict;
create index if not exists pictures_created on pictures (owner, created);
create index if not exists pictures_job on pictures (job);
create table if not exists boards (
    owner text not null, name text not null, created real not null, primary key (owner, name)
) strict, without rowid;
create table if not exists embeddings (
    picture text not null, clip text not null, vector blob not null, primary key (picture, clip)
) strict, without rowid;
create table if not exists canvases (
    id text primary key, owner text not null, name text not null, document text not null,
    updated real not null
) strict;
"""
# Columns, by table, that folders of an earlier version lack; and what needs them.
ADDED = {
    "jobs": {"withheld": "text not null default '[]'"},
    "pictures": {"digest": "text not null default ''", "parents": "text not null default '[]'"},
}
LATER = "create index if not exists pictures_digest on pictures (owner, digest);"


class Store:
    """Jobs and pictures in a folder. Its methods may be called from any thread.

    Raises:
        UnclipError: the folder's database cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures, self.inputs = folder / "pictures", folder / "inputs"
        for place in (self.pictures, self.inputs):
            place.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                folder / "jobs.sqlite", check_same_thread=False, isolation_level=None, timeout=BUSY_SECONDS
            )
            self._database.row_factory = sqlite3.Row
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=full")
            self._database.executescript(SCHEMA)
            for table, added in ADDED.items():
                there = {row["name"] for row in self._database.execute(f"pragma table_info({table})")}
                for name in added.keys() - there:
                    self._database.execute(f"alter table {table} add column {name} {added[name]}")
            self._database.executescript(LATER)
        except sqlite3.Error as error:
            raise UnclipError(f"cannot keep jobs in {folder}: {error}; give another folder") from error

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("begin immediate")
            try:
                yield self._database
            except BaseException:
                self._database.execute("rollback")
                raise
            self._database.execute("commit")

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(query, values).fetchall()

    # --- jobs ---

    def add(self, job: Job, inputs: Mapping[str, Sequence[bytes]] | None = None) -> Job:
        """Keep a new job, and the pictures that it was given; the one of its idempotency key if there is."""
        for name, files in (inputs or {}).items():
            for number, data in enumerate(files):
                with atomic_path(self.inputs / job.id / f"{name}-{number}") as path:
                    path.write_bytes(data)
        with self._transaction() as database:
            if job.idempotency is not None:
                query = "select * from jobs where owner = ? and idempotency = ?"
                found = database.execute(query, (job.owner, job.idempotency)).fetchone()
                if found is not None:
                    return _job(found)
            database.execute(
                "insert into jobs (id, owner, verb, bundle, state, kept, request, prompt, idempotency, "
                "fingerprint, created) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job.id, job.owner, job.verb, job.bundle, str(job.state), int(job.kept)),
                    *(json.dumps(job.request), job.prompt, job.idempotency, job.fingerprint, job.created),
                ),
            )
        return job

    def given(self, job: str) -> dict[str, tuple[bytes, ...]]:
        """The pictures that a job was given, by field, in their order."""
        found: dict[str, list[tuple[int, bytes]]] = {}
        folder = self.inputs / job
        for path in folder.iterdir() if folder.is_dir() else ():
            name, _, number = path.name.rpartition("-")
            if name and number.isdigit():
                found.setdefault(name, []).append((int(number), path.read_bytes()))
        return {name: tuple(data for _, data in sorted(files)) for name, files in found.items()}

    def end(
        self,
        job: str,
        state: State,
        pictures: Sequence[Stored] = (),
        error: Mapping[str, Any] | None = None,
        withheld: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Say how a job ended, with its pictures, whose files are written; one that has ended stays so."""
        columns = (
            *("id", "job", "owner", "position", "file", "format", "bytes", "width", "height", "seed"),
            *("number", "score", "prompt", "bundle", "settings", "created", "expires", "digest", "parents"),
        )
        with self._transaction() as database:
            changed = database.execute(
                "update jobs set state = ?, ended = ?, error = ?, withheld = ? "
                "where id = ? and state = 'queued'",
                (
                    *(str(state), time.time(), None if error is None else json.dumps(error)),
                    *(json.dumps(list(withheld)), job),
                ),
            ).rowcount
            if not changed:
                return
            marks = ", ".join("?" * len(columns))
            for one in pictures:
                texts = {"settings": dict(one.settings), "parents": list(one.parents)}
                row = vars(one) | {"seed": str(one.seed)}
                row |= {name: json.dumps(value) for name, value in texts.items()}
                database.execute(
                    f"insert into pictures ({', '.join(columns)}) values ({marks})",
                    [row[column] for column in columns],
                )
        self._forget_inputs(job)

    def _forget_inputs(self, job: str) -> None:
        folder = self.inputs / job
        for path in folder.iterdir() if folder.is_dir() else ():
            path.unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()

    def job(self, id: str, owner: str) -> Job | None:
        rows = self._rows("select * from jobs where id = ? and owner = ?", (id, owner))
        return _job(rows[0]) if rows else None

    def jobs(self, owner: str, limit: int, before: float | None = None) -> list[Job]:
        """The newest first."""
        query = "select * from jobs where owner = ? and created < ? order by created desc limit ?"
        return [_job(row) for row in self._rows(query, (owner, before or 1e12, limit))]

    def unfinished(self) -> list[Job]:
        """Kept jobs that a killed server left behind, the oldest first; the others are marked cancelled."""
        with self._transaction() as database:
            database.execute(
                "update jobs set state = 'cancelled', ended = ? where state = 'queued' and kept = 0",
                (time.time(),),
            )
        return [_job(row) for row in self._rows("select * from jobs where state = 'queued' order by created")]

    # --- pictures ---

    def write(self, picture: str, suffix: str, data: bytes) -> str:
        """Write a picture's file; returns its name."""
        name = f"{picture}.{suffix}"
        with atomic_path(self.pictures / name) as path:
            path.write_bytes(data)
        return name

    def of_job(self, job: str) -> list[Stored]:
        query = "select * from pictures where job = ? and deleted is null order by position"
        return [_stored(row) for row in self._rows(query, (job,))]

    def picture(self, id: str, owner: str | None = None) -> Stored | None:
        """A picture; with `owner` only theirs."""
        rows = self._rows("select * from pictures where id = ?", (id,))
        found = _stored(rows[0]) if rows else None
        return found if found is not None and owner in (None, found.owner) else None

    def library(
        self, owner: str, limit: int, wanted: Wanted = ANY, *, before: float | None = None
    ) -> list[Stored]:
        """Pictures that are kept, the newest first."""
        query = ["select * from pictures where owner = ? and expires is null and created < ?"]
        values: list[Any] = [owner, before or 1e12]
        query.append(f"and deleted is {'not ' if wanted.deleted else ''}null")
        conditions = (
            ("instr(lower(prompt), lower(?)) > 0", wanted.text or None),
            ("starred = ?", None if wanted.starred is None else int(wanted.starred)),
            ("board = ?", wanted.board),
            ("bundle = ?", wanted.bundle),
            ("created >= ?", wanted.since),
            ("created < ?", wanted.until),
        )
        for condition, value in conditions:
            if value is not None:
                query.append(f"and {condition}")
                values.append(value)
        query.append("order by created desc, position desc limit ?")
        return [_stored(row) for row in self._rows(" ".join(query), (*values, limit))]

    def change(self, id: str, owner: str, **changes: Any) -> Stored | None:
        """Star a picture, put it on a board, delete or restore it."""
        names = [name for name in changes if name in ("starred", "board", "deleted")]
        with self._transaction() as database:
            for name in names:
                database.execute(
                    f"update pictures set {name} = ? where id = ? and owner = ?", (changes[name], id, owner)
                )
        return self.picture(id, owner)

    def named(self, owner: str, digests: Sequence[str]) -> tuple[str, ...]:
        """Ids of the kept pictures whose files have these SHA-256, of each the newest."""
        query = (
            "select id from pictures where owner = ? and digest = ? and expires is null "
            "order by created desc limit 1"
        )
        found = [row["id"] for digest in digests for row in self._rows(query, (owner, digest))]
        return tuple(dict.fromkeys(found))

    # --- boards ---

    def boards(self, owner: str) -> list[dict[str, Any]]:
        """The boards by name: how many pictures are on each, and the newest of them."""
        query = (
            "select name, count(pictures.id) as count, "
            "(select id from pictures as one where one.owner = ?1 and one.board = name and "
            "one.deleted is null and one.expires is null order by one.created desc limit 1) as cover from "
            "(select name from boards where owner = ?1 union select board from pictures where owner = ?1 "
            "and board <> '' and expires is null) left join pictures on pictures.owner = ?1 and "
            "pictures.board = name and pictures.deleted is null and pictures.expires is null "
            "group by name order by lower(name), name"
        )
        return [dict(row) for row in self._rows(query, (owner,))]

    def make_board(self, owner: str, name: str, most: int) -> bool:
        """Make a board that is empty, where it is not there; False where there would be more than `most`."""
        with self._transaction() as database:
            count = database.execute("select count(*) from boards where owner = ?", (owner,)).fetchone()[0]
            if count >= most:
                return False
            database.execute("insert or ignore into boards values (?, ?, ?)", (owner, name, time.time()))
        return True

    def rename_board(self, owner: str, name: str, to: str | None) -> bool:
        """Rename a board, into another one perhaps; None takes it away, and its pictures stay.

        Returns False where there is none of that name.
        """
        with self._transaction() as database:
            there = database.execute(
                "delete from boards where owner = ? and name = ?", (owner, name)
            ).rowcount
            there += database.execute(
                "update pictures set board = ? where owner = ? and board = ?", (to or "", owner, name)
            ).rowcount
            if there and to is not None:
                database.execute("insert or ignore into boards values (?, ?, ?)", (owner, to, time.time()))
        return bool(there)

    # --- what CLIP sees ---

    def embeddings(self, clip: str) -> dict[str, np.ndarray]:
        """CLIP's embeddings (E,) of pictures, by their ids, of the CLIP of this identity."""
        rows = self._rows("select picture, vector from embeddings where clip = ?", (clip,))
        return {row["picture"]: np.frombuffer(row["vector"], np.float32) for row in rows}

    def embed(self, clip: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep embeddings."""
        rows = [(id, clip, vector.astype(np.float32).tobytes()) for id, vector in vectors.items()]
        with self._transaction() as database:
            database.executemany("insert or replace into embeddings values (?, ?, ?)", rows)

    # --- canvases ---

    def canvases(self, owner: str, limit: int) -> list[dict[str, Any]]:
        """Names and times, the latest first."""
        query = "select id, name, updated from canvases where owner = ? order by updated desc limit ?"
        return [dict(row) for row in self._rows(query, (owner, limit))]

    def canvas(self, id: str, owner: str) -> dict[str, Any] | None:
        query = "select id, name, updated, document from canvases where id = ? and owner = ?"
        rows = self._rows(query, (id, owner))
        return dict(rows[0]) if rows else None

    def save_canvas(self, id: str, owner: str, name: str, document: str, most: int) -> bool:
        """Save one; False where its name is another owner's, or there would be more than `most`."""
        with self._transaction() as database:
            row = database.execute("select owner from canvases where id = ?", (id,)).fetchone()
            if row is not None and row["owner"] != owner:
                return False
            count = database.execute("select count(*) from canvases where owner = ?", (owner,)).fetchone()
            if row is None and count[0] >= most:
                return False
            values = (id, owner, name, document, time.time())
            database.execute("insert or replace into canvases values (?, ?, ?, ?, ?)", values)
        return True

    def delete_canvas(self, id: str, owner: str) -> bool:
        with self._transaction() as database:
            query = "delete from canvases where id = ? and owner = ?"
            return bool(database.execute(query, (id, owner)).rowcount)

    def sweep(self, days: float | None, most_bytes: int | None, bin_days: float) -> int:
        """Delete what is past its time, and the oldest beyond the room there is; what is starred stays.

        Rows of requests that nobody kept go after a day.

        Returns the number of pictures that went.
        """
        now = time.time()
        query = "select * from pictures where expires < ? or deleted < ?"
        gone = [_stored(row) for row in self._rows(query, (now, now - bin_days * 86400))]
        if days is not None:
            old = "select * from pictures where starred = 0 and expires is null and created < ?"
            gone += [_stored(row) for row in self._rows(old, (now - days * 86400,))]
        if most_bytes is not None:
            held = 0
            for row in self._rows("select * from pictures order by starred desc, created desc"):
                held += row["bytes"]
                if held > most_bytes and not row["starred"]:
                    gone.append(_stored(row))
        ids = {one.id: one for one in gone}
        with self._transaction() as database:
            database.executemany("delete from pictures where id = ?", [(id,) for id in ids])
            database.executemany("delete from embeddings where picture = ?", [(id,) for id in ids])
            database.execute("delete from jobs where kept = 0 and ended < ?", (now - PLAIN_SECONDS,))
            if days is not None:
                database.execute(
                    "delete from jobs where ended < ? and id not in (select job from pictures)",
                    (now - days * 86400,),
                )
        for one in ids.values():
            (self.pictures / one.file).unlink(missing_ok=True)
        self._sweep_files()
        return len(ids)

    def _sweep_files(self) -> None:
        """Delete files of pictures that no row names: their job was not finished."""
        known = {row["file"] for row in self._rows("select file from pictures")}
        for path in self.pictures.iterdir():
            if path.name not in known and path.stat().st_mtime < time.time() - 3600:
                path.unlink(missing_ok=True)


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  # a Row iterates over its values
    values |= {
        "state": State(values["state"]),
        "kept": bool(values["kept"]),
        "request": json.loads(values["request"]),
        "error": None if values["error"] is None else json.loads(values["error"]),
        "withheld": tuple(json.loads(values["withheld"])),
    }
    return Job(**values)


def _stored(row: sqlite3.Row) -> Stored:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  # a Row iterates over its values
    values |= {
        "seed": int(values["seed"]),
        "settings": json.loads(values["settings"]),
        "parents": tuple(json.loads(values["parents"])),
        "starred": bool(values["starred"]),
    }
    return Stored(**values)
