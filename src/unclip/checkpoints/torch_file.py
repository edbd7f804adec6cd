"""Torch's own files: zip archives (since 1.6), TorchScript archives, and the older stream of pickles.

What they describe is read by `unpickle`; the numbers stay where they are and are mapped when asked for.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unclip.checkpoints.pickle_values import Storage, StoredTensor
from unclip.checkpoints.unpickle import unpickle
from unclip.errors import CheckpointError, shown

MAGIC = 0x1950A86A20F9469CFC6C  # first value of the older stream
PROTOCOL = 1001
PICKLE = "data.pkl"
LARGEST_PICKLE = 2**26  # bytes; the largest real ones, with optimisers, have some megabytes
LARGEST_DIRECTORY = 2**24  # bytes of a zip archive's; each of its members takes some fifty
LOCAL_HEADER = 30  # bytes before a zip member's name
LITTLE = b"little"


def map_file(path: Path) -> mmap.mmap:
    """A file as memory that takes writes without passing them on. Raises CheckpointError for an empty one."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def numbers_at(memory: mmap.mmap, dtype: torch.dtype, count: int, first: int) -> Tensor:
    """(count,) numbers at byte `first` of a mapped file; a copy only where they lie at an odd place."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if first % dtype.itemsize:
        copy = bytearray(memory[first : first + count * dtype.itemsize])
        return torch.frombuffer(copy, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=first)


class _Archive(io.FileIO):
    """A zip archive whose directory, which `zipfile` reads at once, is of a size that is sensible."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {size} bytes, allowed are {LARGEST_DIRECTORY}")
        return super().read(size)


class TorchFile:
    """An open file: what it describes, and its numbers.

    Attributes:
        path: the file.
        content: what the pickle describes, made of `pickle_values`.
    """

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError where the file is broken, hostile or too old."""
        self.path = path
        self._map = map_file(path)
        self._places: dict[str, tuple[int, int]] = {}  # storage: first byte, bytes
        self.content = self._archive() if self._map[:2] == b"PK" else self._stream()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """A tensor, mapped from the file; what is written to it stays in memory.

        Raises CheckpointError where its numbers are not there.
        """
        place, size = self._place(stored.storage)
        item = stored.dtype.itemsize
        first = place + stored.storage.start * stored.storage.dtype.itemsize
        count = stored.storage.elements * stored.storage.dtype.itemsize // item
        if first + count * item > place + size:
            raise CheckpointError(
                f"{self.path}: storage {stored.storage.key} has {size} bytes and should have {count * item}: "
                "the file is cut off or altered"
            )
        numbers = numbers_at(self._map, stored.dtype, count, first)
        return numbers.as_strided(stored.shape, stored.stride, stored.offset)

    def _place(self, storage: Storage) -> tuple[int, int]:
        try:
            return self._places[storage.key]
        except KeyError:
            raise CheckpointError(
                f"{self.path}: storage {storage.key} is missing: the file is cut off or altered"
            ) from None

    def _archive(self) -> Any:
        """The members lie uncompressed in the file: anything else is no file of torch's."""
        try:
            with _Archive(self.path) as file, zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise CheckpointError(
                f"{self.path}: not a whole zip archive ({error}); download it again"
            ) from error
        pickles = [member.filename for member in members if Path(member.filename).name == PICKLE]
        if not pickles:
            raise CheckpointError(
                f"{self.path}: a zip archive without {PICKLE}: it is no checkpoint of torch's"
            )
        root = min(pickles, key=len).removesuffix(PICKLE)
        places = {
            member.filename.removeprefix(root): self._member(member)
            for member in members
            if member.filename.startswith((f"{root}data/", f"{root}{PICKLE}", f"{root}byteorder"))
        }
        start, size = places.pop("byteorder", (0, 0))
        if size and self._map[start : start + size] != LITTLE:
            raise CheckpointError(
                f"{self.path}: its numbers are big-endian: save it again on a common machine"
            )
        start, size = places.pop(PICKLE)
        if size > LARGEST_PICKLE:
            raise CheckpointError(f"{self.path}: its {PICKLE} has {size} bytes, allowed are {LARGEST_PICKLE}")
        self._places = {name.removeprefix("data/"): place for name, place in places.items()}
        return unpickle(io.BytesIO(self._map[start : start + size]), str(self.path)).value

    def _member(self, member: zipfile.ZipInfo) -> tuple[int, int]:
        """First byte and size of a member's content."""
        header = self._map[member.header_offset : member.header_offset + LOCAL_HEADER]
        if header[:4] != b"PK\3\4":
            raise CheckpointError(
                f"{self.path}: {member.filename} is not where the archive says: download it again"
            )
        start = (
            member.header_offset
            + LOCAL_HEADER
            + int.from_bytes(header[26:28], "little")
            + int.from_bytes(header[28:30], "little")
        )
        stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
        if not stored or member.flag_bits & 1:
            raise CheckpointError(
                f"{self.path}: {member.filename} is compressed ({member.compress_size} bytes that become "
                f"{member.file_size}) or encrypted, which torch's archives never are: refused"
            )
        if start + member.file_size > len(self._map):
            raise CheckpointError(
                f"{self.path}: {member.filename} should have {member.file_size} bytes, more than there are"
            )
        return start, member.file_size

    def _stream(self) -> Any:
        """Magic number, protocol, facts about the machine, the object, the storages' keys, the storages."""
        file, where = io.BytesIO(self._map[:LARGEST_PICKLE]), str(self.path)
        if unpickle(file, where).value != MAGIC:
            raise CheckpointError(
                f"{where}: a pickle, but not of torch.save: save it with torch or as safetensors"
            )
        if (protocol := unpickle(file, where).value) != PROTOCOL:
            raise CheckpointError(f"{where}: protocol {shown(protocol)} of torch.save, known is {PROTOCOL}")
        machine = unpickle(file, where).value
        if not isinstance(machine, Mapping) or not machine.get("little_endian", False):
            raise CheckpointError(f"{where}: its numbers are big-endian: save it again on a common machine")
        described = unpickle(file, where)
        keys = unpickle(file, where).value
        position = file.tell()
        for key in keys if isinstance(keys, list) else []:
            count = int.from_bytes(self._map[position : position + 8], "little")
            if not isinstance(key, (str, int)) or str(key) not in described.storages:
                raise CheckpointError(
                    f"{where}: nothing refers to its storage {shown(key)}: the file is altered"
                )
            size = count * described.storages[str(key)].dtype.itemsize
            position += 8
            if position + size > len(self._map):
                raise CheckpointError(
                    f"{where}: cut off: storage {key} ends behind the file; download it again"
                )
            self._places[str(key)] = (position, size)
            position += size
        return described.value
