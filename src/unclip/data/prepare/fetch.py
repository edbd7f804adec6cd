"""Fetches pictures by their addresses, as their owners allow and without reaching into private networks.

A picture is fetched only if the site's robots.txt allows it (RFC 9309), no opt-out list names its address or
site, and the answer does not refuse it: by `X-Robots-Tag: noai` or `noimageai` (also `noindex` and
`noimageindex`), or by `tdm-reservation: 1` (W3C's TDM Reservation Protocol).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import httpcore2 as httpcore
import httpx2 as httpx
import pyarrow as pa

from unclip.data.folder import Fetched
from unclip.data.prepare.manners import AGENT, GOOD, USER_AGENT, Manners, refusal
from unclip.data.prepare.public_network import GuardedBackend, PrivateAddress
from unclip.errors import DataError, InputError
from unclip.runtime import atomic_path

BATCH = 256  # addresses in one file of what was fetched; a stopped run fetches at most so many again
PER_HOST = 4  # requests to one host at once
REDIRECTS = 5
RETRIED = (408, 425, 429, 500, 502, 503, 504)
ROBOTS_BYTES = 500 * 1024  # of a robots.txt, RFC 9309 section 2.5
PIECE = 2**16
FETCHED = pa.schema(
    [
        ("address", pa.string()),
        ("content", pa.binary()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)

T = TypeVar("T")


class Refused(Exception):
    """A picture is not fetched: the `reason` in a few words, to be counted, and more of it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Passing(Exception):
    """A try failed in a way that may pass; `after` seconds the server asks to be left alone."""

    def __init__(self, detail: str, after: float = 0.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.after = after


@dataclass
class _Origin:
    """A site: what its robots.txt says, and how many requests it has at once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    room: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(PER_HOST))
    robots: Any = None  # protego's rules; None before they are asked for
    closed: str = ""  # why nothing may be fetched
    next_time: float = 0.0  # before which its crawl delay forbids another request


class Fetcher:
    """Fetches pictures, many at once, and keeps what came in a folder so that nothing is fetched twice.

    Args:
        folder: of files of `BATCH` pictures each. What could not be fetched is noted there, too.
        manners: see there.
    """

    def __init__(self, folder: Path, manners: Manners = GOOD) -> None:
        self._folder = folder
        self._manners = manners
        self._origins = defaultdict[str, _Origin](_Origin)
        self._origins_lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = self._connections()

    @cached_property
    def _protego(self) -> Any:
        try:
            import protego
        except ImportError as error:
            raise InputError("to read robots.txt needs protego: pip install 'unclip[prepare]'") from error
        return protego.Protego

    def _connections(self) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            network_backend=GuardedBackend(self._manners.private),
            max_connections=self._manners.threads,
            keepalive_expiry=5.0,
        )

    def __call__(self, name: str, wanted: Iterable[tuple[str, T]]) -> Iterator[tuple[T, Fetched]]:
        """Fetches what is wanted, address and something beside it, in its order; while one batch is used the
        next one is fetched. What waits is on the disk, not in memory.

        Args:
            name: of the table, for the names of files.
            wanted: addresses, each with what is handed back beside it.

        Raises:
            DataError: what came cannot be kept.
        """
        if self._manners.robots:
            _ = self._protego
        stem = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
        wanted = iter(wanted)
        self._stopped.clear()
        with (
            self._connections() as self._pool,
            ThreadPoolExecutor(1) as ahead,
            ThreadPoolExecutor(self._manners.threads) as threads,
            self._stopping(),
        ):
            waiting = None
            for number in count():
                batch = list(islice(wanted, BATCH))
                path = self._folder / f"{stem}-{number:06d}.arrow"
                begun = batch and ahead.submit(self._fetch_batch, path, [one for one, _ in batch], threads)
                if waiting:
                    waiting[1].result()
                    yield from _read(waiting[0], waiting[2])
                if not begun:
                    return
                waiting = (path, begun, [beside for _, beside in batch])

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """At its end nothing more is fetched, and what is being fetched is left."""
        try:
            yield
        finally:
            self._stopped.set()

    def _fetch_batch(self, path: Path, addresses: list[str], threads: ThreadPoolExecutor) -> None:
        if path.exists() and _addresses(path) == addresses:
            return
        try:
            with atomic_path(path) as temporary:
                spool = temporary.with_suffix(".parts")
                spool.mkdir(parents=True)
                try:
                    parts = [spool / str(number) for number in range(len(addresses))]
                    outcomes = list(threads.map(self.fetch, addresses, parts))
                    with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, FETCHED) as writer:
                        for address, part, (reason, detail) in zip(addresses, parts, outcomes, strict=True):
                            content = part.read_bytes() if not reason else None
                            row = {
                                "address": address, "content": content, "reason": reason, "detail": detail,
                            }  # fmt: skip
                            writer.write_table(pa.Table.from_pylist([row], schema=FETCHED))
                finally:
                    for part in spool.iterdir():
                        part.unlink()
                    spool.rmdir()
        except OSError as error:
            raise DataError(
                f"cannot keep what was fetched in {self._folder} ({error.strerror}): make room, and the same "
                "command goes on"
            ) from error

    def fetch(self, address: str, to: Path) -> tuple[str, str]:
        """Fetches one picture to a file; returns "" twice, or the reason why there is none and its detail."""
        end = time.monotonic() + self._manners.seconds
        for number in range(self._manners.tries):
            if self._stopped.is_set():
                raise CancelledError
            try:
                self._fetch_once(address, to, end)
                return "", ""
            except Refused as error:
                return error.reason, error.detail
            except (
                Passing,
                httpcore.TimeoutException,
                httpcore.NetworkError,
                httpcore.ProtocolError,
            ) as error:
                detail = error.detail if isinstance(error, Passing) else _said(error)
                wait = max(self._manners.pause * 2**number, getattr(error, "after", 0.0))
                if number + 1 == self._manners.tries or time.monotonic() + wait > end:
                    return "not fetched", detail
                self._stopped.wait(wait)
            except PrivateAddress as error:
                return "private address", str(error)
            except (OSError, CancelledError):
                raise
            except Exception as error:  # a strange server, or a strange address, raises nearly anything
                return "not fetched", _said(error)
        return "not fetched", ""

    def _fetch_once(self, address: str, to: Path, end: float) -> None:
        for _ in range(REDIRECTS + 1):
            url = self._allowed(address, end)
            origin = self._origin(url)
            with origin.room:
                self._wait(origin, end)
                with self._answer(url, end) as answer:
                    if answer.status in (301, 302, 303, 307, 308) and (place := _header(answer, b"location")):
                        address = str(url.join(place))
                        continue
                    if answer.status in RETRIED:
                        raise Passing(f"status {answer.status}", _seconds(_header(answer, b"retry-after")))
                    if answer.status != 200:
                        raise Refused("not fetched", f"status {answer.status}")
                    if self._manners.robots and (why := refusal(answer.headers)):
                        raise Refused("opted out", why)
                    self._write(answer, to, end)
                    return
        raise Refused("not fetched", f"more than {REDIRECTS} redirects")

    def _write(self, answer: httpcore.Response, to: Path, end: float) -> None:
        most = self._manners.most_bytes
        length = _header(answer, b"content-length")
        if length.isdigit() and int(length) > most:
            raise Refused("too many bytes", f"{int(length):,}, more than {most:,}")
        size = 0
        with to.open("wb") as file:
            for piece in answer.iter_stream():
                size += len(piece)
                if size > most:
                    raise Refused("too many bytes", f"more than {most:,}")
                if self._stopped.is_set():
                    raise CancelledError
                if time.monotonic() > end:
                    raise Refused("not fetched", f"it took more than {self._manners.seconds:g} seconds")
                file.write(piece)
        if not size:
            raise Refused("not fetched", "the answer is empty")

    def _answer(self, url: httpx.URL, end: float) -> Any:
        """The answer to a request, as a context in which its body is read."""
        left = end - time.monotonic()
        if left <= 0:
            raise Refused("not fetched", f"it took more than {self._manners.seconds:g} seconds")
        return self._pool.stream(
            "GET",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[
                (b"Host", url.netloc),
                (b"User-Agent", USER_AGENT.encode()),
                (b"Accept", b"image/*,*/*;q=0.1"),
                (b"Accept-Encoding", b"identity"),
            ],
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), left)},
        )

    def _allowed(self, address: str, end: float) -> httpx.URL:
        """The address, if lists and robots.txt allow it. Raises Refused."""
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise Refused("not fetched", f"no address: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused("not fetched", f"{url.scheme or 'no'} address, only http and https are fetched")
        if address in self._manners.opted_out or self._names_host(url.host):
            raise Refused("opted out", "by an opt-out list")
        if self._manners.robots:
            origin = self._origin(url)
            with origin.lock:
                if origin.robots is None and not origin.closed:
                    self._read_robots(origin, url, end)
            if origin.closed:
                raise Refused("robots.txt", origin.closed)
            if not origin.robots.can_fetch(str(url), AGENT):
                raise Refused("robots.txt", "it forbids this address")
        return url

    def _names_host(self, host: str) -> bool:
        parts = host.casefold().rstrip(".").split(".")
        return any(".".join(parts[start:]) in self._manners.opted_out for start in range(len(parts)))

    def _origin(self, url: httpx.URL) -> _Origin:
        with self._origins_lock:
            return self._origins[f"{url.scheme}://{url.netloc.decode('ascii')}"]

    def _read_robots(self, origin: _Origin, url: httpx.URL, end: float) -> None:
        """Reads a site's robots.txt: what cannot be reached forbids all, what is not there nothing
        (RFC 9309, section 2.3.1).
        """
        place = url.join("/robots.txt")
        for _ in range(REDIRECTS + 1):
            try:
                with self._answer(place, end) as answer:
                    if 300 <= answer.status < 400 and (target := _header(answer, b"location")):
                        place = place.join(target)
                        if place.scheme not in ("http", "https"):
                            break
                        continue
                    if answer.status >= 500:
                        origin.closed = f"it cannot be read: status {answer.status}"
                        return
                    content = b""
                    if answer.status == 200:
                        for piece in answer.iter_stream():
                            content += piece
                            if len(content) > ROBOTS_BYTES:
                                break
                    origin.robots = self._protego.parse(content[:ROBOTS_BYTES].decode("utf-8", "replace"))
                    return
            except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
                origin.closed = f"it cannot be reached: {_said(error)}"
                return
        origin.robots = self._protego.parse("")  # redirects without end are as if there were none

    def _wait(self, origin: _Origin, end: float) -> None:
        """Waits as long as a site's robots.txt asks between two requests."""
        delay = origin.robots.crawl_delay(AGENT) if origin.robots is not None else None
        if not delay:
            return
        with origin.lock:
            start = max(time.monotonic(), origin.next_time)
            if start > end:
                raise Passing(f"its robots.txt asks for {delay:g} s between requests")
            origin.next_time = start + float(delay)
        self._stopped.wait(max(0.0, start - time.monotonic()))


def _header(answer: httpcore.Response, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in answer.headers if name.lower() == wanted), "")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        return max(0.0, float(text))
    return 0.0


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _addresses(path: Path) -> list[str]:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()["address"].to_pylist()


def _read(path: Path, beside: list[T]) -> Iterator[tuple[T, Fetched]]:
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number, one in enumerate(beside):
            (row,) = reader.get_batch(number).to_pylist()
            yield one, Fetched(row["content"], row["reason"], row["detail"])
