"""Reads packages of npm (.tgz) and Debian (.deb) in place: nothing is unpacked to disk, installed or run."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from unclip.errors import DataError

AR_MAGIC = b"!<arch>\n"
AR_HEADER = 60  # bytes: name 16, date 12, owner 6, group 6, mode 8, size 10, end 2 (man 5 ar)
PLAIN_DATA = ("data.tar", "data.tar.gz", "data.tar.xz", "data.tar.bz2")  # what tarfile reads
MEMBER_LIMIT = 256 * 2**20  # bytes


def find(folder: Path, pattern: str) -> Path:
    """The archive in `folder` that matches `pattern`; of several the last by name.

    Raises:
        DataError: there is none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise DataError(
            f"no archive {pattern} in {folder}: fetch it, or let `unclip data pictograms` fetch it"
        )
    return found[-1]


def members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yields (name, content) of the plain files in `archive` whose name is `wanted`, in the archive's
    order.

    Names are relative, with `/`, without a leading `./`. Links and devices are passed over.

    Raises:
        DataError: the archive is damaged, of an unknown kind, or names a path outside of itself.
    """
    try:
        with _open_tar(archive) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = _safe_name(archive, member.name)
                if not wanted(name):
                    continue
                if member.size > MEMBER_LIMIT:
                    raise DataError(
                        f"{archive.name}: {name} has {member.size:,} bytes, more than {MEMBER_LIMIT:,}"
                    )
                content = tar.extractfile(member)
                assert content is not None  # isfile() was true
                yield name, content.read()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{archive} cannot be read ({error}): fetch it again") from error


def samples(shard: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the samples of a webdataset shard: key, and content by ending in lower case, ".png".

    Raises:
        DataError: as `members`.
    """
    parts = ((PurePosixPath(name), content) for name, content in members(shard, wanted))
    # webdataset's rule: the key ends at the first dot
    for key, files in groupby(parts, lambda part: str(part[0].parent / part[0].name.partition(".")[0])):
        yield key, {f".{path.name.partition('.')[2].lower()}": content for path, content in files}


def _safe_name(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(f"{archive.name} names a path outside of itself, {name!r}: do not use this archive")
    return str(path)


def _open_tar(archive: Path) -> tarfile.TarFile:
    if archive.suffix == ".deb":
        return tarfile.open(fileobj=_debian_data(archive), mode="r|*")
    return tarfile.open(archive, mode="r|*")


def _debian_data(archive: Path) -> io.BufferedIOBase:
    """The data.tar of a Debian package, still compressed by xz or gzip; zstd is left to dpkg-deb."""
    with archive.open("rb") as file:
        if file.read(len(AR_MAGIC)) != AR_MAGIC:
            raise DataError(f"{archive} is not a Debian package: fetch it again")
        while len(header := file.read(AR_HEADER)) == AR_HEADER and header.endswith(b"`\n"):
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name in PLAIN_DATA:
                return io.BytesIO(file.read(size))
            if name.startswith("data.tar"):
                return _dpkg_data(archive, name)
            file.seek(size + size % 2, io.SEEK_CUR)
    raise DataError(f"{archive} has no data.tar: fetch it again")


def _dpkg_data(archive: Path, name: str) -> io.BufferedIOBase:
    if shutil.which("dpkg-deb") is None:
        raise DataError(f"{archive.name} holds {name}, which only dpkg-deb can read: install dpkg")
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        return io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)
    except subprocess.CalledProcessError as error:
        raise DataError(
            f"{archive} cannot be read ({error.stderr.decode().strip()}): fetch it again"
        ) from error
