"""Weight files of any kind as a read-only mapping from names to tensors, read when they are asked for.

Safetensors, torch's archives, TorchScript, whole pickled modules, torch's older stream, Flax's MessagePack:
in one file, or in several with an index. Nested dictionaries and modules become dotted names. No pickle is
executed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unclip.checkpoints.flax_file import Array, FlaxFile
from unclip.checkpoints.pickle_values import Global, Record, Storage, StoredTensor
from unclip.checkpoints.torch_file import TorchFile
from unclip.checkpoints.work import Work, extent
from unclip.config import load_json
from unclip.errors import CheckpointError, InputError, shown
from unclip.native import LONGEST_NAME, MOST_NAMES, open_safetensors

SAFETENSORS_TYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack")
# What a folder's weights are called by those who publish them, the preferred first.
FOLDER_NAMES = (
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "flax_model.msgpack",
)
MOST_SHARED = 16  # tensors that may hold the same numbers, as tied embeddings do
DEEPEST = 48  # nested dictionaries and modules
LARGEST_INDEX = 2**24  # bytes
MODULE_PARTS = ("_parameters", "_buffers", "_modules")
OMEGACONF = "omegaconf."  # its classes, whose objects also hold the object that they are part of
HELD = ("_content", "_val")  # the value of one of its containers, and of one of its leaves
TAR = slice(257, 262)


@dataclass(frozen=True)
class Entry:
    """One tensor that can be read."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


class Weights(Mapping[str, Tensor]):
    """Tensors by dotted name. `weights[name]` reads one anew, mapped from its file where that is possible.

    Attributes:
        where: the file or folder, for messages.
        entries: its tensors, unread.
        extra: plain values that stood beside the tensors, nested as they were.
    """

    def __init__(self, where: str, entries: Mapping[str, Entry], extra: Mapping[str, Any]) -> None:
        self.where = where
        self.entries = entries
        self.extra = extra

    def __getitem__(self, name: str) -> Tensor:
        return self.entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each tensor, without reading it."""
        return {name: entry.shape for name, entry in self.entries.items()}

    @cached_property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Type of each tensor, without reading it."""
        return {name: entry.dtype for name, entry in self.entries.items()}

    def inside(self, prefix: str) -> Weights:
        """Those whose names begin with `prefix` and a dot, under what follows.

        Raises:
            CheckpointError: there are none; the message says what there is.
        """
        start = f"{prefix}."
        found = {name[len(start) :]: entry for name, entry in self.entries.items() if name.startswith(start)}
        if not found:
            heads = sorted({name.partition(".")[0] for name in self.entries})
            raise CheckpointError(
                f"{self.where}: no tensors inside {prefix!r}: at the top it has {', '.join(heads[:8])}"
            )
        extra = self.extra
        for part in prefix.split("."):
            extra = extra.get(part, {}) if isinstance(extra, Mapping) else {}
        return Weights(f"{self.where}: {prefix}", found, extra if isinstance(extra, Mapping) else {})


def open_weights(path: Path | str) -> Weights:
    """Open a weight file, or a folder with one, without reading tensors.

    Args:
        path: a file of one of the kinds above (what it is, is judged by its content), the index of a file in
            several pieces, or a folder that holds one of those.

    Raises:
        CheckpointError: nothing there, several without a usual name, a kind that is not read, or a file that
            is broken or hostile.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    return _sharded(path) if path.name.endswith(".index.json") else _opened(path)


def _opened(path: Path) -> Weights:
    """One file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file")
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return _safetensors(path)
    if head[:2] == b"PK" or (head[:1] == b"\x80" and path.suffix != ".msgpack"):
        return _flattened(TorchFile(path))
    if head[TAR] == b"ustar":
        raise CheckpointError(
            f"{path}: a tar archive, as torch wrote before 0.1.10: load and save it with a torch of that time"
        )
    if path.suffix == ".msgpack":
        return _flattened(FlaxFile(path))
    raise CheckpointError(f"{path}: neither safetensors nor a file of torch's, nor .msgpack")


def count_children(names: Iterable[str], prefix: str) -> int:
    """The number of parts, of a list for example, whose names follow a prefix."""
    return len({name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)})


def _in_folder(folder: Path) -> Path:
    for name in FOLDER_NAMES:
        if (folder / name).is_file():
            return folder / name
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise CheckpointError(f"{folder}: one weight file is needed, found {found}: hand in the file itself")
    return files[0]


