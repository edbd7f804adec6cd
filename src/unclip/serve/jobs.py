"""Jobs, pictures and filters, as the rows of the store (`store.py`) and all that tells of them have them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Job:
    """A row of the table of jobs.

    Attributes:
        id: "job_...".
        owner: the key that submitted it; "" without keys.
        verb, bundle, prompt: what it draws.
        state: how far it is; while it runs it is "queued" here.
        kept: whether it is drawn after a restart, and its pictures go to the library.
        request: everything that draws it again, but pictures, which are files.
        idempotency, fingerprint: the client's key, and a hash of what came with it.
        created, ended: seconds since 1970.
        error: the API's error of one that failed.
        withheld: the pictures that the policy did not let out, as the API tells of them.
    """

    id: str
    owner: str
    verb: str
    bundle: str
    prompt: str = ""
    state: State = State.QUEUED
    kept: bool = False
    request: Mapping[str, Any] = field(default_factory=dict)
    idempotency: str | None = None
    fingerprint: str | None = None
    created: float = field(default_factory=time.time)
    ended: float | None = None
    error: Mapping[str, Any] | None = None
    withheld: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Stored:
    """A row of the table of pictures.

    Attributes:
        digest: SHA-256 of the file.
        parents: ids of the pictures that it was made of.
        expires: of what is not in the library.
    """

    id: str
    job: str
    owner: str
    position: int
    file: str
    format: str
    bytes: int
    width: int
    height: int
    seed: int
    number: int
    score: float | None
    prompt: str
    bundle: str
    settings: Mapping[str, str]
    created: float
    expires: float | None = None
    starred: bool = False
    board: str = ""
    deleted: float | None = None
    digest: str = ""
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """A filter of the library's pictures; None is any.

    Attributes:
        text: within the prompt, whatever its case.
        starred, board, bundle: of them.
        since, until: seconds since 1970, between which they were made.
        deleted: those in the bin, and no others.
    """

    text: str = ""
    starred: bool | None = None
    board: str | None = None
    bundle: str | None = None
    since: float | None = None
    until: float | None = None
    deleted: bool = False


ANY = Wanted()


def new_id(kind: str) -> str:
    """A name that nobody guesses."""
    return f"{kind}_{secrets.token_hex(12)}"
