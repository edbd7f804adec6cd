"""The process: a socket, an event loop, a scheduler's thread, and their end."""

from __future__ import annotations

import fcntl
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import uvicorn

from unclip.errors import InputError, UnclipError
from unclip.serve.app import create_app
from unclip.serve.keys import Keys
from unclip.serve.limits import LOOPBACK
from unclip.serve.service import Service

BACKLOG = 512
SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 600  # for what is being drawn when the server is told to stop


@dataclass(frozen=True)
class Place:
    """Where a server is reached.

    Attributes:
        host, port: of the socket; port 0 is any that is free.
        public_url: how clients reach it, behind a proxy.
        keys: a file; needed where others than this machine come in.
        origins: pages of other servers that may ask.

    Raises:
        InputError: an address that others reach, without keys, or a public address of another form.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str | None = None
    keys: Keys | None = None
    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.keys is None:
            raise InputError(f"host {self.host}: others than this machine reach it, give --keys FILE")
        if self.public_url is None:
            return
        parts = urlsplit(self.public_url)
        beyond = parts.path.strip("/") or parts.query or parts.fragment
        if not parts.hostname or parts.scheme not in ("http", "https") or beyond:
            raise InputError(f"public-url {self.public_url!r}: give https://NAME, without a path")
        if parts.hostname not in LOOPBACK and self.keys is None:
            raise InputError(
                f"public-url {self.public_url}: others than this machine reach it, give --keys FILE"
            )

    @property
    def is_public(self) -> bool:
        """True where others than this machine may come in."""
        return self.host not in LOOPBACK or self.public_url is not None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names that clients may use; empty is any, where keys are needed anyway."""
        if self.host not in LOOPBACK and self.public_url is None:
            return ()
        own = () if self.public_url is None else (urlsplit(self.public_url).hostname or "",)
        return (*LOOPBACK, self.host, *own)


def lock(folder: Path) -> IO[str]:
    """Hold a folder of jobs: two servers must not share one. Raises UnclipError where another does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UnclipError(f"another server uses {folder}: stop it, or give another --data") from None
    return file


class _Drained(uvicorn.Server):
    """Ends well when it is told to stop: uvicorn's own kills itself by the signal once more."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Server:
    """Answers until it is told to stop; what is being drawn then is finished.

    Args:
        service: draws.
        place: where.
        ready: is told the address when the first picture has been drawn.

    Attributes:
        socket_address: where it listens.
        address: how clients reach it, the public one where there is one.

    Raises:
        UnclipError: the address cannot be had.
    """

    def __init__(self, service: Service, place: Place, ready: Callable[[str], None]) -> None:
        self._listening = _bound(place)
        self._failure: Exception | None = None
        port = self._listening.getsockname()[1]
        host = f"[{place.host}]" if ":" in place.host else place.host
        self.socket_address = f"http://{host}:{port}"
        self.address = place.public_url or self.socket_address
        origins = place.origins
        if place.public_url is not None:
            parts = urlsplit(place.public_url)
            origins = (*origins, f"{parts.scheme}://{parts.netloc}")
        app = create_app(
            service,
            keys=place.keys,
            hosts=place.hosts,
            origins=origins,
            ready=lambda: ready(self.address),
            ended=self._fail,
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=place.public_url is not None,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = _Drained(config)

    def run(self) -> None:
        """Answer, until `stop` or a signal (SIGTERM, Ctrl-C). Raises what the first picture failed with."""
        with self._listening:
            self._server.run(sockets=[self._listening])
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self.stop()

    def stop(self) -> None:
        """May be called from any thread."""
        self._server.should_exit = True


def _bound(place: Place) -> socket.socket:
    kind = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listening = socket.socket(kind, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((place.host, place.port))
    except OSError as error:
        listening.close()
        reason = error.strerror or error
        raise UnclipError(
            f"cannot listen on {place.host}:{place.port}: {reason}; give another --port"
        ) from error
    return listening
