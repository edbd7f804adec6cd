"""Reads packages of npm (.tgz) and Debian (.deb) in place: nothing is unpacked to disk, installed or run."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from unclip.errors import DataError

AR_MAGIC = b"!<arch>\n"
GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"  # how compressed files begin
AR_HEADER = 60  # bytes: name 16, date 12, owner 6, group 6, mode 8, size 10, end 2 (man 5 ar)
PLAIN_DATA = ("data.tar", "data.tar.gz", "data.tar.xz", "data.tar.bz2")  # what tarfile reads
MEMBER_LIMIT = 256 * 2**20  # bytes
NAME_LIMIT = 2**15  # bytes of a long name and of what else is said of a file
SAMPLE_LIMIT = 64  # files
SAID_OF_NEXT = (b"x", b"g", b"X", b"L", b"K")  # types of headers that hold names: of pax, Solaris and GNU


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
        DataError: the archive is damaged or cut off, of an unknown kind, holds a wanted file of more than
            256 MiB, or names a path outside of itself.
    """
    for member, tar in _plain_files(archive):
        name = _safe_name(archive, member.name)
        if wanted(name):
            yield name, _content(archive, member, tar)


def samples(
    shard: Path, most: Callable[[str], int], leave_out: Callable[[str, str], None] | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields the samples of a webdataset shard: key, and content by ending in lower case, ".png".

    By webdataset's rule the key ends at the first dot of a name. Where keys have dots themselves, a second
    file of one kind begins another sample, if the first has a file of its very name beside it.

    Args:
        shard: a tar archive, plain or compressed.
        most: the bytes that a file of a name may have; of one that may have none only its name is read.
        leave_out: is told the name of a file that is too large, and why; without it that is an error.

    Raises:
        DataError: the shard is damaged or cut off, or holds a file that is too large, alone or with the
            others of its sample (256 MiB).
    """
    key, sample, room = "", dict[str, bytes](), MEMBER_LIMIT
    for member, tar in _plain_files(shard):
        path = PurePosixPath(member.name.replace("\\", "/"))
        stem, _, ending = path.name.partition(".")
        own, ending = str(path.parent / stem), f".{ending.lower()}"
        if sample and (own != key or len(sample) == SAMPLE_LIMIT or _begins_another(ending, sample)):
            yield key, sample
            sample, room = {}, MEMBER_LIMIT
        content = b""
        if limit := most(str(path)):
            try:
                content = _content(shard, member, tar, min(limit, room))
            except TooLarge as error:
                if leave_out is None:
                    raise
                leave_out(str(path), str(error))
                continue
        key, sample[ending] = own, content
        room -= len(content)
    if sample:
        yield key, sample


def _begins_another(ending: str, sample: Mapping[str, bytes]) -> bool:
    names = [other.rpartition(".") for other in sample]
    alike = [stem for stem, _, kind in names if kind == ending.rpartition(".")[2]]
    return ending in sample or any(sum(stem == own for stem, _, _ in names) > 1 for own in alike)


class TooLarge(DataError):
    """A file in an archive is too large to be held in memory."""


def _content(
    archive: Path, member: tarfile.TarInfo, tar: tarfile.TarFile, limit: int = MEMBER_LIMIT
) -> bytes:
    if not 0 <= member.size <= limit:
        raise TooLarge(f"{archive.name}: {member.name} has {member.size:,} bytes, more than {limit:,}")
    with _named(archive):
        file = tar.extractfile(member)
        assert file is not None  # it is a plain file
        return file.read()


def _plain_files(archive: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with _named(archive), _open_tar(archive) as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would grow with the archive
            if member.isfile():
                yield member, tar


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a reader of a broken archive raises nearly anything
        raise DataError(f"{archive} cannot be read ({error}): fetch it again") from error


class _Header(tarfile.TarInfo):
    """A header in an archive. What is none is an error; tarfile takes most of it for the archive's end."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # zeros, the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in SAID_OF_NEXT and header.size > NAME_LIMIT:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


class _Whole:
    """A file that is not read on behind its end: an archive says itself where it ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        if not content:
            raise EOFError("it is cut off")
        return content


def _safe_name(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataError(f"{archive.name} names a path outside of itself, {name!r}: do not use this archive")
    return str(path)


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    with (
        _debian_data(archive) if archive.suffix == ".deb" else archive.open("rb") as file,
        _unpacked(file) as plain,
        tarfile.open(fileobj=cast(IO[bytes], _Whole(plain)), mode="r|", tarinfo=_Header) as tar,
    ):
        yield tar


def _unpacked(file: IO[bytes]) -> IO[bytes]:
    """A file, decompressed where it is compressed. What tarfile itself does takes time by the square."""
    start = file.read(len(XZ))
    file.seek(0)
    for magic, opened in ((GZIP, gzip.open), (BZIP2, bz2.open), (XZ, lzma.open)):
        if start.startswith(magic):
            return cast(IO[bytes], opened(file))
    return file


def _debian_data(archive: Path) -> IO[bytes]:
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


def _dpkg_data(archive: Path, name: str) -> IO[bytes]:
    if shutil.which("dpkg-deb") is None:
        raise DataError(f"{archive.name} holds {name}, which only dpkg-deb can read: install dpkg")
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        return io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)
    except subprocess.CalledProcessError as error:
        raise DataError(
            f"{archive} cannot be read ({error.stderr.decode().strip()}): fetch it again"
        ) from error
