"""Fetching published models: files from the Hugging Face Hub and from plain addresses.

What the Hub is asked, and how, is `huggingface_hub`'s business: its endpoint (HF_ENDPOINT), token (HF_TOKEN),
proxies, offline mode (HF_HUB_OFFLINE) and cache, where a file that is there already is taken from. The
transfer itself is ours, because huggingface_hub starts a broken download from nothing: here what has arrived
stays in NAME.part, and the next run asks for the rest of it (RFC 9110, section 14). A file takes its name
when it is whole and its hash is right.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from unclip.catalogue import HubFiles, Published, WebFile
from unclip.errors import DownloadError, escaped
from unclip.runtime import sha256

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub.hf_api import RepoSibling

CHUNK = 2**20  # bytes
ATTEMPTS = 5  # in a row that bring nothing new, once a transfer has begun
LONGEST_WAIT = 8.0  # seconds between two of them
SMALL = 2**20  # bytes; files below have no progress of their own
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".onnx_data")
VARIANTS = (".fp16.", ".non_ema.")
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE, TOO_MANY_REQUESTS = 206, 416, 429


class _OutOfReach(DownloadError):
    """A failure that is mended by fetching the files on another machine."""


@dataclass(frozen=True)
class Transfer:
    """The progress of a file: `done` of `total` bytes; a total of 0 is not known."""

    file: str
    done: int
    total: int


@dataclass(frozen=True)
class Item:
    """One file to fetch. `sha256` or `git_sha1` (a git blob's) is what it must have, where one is known."""

    url: str
    path: str
    size: int = 0
    sha256: str | None = None
    git_sha1: str | None = None
    from_hub: bool = False


def fetch(model: Published) -> Generator[Transfer, None, None]:
    """Fetch the files of a published model into its download folder, those that are not there yet.

    Raises:
        DownloadError: no network, no such file, no room, or a file whose hash is wrong (it is removed); the
            message says what to fetch by hand and where to put it, or that running again goes on.
    """
    folder = model.download_folder
    try:
        for source in model.sources:
            items = [_web_item(source)] if isinstance(source, WebFile) else _hub_items(source, folder)
            for item in items:
                yield from _fetch_item(item, folder / item.path)
    except _OutOfReach as error:
        raise DownloadError(f"{error}; {by_hand(model)}") from error


def opened(model: Published) -> Path:
    """The file or folder of a fetched model that is to be converted."""
    return model.download_folder / model.opens if model.opens else model.download_folder


def discard(model: Published) -> None:
    """Remove the published files of a model, once its bundle stands."""
    shutil.rmtree(model.download_folder, ignore_errors=True)


def by_hand(model: Published) -> str:
    """The way to a model that cannot be fetched from here, in one sentence."""
    steps = []
    for source in model.sources:
        if isinstance(source, WebFile):
            steps.append(f"{source.url} as {model.download_folder / source.path}")
        else:
            where = f"https://huggingface.co/{source.repository}"
            steps.append(
                f"{' '.join(source.patterns)} of {where} into {model.download_folder / source.folder}"
            )
    return (
        f"by hand: fetch {' and '.join(steps)}, then `unclip convert {opened(model)} {model.bundle_folder} "
        f"--name {model.name}`"
    )


def kept(model: Published) -> str:
    """The remains of an interrupted `pull`, in one sentence."""
    files = [path for path in model.download_folder.rglob("*") if path.is_file()]
    if not files:
        return "nothing is left; the same command starts again"
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    return f"{megabytes:.1f} MB that have come are kept; the same command goes on from there"


# --- what to fetch ---


def _web_item(source: WebFile) -> Item:
    return Item(source.url, source.path, sha256=source.sha256)


def _hub_items(source: HubFiles, folder: Path) -> list[Item]:
    """The files of a repository that the patterns choose, with size and hash as the Hub states them.

    Where the Hub is out of reach and its files are in huggingface_hub's cache, they are linked from there and
    nothing is left to fetch.
    """
    import httpx2
    from huggingface_hub import HfApi, constants, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled

    try:
        found = HfApi().model_info(
            source.repository,
            revision=source.revision,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    except GatedRepoError as error:
        raise DownloadError(
            f"{source.repository} is only for those who have accepted its terms: do so on "
            f"https://huggingface.co/{source.repository} and set HF_TOKEN"
        ) from error
    except (httpx2.HTTPError, HfHubHTTPError, OfflineModeIsEnabled, ValueError) as error:
        if _link_cached(source, folder):
            return []
        raise _OutOfReach(
            f"cannot list {source.repository} on {constants.ENDPOINT} ({_reason(error)})"
        ) from error
    siblings = {sibling.rfilename: sibling for sibling in found.siblings or []}
    revision = found.sha or source.revision
    items = []
    for name in chosen(list(siblings), source):
        if not _link(_cached(source, name, revision), folder / source.folder / name):
            url = hf_hub_url(source.repository, name, revision=revision, endpoint=constants.ENDPOINT)
            items.append(_hub_item(siblings[name], url, str(PurePosixPath(source.folder) / name)))
    return items


def _hub_item(sibling: RepoSibling, url: str, path: str) -> Item:
    item = Item(url, path, sibling.size or 0, from_hub=True)
    if sibling.lfs is not None:
        return replace(item, size=sibling.lfs.size, sha256=sibling.lfs.sha256)
    return replace(item, git_sha1=sibling.blob_id)


def chosen(names: list[str], source: HubFiles) -> list[str]:
    """The files of a repository that a source asks for.

    Raises DownloadError where a pattern finds nothing: the repository is not what it was.
    """
    safe = [
        name
        for name in names
        if not name.startswith("/") and ".." not in PurePosixPath(name).parts and escaped(name) == name
    ]
    found: set[str] = set()
    for pattern in source.patterns:
        matching = [name for name in safe if fnmatch(name, pattern)]
        if not matching:
            raise DownloadError(f"{source.repository} has no {pattern}: it has {', '.join(names[:8])}, ...")
        found.update(matching)
    found = {name for name in found if not any(variant in name for variant in VARIANTS)}
    safetensors = {PurePosixPath(name).parent for name in found if name.endswith(".safetensors")}
    return sorted(
        name for name in found if not (name.endswith(PICKLES) and PurePosixPath(name).parent in safetensors)
    )


def _link_cached(source: HubFiles, folder: Path) -> bool:
    """Links a repository's files from huggingface_hub's cache, if all that are needed are there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(source.repository, revision=source.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return False
    names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
    try:
        wanted = chosen(names, source)
    except DownloadError:
        return False
    for name in wanted:
        _link(snapshot / name, folder / source.folder / name)
    return True


def _cached(source: HubFiles, name: str, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repository, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _link(cached: Path | None, target: Path) -> bool:
    """Link a file from huggingface_hub's cache; true where it is here now as a link."""
    if cached is None or target.exists():
        return target.exists() and target.is_symlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a link to a file that is no longer in the cache
    target.symlink_to(cached.resolve())
    return True


# --- the transfer ---


def _fetch_item(item: Item, target: Path) -> Iterator[Transfer]:
    if target.is_file():  # fetched before, or by hand
        _check(item, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        yield from _received(item, part)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DownloadError(
            f"no room for {target.name} in {target.parent}: make room and run the same command again, "
            f"{_size(part) / 1e6:.0f} MB are kept"
        ) from error
    _check(item, part)
    part.replace(target)
    _validator(part).unlink(missing_ok=True)


def _received(item: Item, part: Path) -> Iterator[Transfer]:
    """Fetches the rest of a file, again where the connection breaks."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    started, failures = _size(part), 0
    while True:
        before = _size(part)
        try:
            yield from _stream(item, part)
            return
        except OfflineModeIsEnabled as error:
            raise _broken(item, part, error) from error
        except httpx2.HTTPError as error:
            failures = failures + 1 if _size(part) <= before else 1
            if _size(part) <= started or failures > ATTEMPTS or not _passing(error):
                raise _broken(item, part, error) from error
        time.sleep(min(LONGEST_WAIT, 2.0 ** (failures - 2)))


def _stream(item: Item, part: Path) -> Iterator[Transfer]:
    """One request: for the whole file, or for what is missing where the server still has the same file."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented

    have = _size(part)
    if item.size and have == item.size:
        return
    validator = _validator(part)
    headers = build_hf_headers(library_name="unclip") if item.from_hub else {}
    headers["Accept-Encoding"] = "identity"  # ranges count the bytes that are sent
    known = validator.read_text() if validator.is_file() else ""
    if have and (known or item.sha256):
        headers["Range"] = f"bytes={have}-"
        if known:
            headers["If-Range"] = known
    client = get_session()
    with client.stream("GET", item.url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as answer:
        if answer.status_code == RANGE_NOT_SATISFIABLE:
            if _of_range(answer) == have:  # nothing is missing; else it is another file by now
                return
            part.unlink()
        answer.raise_for_status()
        have = have if answer.status_code == PARTIAL_CONTENT else 0
        length = int(answer.headers.get("Content-Length", 0))
        total = have + length if length else item.size
        _check_room(part, total - have)
        strong = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        validator.write_text("" if strong.startswith("W/") else strong)
        with part.open("ab" if have else "wb") as file:
            for chunk in answer.iter_raw(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if item.size and have > item.size:
                    part.unlink()
                    validator.unlink()
                    raise DownloadError(
                        f"{item.url}: more comes than the {item.size} bytes that were to come"
                    )
                if total >= SMALL:
                    yield Transfer(item.path, have, total)
    if total and have != total:
        raise DownloadError(
            f"{item.url}: {have} bytes came, {total} were to come; run the same command again"
        )


def _check(item: Item, path: Path) -> None:
    """Removes a file that is not the published one, and says so."""
    if item.size and path.stat().st_size != item.size:
        found, expected = f"{path.stat().st_size} bytes", f"{item.size} bytes"
    elif item.sha256:
        found, expected = f"SHA-256 {sha256(path)}", f"SHA-256 {item.sha256}"
    elif item.git_sha1:
        found, expected = f"git SHA-1 {_git_sha1(path)}", f"git SHA-1 {item.git_sha1}"
    else:
        return
    if found != expected:
        path.unlink()
        _validator(path).unlink(missing_ok=True)
        raise DownloadError(
            f"{item.url} is not the published file ({found}, and {expected} was expected): it is removed; "
            "run the same command again, and if this stays so, somebody between here and there alters it"
        )


def _git_sha1(path: Path) -> str:
    """Git's name for a file of this content, by which the Hub knows small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, "No space left on device", str(part))


def _of_range(answer: httpx2.Response) -> int:
    """The file's length as an answer 416 states it: "bytes */LENGTH"."""
    _, _, length = answer.headers.get("Content-Range", "").rpartition("/")
    return int(length) if length.isdigit() else -1


def _passing(error: Exception) -> bool:
    """True where trying again may help."""
    import httpx2

    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code == TOO_MANY_REQUESTS or error.response.status_code >= 500
    return isinstance(error, httpx2.TransportError)


def _broken(item: Item, part: Path, error: Exception) -> DownloadError:
    reason = f"cannot fetch {item.url} ({_reason(error)})"
    if _size(part):
        return DownloadError(
            f"{reason}: {_size(part) / 1e6:.1f} MB are kept, the same command goes on from there"
        )
    return _OutOfReach(reason)


def _reason(error: Exception) -> str:
    """An error in a few words on one line."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, (httpx2.HTTPStatusError, HfHubHTTPError)):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    said = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
    return " ".join(said.split()) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _validator(part: Path) -> Path:
    """Holds what tells this version of the file from another: its ETag, or when it was changed."""
    return part.with_name(f"{part.name}.version")
