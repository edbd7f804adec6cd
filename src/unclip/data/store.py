"""Files of a corpus that lies elsewhere, in a store that fsspec reaches, and a bounded cache of its shards.

Each process keeps a cache of its own, which goes when the process does: another one, started anew, fetches
its few open shards again. So nothing that a cache holds can be old, and no two processes share one.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from unclip.errors import DataError, InputError, UnclipError
from unclip.runtime import atomic_path, cache_folder, folder_lock, write_failure

SCHEMES = ("s3", "gs", "hf", "https", "http")
PLAIN_WEB = ("https", "http")  # servers that list nothing
EXTRA = "unclip[cloud]"
CACHE_BYTES = 20 * 10**9
OPEN = "open-"  # the beginning of the name of a process's cache
ATTEMPTS = 4
FIRST_WAIT = 0.5  # seconds before the second of them; twice as long before each further one
DOWNLOADS = 4  # shards that are fetched at once
QUESTIONS = 16  # files that are asked for at once
WHOLE_FROM = 0.25  # of a shard's bytes asked for at once: from then on it is fetched whole
# what tells one version of a file from another: of S3 and the web, of Google, of the Hub
VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "Content-MD5", "Digest", "Last-Modified")
MISSING, REFUSED = (404, 410), (401, 403)  # what a web server answers
OF_THIS_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cache:
    """The place of the cache, and how much it may hold.

    Attributes:
        folder: by default in the user's cache folder.
        limit: bytes, of all processes of this machine together.
    """

    folder: Path | None = None
    limit: int = CACHE_BYTES

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InputError(f"a cache of {self.limit:,} bytes holds nothing: allow more")


@dataclass(frozen=True)
class Found:
    """A file of the store: its bytes, and what tells this version of it from another ("" where unknown)."""

    size: int
    version: str


@dataclass(frozen=True)
class Span:
    """`size` bytes from `offset` on in the file `name`."""

    name: str
    offset: int
    size: int


def is_address(source: str) -> bool:
    """True of "s3://bucket/corpus", false of a folder."""
    return "://" in source


class Store:
    """The files below one address.

    Args:
        address: "s3://bucket/corpus", or one of another of the `SCHEMES`.
        cache: its limit is shared out evenly among the processes that torchrun has started here.

    Raises:
        InputError: no such scheme, its library is missing, or the cache's folder cannot be written into.
    """

    def __init__(self, address: str, cache: Cache) -> None:
        self.address = address.rstrip("/")
        scheme = address.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise InputError(
                f"unknown address {address!r}: it begins with {'://, '.join(SCHEMES)}:// or is a folder"
            )
        self._lists = scheme not in PLAIN_WEB
        try:
            import fsspec

            self._files, self._root = fsspec.url_to_fs(self.address)
        except ImportError as error:
            raise InputError(
                f"{address} needs a library that is missing ({error}): install {EXTRA}"
            ) from error
        self.limit = cache.limit // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._cache = cache.folder or cache_folder() / "shards"
        self.folder, held = _own_folder(self._cache)
        self._pool = ThreadPoolExecutor(DOWNLOADS, "unclip-shards")
        self._kept: OrderedDict[str, Future[Path]] = OrderedDict()  # the one used last stands last
        self._wanted: set[str] = set()
        self._lock = threading.RLock()
        self._sizes: dict[str, int] = {}
        self._end = weakref.finalize(self, _leave, self._pool, held, self.folder)

    def close(self) -> None:
        """Removes the cache; nothing can be read any more."""
        self._end()

    def file(self, name: str) -> Path:
        """A small file, here; it does not count as cached and stays. Raises DataError where there is none."""
        path = self.folder / name
        if not path.exists():
            self._get(name, path)
        return path

    def look(self, names: Sequence[str]) -> dict[str, Found]:
        """The files of these names, those left out that are not there.

        Raises DataError where the store cannot be asked.
        """
        if self._lists:
            listing = self._listing
            paths = {name: listing.get(self._path(name)) for name in names}
        else:
            with ThreadPoolExecutor(QUESTIONS) as pool:
                paths = dict(zip(names, pool.map(self._info, names), strict=True))
        found = {
            name: Found(
                int(about["size"] or 0), next((str(about[key]) for key in VERSIONS if about.get(key)), "")
            )
            for name, about in paths.items()
            if about is not None
        }
        self._sizes |= {name: one.size for name, one in found.items()}
        return found

    def check_room(self, shards: Sequence[str], at_once: int) -> None:
        """Refuse a cache that cannot hold so many of these shards at once. Raises DataError."""
        self._know(shards)
        needed = sum(sorted(self._sizes.get(name, 0) for name in shards)[-at_once:])
        if needed > self.limit:
            processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            raise DataError(
                f"the cache of {self.limit:,} bytes for each process is too small: {at_once} shards of "
                f"{self.address} are open at once, up to {needed:,} bytes. Give --cache-size "
                f"{math.ceil(needed * processes / 1e6) / 1e3:g} (GB) or more, or take fewer lanes: --set "
                "STAGE.train.lanes=1"
            )

    def keep(self, now: Sequence[str], soon: Sequence[str] = ()) -> None:
        """Have shards fetched, `now` before `soon`, as far as the cache holds them; others may have to go."""
        self._know([*now, *soon])
        with self._lock:
            self._wanted = {*now, *soon}
            for name in dict.fromkeys([*now, *soon]):
                self._hold(name)

    def read(self, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of each span: of shards that are cached, or asked of the store by themselves.

        Raises DataError where they cannot be had whole.
        """
        self._know([span.name for span in spans])
        asked = defaultdict[str, int](int)
        for span in spans:
            asked[span.name] += span.size
        held = {}
        with self._lock:
            for name, size in asked.items():
                if name in self._kept or (size >= WHOLE_FROM * self._sizes.get(name, 0) and self._hold(name)):
                    held[name] = self._kept[name]
        contents: list[bytes | None] = [None] * len(spans)
        for name, future in held.items():
            with suppress(FileNotFoundError), self._fetched(name, future).open("rb") as file:
                for k, span in enumerate(spans):
                    if span.name == name:
                        file.seek(span.offset)
                        contents[k] = file.read(span.size)
        missing = [k for k, content in enumerate(contents) if content is None]
        for k, content in zip(missing, self._ranges([spans[k] for k in missing]), strict=True):
            contents[k] = content
        whole = [content for content in contents if content is not None]
        for span, content in zip(spans, whole, strict=True):
            if len(content) != span.size:
                raise self._damaged(
                    span.name, f"it ends within the {span.size:,} bytes from {span.offset:,} on"
                )
        return whole

    # --- the cache ---

    @property
    def cached_bytes(self) -> int:
        """Bytes of the shards that are cached, or on their way."""
        with self._lock:
            return sum(self._sizes[name] for name in self._kept)

    def _hold(self, name: str) -> bool:
        """Caches a shard if there is room for it; true where it is cached or on its way."""
        if name in self._kept:
            self._kept.move_to_end(name)
            return True
        if name not in self._sizes:
            raise self._damaged(name, "it is not there")
        room = self.limit - self.cached_bytes
        for other, future in list(self._kept.items()):
            if room >= self._sizes[name]:
                break
            if other not in self._wanted and future.done():
                del self._kept[other]
                self._shard(other).unlink(missing_ok=True)
                room += self._sizes[other]
        if room < self._sizes[name]:
            return False
        self._kept[name] = self._pool.submit(self._fetch, name)
        return True

    def _fetched(self, name: str, future: Future[Path]) -> Path:
        try:
            return future.result()
        except BaseException:
            with self._lock:  # the next who wants it tries again
                if self._kept.get(name) is future:
                    del self._kept[name]
            raise

    def _fetch(self, name: str) -> Path:
        path, size = self._shard(name), self._sizes[name]
        if (free := shutil.disk_usage(self.folder).free) < size:
            raise DataError(
                f"the disk of {self._cache} is full: {name} has {size:,} bytes, and {free:,} are free. Make "
                "room, or give another folder with --cache"
            )
        self._get(name, path, size)
        return path

    def _shard(self, name: str) -> Path:
        return self.folder / "shards" / name

    # --- the store ---

    def _path(self, name: str) -> str:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "://" in name or not path.parts:
            raise DataError(
                f"{self.address} names a file outside of itself, {name!r}: do not use this corpus"
            )
        return f"{self._root}/{name}"

    def _know(self, names: Sequence[str]) -> None:
        if unknown := sorted({*names} - self._sizes.keys()):
            self.look(unknown)

    @cached_property
    def _listing(self) -> dict[str, Any]:
        def listed() -> list[Any]:
            entries: list[Any] = self._files.ls(self._root, detail=True)
            return entries

        return {str(entry["name"]): entry for entry in self._tried(self.address, listed)}

    def _info(self, name: str) -> Any:
        path = self._path(name)
        try:
            return self._tried(f"{self.address}/{name}", lambda: self._files.info(path))
        except _NotThere:
            return None

    def _get(self, name: str, path: Path, size: int | None = None) -> None:
        """Fetches a file, whole or not at all."""
        remote = self._path(name)

        def fetched() -> None:
            with atomic_path(path) as temporary:
                self._files.get_file(remote, str(temporary))
                if size is not None and (came := temporary.stat().st_size) != size:
                    raise EOFError(f"{came:,} of {size:,} bytes came")

        self._tried(f"{self.address}/{name}", fetched)

    def _ranges(self, spans: Sequence[Span]) -> list[bytes]:
        if not spans:
            return []
        paths = [self._path(span.name) for span in spans]
        ends = [span.offset + span.size for span in spans]

        def asked() -> list[bytes]:
            found: list[bytes] = self._files.cat_ranges(
                paths, [span.offset for span in spans], ends, on_error="raise"
            )
            return found

        found = self._tried(f"{self.address}/{spans[0].name}", asked)
        # a web server that knows no ranges sends the whole file
        return [
            content[span.offset : end] if len(content) > span.size else content
            for span, end, content in zip(spans, ends, found, strict=True)
        ]

    def _tried(self, what: str, call: Callable[[], Result]) -> Result:
        """The result of a call of the store, tried again where that may help. Raises DataError."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except UnclipError:
                raise
            except Exception as raised:  # each store has errors of its own
                error = _plain(raised)
                if isinstance(error, FileNotFoundError):
                    raise _NotThere(f"{what} is not there ({_said(error)}): check the address") from error
                if isinstance(error, OSError) and error.errno in OF_THIS_DISK:
                    raise DataError(
                        f"cannot write {what} to {self._cache} ({write_failure(error, self._cache)}): make "
                        "room, or give another folder with --cache"
                    ) from error
                if _is_refusal(error):
                    raise DataError(
                        f"{what} may not be read ({_said(error)}): give the credentials that its store asks "
                        "for"
                    ) from error
                if attempt == ATTEMPTS:
                    raise DataError(
                        f"{what} cannot be fetched, {ATTEMPTS} times in a row ({_said(error)}): start the "
                        "same command again when it can"
                    ) from error
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError

    def _damaged(self, name: str, how: str) -> DataError:
        return DataError(f"{self.address}/{name} is damaged or missing: {how}. Copy the corpus there anew")


class _NotThere(DataError):
    """A file that the store does not have."""


def _plain(error: Exception) -> Exception:
    """An error as it was before fsspec took whatever a web server answers for a missing file."""
    cause = error.__cause__
    web = type(cause).__module__.partition(".")[0] == "aiohttp"
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and web:
        return error if getattr(cause, "status", 0) in MISSING else cause
    return error


def _is_refusal(error: Exception) -> bool:
    """True of an error that says that credentials are missing or wrong."""
    by_name = "redential" in type(error).__name__  # botocore's NoCredentialsError, Google's
    return by_name or isinstance(error, PermissionError) or getattr(error, "status", 0) in REFUSED


def _said(error: BaseException) -> str:
    """An error in a few words on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _own_folder(cache: Path) -> tuple[Path, ExitStack]:
    """A new folder in the cache, held until the stack is closed; those of processes that are gone go."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{OPEN}*"):
            with suppress(DataError, FileNotFoundError), folder_lock(old, DataError("in use")):
                shutil.rmtree(old, ignore_errors=True)
        while True:
            folder, held = Path(tempfile.mkdtemp(prefix=OPEN, dir=cache)), ExitStack()
            with suppress(FileNotFoundError):  # another process took it for that of one that is gone
                held.enter_context(folder_lock(folder, None))
                return folder, held
    except OSError as error:
        raise InputError(
            f"cannot write into {cache} ({write_failure(error, cache)}): give another folder with --cache"
        ) from error


def _leave(pool: ThreadPoolExecutor, held: ExitStack, folder: Path) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    held.close()
    shutil.rmtree(folder, ignore_errors=True)
