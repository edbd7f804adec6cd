"""Flax's checkpoints: nested dictionaries of arrays in MessagePack, with arrays as extensions of its own.

Format: msgpack's specification (github.com/msgpack/msgpack) and flax/serialization.py: extension 1 is an
array as (shape, name of the type, bytes); arrays above a gigabyte come as a dictionary of flat chunks.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unclip.checkpoints.torch_file import map_file, numbers_at
from unclip.checkpoints.work import LETTERS, Work, is_shape
from unclip.errors import CheckpointError, shown

ARRAY, SCALAR = 1, 3  # extension codes
CHUNKED = "__msgpack_chunked_array__"
DEEPEST = 64
TYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
# first byte: format of the number that follows
NUMBERS = {
    byte: form
    for first, forms in ((0xCA, "f d"), (0xCC, "B H I Q"), (0xD0, "b h i q"))
    for byte, form in enumerate((f">{letter}" for letter in forms.split()), first)
}
LENGTHS = {
    "bytes": {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"},
    "text": {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"},
    "list": {0xDC: ">H", 0xDD: ">I"},
    "map": {0xDE: ">H", 0xDF: ">I"},
    "extension": {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"},
}
LENGTH_OF = {byte: (what, form) for what, forms in LENGTHS.items() for byte, form in forms.items()}


@dataclass(frozen=True)
class Array:
    """Where an array's numbers lie: in one piece, or in several one after the other."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]  # first byte, numbers


class FlaxFile:
    """An open file: `content` holds dictionaries, lists, plain values and `Array`."""

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError where it is not a whole file of this format."""
        self.path = path
        self._map = map_file(path)
        try:
            self.content = _Reader(self._map, 0, Work()).value()
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise CheckpointError(
                f"{path}: not a whole MessagePack file of Flax ({error}); download it again"
            ) from error

    def tensor(self, array: Array) -> Tensor:
        """An array as a tensor, mapped from the file where it is in one piece."""
        pieces = [numbers_at(self._map, array.dtype, count, first) for first, count in array.pieces]
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(array.shape)


class _Reader:
    def __init__(self, memory: mmap.mmap, position: int, work: Work) -> None:
        self.memory = memory
        self.position = position
        self.work = work

    def value(self, depth: int = 0) -> Any:
        """The value at the position, which moves behind it."""
        self.work.spend(1)
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST}")
        byte = self.memory[self.skip(1)]
        if byte <= 0x7F or byte >= 0xE0:
            return byte if byte <= 0x7F else byte - 0x100
        if byte in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[byte]
        if byte in NUMBERS:
            return self.number(NUMBERS[byte])
        if 0xD4 <= byte <= 0xD8:
            return self.extension(1 << (byte - 0xD4))
        if byte <= 0x8F:
            return self.map(byte & 0x0F, depth)
        if byte <= 0x9F:
            return self.list(byte & 0x0F, depth)
        if byte <= 0xBF:
            return self.text(byte & 0x1F)
        what, form = LENGTH_OF[byte]
        length = self.number(form)
        if what == "bytes":
            return self.raw(length)
        if what == "text":
            return self.text(length)
        if what == "extension":
            return self.extension(length)
        return self.map(length, depth) if what == "map" else self.list(length, depth)

    def skip(self, count: int) -> int:
        """Move on by `count` bytes; returns where they begin."""
        start = self.position
        if start + count > len(self.memory):
            raise ValueError(f"{count} bytes are to follow at {start}, the file has {len(self.memory)}")
        self.position += count
        return start

    def number(self, form: str) -> Any:
        return struct.unpack_from(form, self.memory, self.skip(struct.calcsize(form)))[0]

    def raw(self, length: int) -> bytes:
        self.work.spend(length // LETTERS)
        start = self.skip(length)
        return self.memory[start : start + length]

    def text(self, length: int) -> str:
        return self.raw(length).decode("utf-8")

    def list(self, length: int, depth: int) -> list[Any]:
        return [self.value(depth + 1) for _ in range(length)]

    def map(self, length: int, depth: int) -> Any:
        found = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if not isinstance(key, (str, int)):
                raise ValueError(f"a key of the type {type(key).__name__}")
            found[key] = self.value(depth + 1)
        return _joined(found) if CHUNKED in found else found

    def extension(self, length: int) -> Any:
        code = self.number(">b")
        end = self.skip(length) + length
        if code not in (ARRAY, SCALAR):
            raise ValueError(f"extension {code}, known are {ARRAY} (array) and {SCALAR} (scalar)")
        inner = _Reader(self.memory, end - length, self.work)
        if inner.memory[inner.skip(1)] != 0x93:
            raise ValueError("an array that is not of three parts")
        shape, name = inner.value(), inner.value()
        _, form = LENGTH_OF[inner.memory[inner.skip(1)]]
        size = inner.number(form)
        start = inner.skip(size)
        if not is_shape(shape) or name not in TYPES:
            raise ValueError(f"an array {shown(shape)} of the type {shown(name)}")
        dtype, count = TYPES[name], math.prod(shape)
        if count * dtype.itemsize != size or start + size != end:
            raise ValueError(f"an array {shown(shape)} of {name} in {size} bytes")
        return Array(dtype, tuple(shape), ((start, count),))


def _joined(chunked: dict[Any, Any]) -> Array:
    """An array that was too large for one piece."""
    shape = tuple(chunked["shape"][str(i)] for i in range(len(chunked["shape"])))
    chunks: list[Array] = [chunked["chunks"][str(i)] for i in range(len(chunked["chunks"]))]
    pieces = tuple(piece for chunk in chunks for piece in chunk.pieces)
    alike = {chunk.dtype for chunk in chunks} == {chunks[0].dtype}
    if not is_shape(shape) or not alike or sum(count for _, count in pieces) != math.prod(shape):
        raise ValueError(f"chunks that do not make up an array {shown(shape)}")
    return Array(chunks[0].dtype, shape, pieces)
