"""Addresses of pictures: signed, and good for an hour, as in the API."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from pathlib import Path

from unclip.runtime import atomic_path
from unclip.serve.jobs import Stored

URL_SECONDS = 3600  # a picture's address is good for so long, as in the API
SECRET_BYTES = 32


class Addresses:
    """The addresses that a server gives out.

    Args:
        secret: a file of the key that they are signed with; it is made where it is missing.
        public_url: how clients reach the server; None is where they have come to.
    """

    def __init__(self, secret: Path, public_url: str | None) -> None:
        self._secret, self._public_url = _secret(secret), public_url

    def of(self, stored: Stored, base: str) -> str:
        """Where a picture is for an hour, for a client that has come to `base`."""
        expires = int(time.time()) + URL_SECONDS
        root = (self._public_url or base).rstrip("/")
        signature = self._signed(stored.id, expires)
        return f"{root}/v1/unclip/files/{stored.id}?expires={expires}&signature={signature}"

    def are_signed(self, id: str, expires: int, signature: str) -> bool:
        """Is this an address that was given out, and good still?"""
        right = hmac.compare_digest(self._signed(id, expires).encode(), signature.encode())
        return right and expires >= time.time()

    def _signed(self, id: str, expires: int) -> str:
        return hmac.new(self._secret, f"{id} {expires}".encode(), hashlib.sha256).hexdigest()


def _secret(path: Path) -> bytes:
    """The key that addresses are signed with, made when it is not there."""
    if not path.is_file() or path.stat().st_size != SECRET_BYTES:
        with atomic_path(path) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_bytes(secrets.token_bytes(SECRET_BYTES))
    return path.read_bytes()