def _sharded(index: Path) -> Weights:
    """A file in several pieces: the index says which tensor is in which."""
    try:
        about = load_json(index, LARGEST_INDEX)
    except InputError as error:
        raise CheckpointError(f"{index}: not an index of weights ({error})") from error
    names = about.get("weight_map") if isinstance(about, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise CheckpointError(f"{index}: not an index of weights: it has no weight_map from names to files")
    strangers = [file for file in names.values() if Path(file).name != file]
    if strangers:
        raise CheckpointError(f"{index}: names {shown(strangers[0])}, outside its folder")
    pieces = {file: _opened(index.parent / file) for file in sorted(set(names.values()))}
    entries = {}
    for name, file in names.items():
        if name not in pieces[file]:
            raise CheckpointError(f"{index}: {name} should be in {file} and is not: download it again")
        entries[name] = pieces[file].entries[name]
    return Weights(str(index.parent), entries, {})


def _safetensors(path: Path) -> Weights:
    file = open_safetensors(path)
    entries = {}
    for name in file.keys():  # noqa: SIM118 - it is no mapping
        part = file.get_slice(name)
        if (kind := part.get_dtype()) not in SAFETENSORS_TYPES:
            raise CheckpointError(f"{path}: {shown(name)} is of the type {kind}, which is not read")
        read = partial(file.get_tensor, name)
        entries[name] = Entry(tuple(part.get_shape()), SAFETENSORS_TYPES[kind], read)
    return Weights(str(path), entries, file.metadata() or {})


def _flattened(file: TorchFile | FlaxFile) -> Weights:
    try:
        entries = {
            name: Entry(leaf.shape, leaf.dtype, partial(file.tensor, leaf))
            for name, leaf in _leaves(file.content, "", (), itertools.count(), Work())
        }
        extra = _plain(file.content, (), Work())
    except CheckpointError as error:
        raise CheckpointError(f"{file.path}: {error}") from None
    held = sum(math.prod(entry.shape) * entry.dtype.itemsize for entry in entries.values())
    if held > MOST_SHARED * (size := file.path.stat().st_size):
        raise CheckpointError(
            f"{file.path}: refused: a file of {size} bytes whose tensors, laid side by side, have {held}"
        )
    return Weights(str(file.path), entries, extra if isinstance(extra, dict) else {})


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The values inside a value, by name: of a module its parameters, buffers and modules alone."""
    value = _held(value)
    if isinstance(value, Record):
        parts = [value.state[part] for part in MODULE_PARTS if isinstance(value.state.get(part), dict)]
        left_out = value.state.get("_non_persistent_buffers_set")
        left_out = left_out if isinstance(left_out, (set, frozenset)) else ()
        for part in parts or [value.state]:
            yield from ((str(key), child) for key, child in part.items() if key not in left_out)
        yield from ((str(i), child) for i, child in enumerate(value.items))
    elif isinstance(value, dict):
        yield from ((str(key), child) for key, child in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(i), child) for i, child in enumerate(value))


def _held(value: Any) -> Any:
    """The value that an object of OmegaConf's holds, without its parent and types; any other value itself."""
    if not isinstance(value, Record) or not value.name.startswith(OMEGACONF):
        return value
    held = next((value.state[key] for key in HELD if key in value.state), None)
    return None if isinstance(held, Record) else held


def _leaves(
    value: Any, name: str, above: tuple[int, ...], steps: Iterator[int], work: Work
) -> Iterator[tuple[str, Any]]:
    """Every tensor below a value with its dotted name; `above` are the values that hold it, by `id`."""
    if len(above) > DEEPEST or next(steps) > MOST_NAMES:
        raise CheckpointError(
            f"refused: more than {MOST_NAMES} names, or nested deeper than {DEEPEST}: that is no checkpoint"
        )
    if isinstance(value, (StoredTensor, Array)):
        if len(name) > LONGEST_NAME:
            raise CheckpointError(f"refused: the name {shown(name)} has {len(name)} characters")
        yield name, value
        return
    above = (*above, id(value))
    for key, child in _children(value):
        work.spend(1 + extent(key))
        if isinstance(child, Record) and id(child) in above:
            continue  # an object that knows what it is part of
        if isinstance(child, (StoredTensor, Array, Record, dict, list, tuple)):
            inner = f"{name}.{key}" if name else key
            work.spend(extent(inner))
            yield from _leaves(child, inner, above, steps, work)


def _plain(value: Any, above: tuple[int, ...], work: Work) -> Any:
    """A value without its tensors: dictionaries, lists, texts and numbers; None for anything else."""
    value = _held(value)
    work.spend(1)
    if isinstance(value, Global):
        return value.name
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if len(above) > DEEPEST or id(value) in above or isinstance(value, (StoredTensor, Array, Storage)):
        return None
    above = (*above, id(value))
    if isinstance(value, (list, tuple, set)):
        return [_plain(item, above, work) for item in value]
    found = value.state if isinstance(value, Record) else value if isinstance(value, dict) else {}
    work.spend(sum(map(extent, found)))
    plain = {str(key): _plain(item, above, work) for key, item in found.items()}
    return {key: item for key, item in plain.items() if item not in (None, {}, [])}
