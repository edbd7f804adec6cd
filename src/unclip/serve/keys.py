"""Keys of a server: a file of names and hashes, read again when it changes; sessions of the page."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from unclip.errors import InputError, shown

PREFIX = "sk-unclip-"
SESSION_SECONDS = 30 * 86400.0
MOST_SESSIONS = 10_000


def hashed(key: str) -> str:
    """The hash of a key, as the file holds it: keys are long and random, so it needs no salt and no cost."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def new_key(path: Path, name: str) -> str:
    """Add a key to the file, and return it: it is told this once.

    Raises:
        InputError: a name that is there, or of other letters.
        OSError: the file cannot be written.
    """
    if not name.isidentifier():
        raise InputError(f"a key is called {shown(name)}: take letters, digits and _")
    if path.is_file() and name in _read(path):
        raise InputError(f"{path} has a key called {name}: take another name, or delete its line")
    key = PREFIX + secrets.token_urlsafe(32)
    path.touch(mode=0o600)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{name} {hashed(key)}\n")
    return key


@dataclass
class Keys:
    """The keys of a file, one a line: a name and the SHA-256 of the key. Lines of # are comments.

    Raises:
        InputError: the file is not there, or a line has another form.
    """

    path: Path
    _state: tuple[int, int] = (0, 0)
    _hashes: Mapping[str, str] = field(default_factory=dict)
    _sessions: dict[str, tuple[str, str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._load()

    def _load(self) -> None:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise InputError(f"cannot read the keys in {self.path}: {error.strerror}") from error
        if (stat.st_mtime_ns, stat.st_size) != self._state:
            self._hashes = _read(self.path)
            self._state = (stat.st_mtime_ns, stat.st_size)

    @property
    def hashes(self) -> Mapping[str, str]:
        """By name; a file that has become wrong leaves those that were there."""
        with suppress(InputError):
            self._load()
        return self._hashes

    def owner(self, key: str) -> str | None:
        """The name of a key; None where there is none. Takes as long for every key."""
        mine, found = hashed(key), None
        for name, other in self.hashes.items():
            if hmac.compare_digest(mine, other):
                found = name
        return found

    def log_in(self, key: str) -> str | None:
        """A session's token for the page; None where there is no such key."""
        owner = self.owner(key)
        if owner is None:
            return None
        if len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        token = secrets.token_urlsafe(32)
        self._sessions[hashed(token)] = (owner, hashed(key), time.time() + SESSION_SECONDS)
        return token

    def log_out(self, token: str) -> None:
        self._sessions.pop(hashed(token), None)

    def session(self, token: str) -> str | None:
        """Whose a session is; None where it is over, or its key has gone."""
        owner, key, ends = self._sessions.get(hashed(token), ("", "", 0.0))
        return owner if ends > time.time() and self.hashes.get(owner) == key else None


def _read(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or len(words[1]) != 64 or not words[0].isidentifier():
            raise InputError(f"{path}, line {number}: give a name and 64 hexadecimal digits")
        if words[0] in found:
            raise InputError(f"{path}, line {number}: a second key called {words[0]}")
        found[words[0]] = words[1].lower()
    return found
