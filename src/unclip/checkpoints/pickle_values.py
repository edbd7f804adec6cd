"""Values that a pickle may describe, none of which can do anything, and the calls that may make them.

Names stay names, objects are records of what they hold, tensors say where their numbers lie. Of the functions
that torch's and numpy's own pickles call, `CALLS` has our replacements; any other call is refused, and so is
every mention of Python's standard library but for `HARMLESS`.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from unclip.checkpoints.work import Work, extent, is_count, is_shape
from unclip.errors import CheckpointError, shown

STORAGE_TYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
# Names of the standard library that stand in checkpoints as classes or values; never called but in CALLS.
HARMLESS = {
    "argparse.Namespace",
    "builtins.bool",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.object",
    "builtins.str",
    "builtins.tuple",
    "functools.partial",
    "typing.Any",
    "typing.Dict",
    "typing.List",
    "typing.Optional",
    "typing.Tuple",
    "typing.Union",
}
LONGEST_NAME = 1000  # characters of a class's or storage's
LARGEST_KEY = 2**60  # beyond it a number is not its own hash
NUMPY_TYPE = re.compile(r"[<=|]?([biuf][1248])")
STRUCT_CODES = dict(
    zip(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"], "?bhiqBHIQefd", strict=True)
)


@dataclass(frozen=True)
class Global:
    """A name that a pickle mentions, "module.name"; nothing stands behind it."""

    name: str


class Record:
    """An object of a class that is not imported: the class's name, and what the pickle says it holds."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: dict[Any, Any] = {}
        self.items: list[Any] = []

    def build(self, state: Any, work: Work) -> None:
        """Take over a state: attributes, or a pair of attributes and slots."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if all(part is None or isinstance(part, dict) for part in parts):
            for part in parts:
                work.spend(extent(part))
                self.state.update(part or {})
        else:
            self.state["state"] = state


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers of one type that lie outside the pickle under a key."""

    key: str
    dtype: torch.dtype
    elements: int
    start: int = 0  # first element, where it is a view of another storage


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Where a tensor's numbers lie: offset and strides count elements of `dtype`."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def refused(what: str) -> CheckpointError:
    """The error for a file that does `what`."""
    return CheckpointError(
        f"refused, for it {what}, and a checkpoint needs nothing of the kind: nothing of it was run; "
        "get the weights from somebody you trust, best as safetensors"
    )


# --- the calls that torch's and numpy's own pickles make ---


def _tensor(
    storage: Storage,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    *rest: Any,
    dtype: torch.dtype | None = None,
) -> StoredTensor:
    """torch._utils._rebuild_tensor and _v2: what follows the strides concerns gradients only."""
    strides = isinstance(stride, (tuple, list)) and all(map(is_count, stride))
    if not (isinstance(storage, Storage) and is_count(offset) and is_shape(shape) and strides):
        raise refused(
            f"has an impossible tensor ({shown(shape)}, strides {shown(stride)}, offset {shown(offset)})"
        )
    dtype = dtype or storage.dtype
    elements = storage.elements * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    count = math.prod(shape)
    # a tensor with more elements than its storage repeats them: a small file that unfolds to any size
    if count and (last >= elements or count > elements):
        raise refused(f"describes a tensor {list(shape)} that its {elements} stored numbers do not hold")
    return StoredTensor(storage, dtype, offset, tuple(shape), tuple(stride))


def _typed_tensor(
    storage: Storage,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    hooks: Any,
    dtype: Global,
    *rest: Any,
) -> StoredTensor:
    """torch._utils._rebuild_tensor_v3: an untyped storage, and the type beside it."""
    found = vars(torch).get(dtype.name.removeprefix("torch."))
    if not isinstance(found, torch.dtype):
        raise refused(f"has a tensor of the type {dtype.name}")
    return _tensor(storage, offset, shape, stride, dtype=found)


def _parameter(data: StoredTensor, *rest: Any) -> StoredTensor:
    return data


def _from_type(function: Global, kind: Global, arguments: tuple[Any, ...], state: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with Python attributes, which are left out."""
    if function.name not in TENSORS:
        raise refused(f"calls {function.name} for a tensor")
    return CALLS[function.name](*arguments)


def _reconstruct(kind: Global, base: Global, state: Any) -> Record:
    """copyreg._reconstructor: an object of a class, made without calling it."""
    return Record(kind.name)


def _encode(text: str, codec: str) -> bytes:
    """_codecs.encode: how old protocols write bytes."""
    if codec not in ("latin1", "latin-1"):
        raise refused(f"encodes text as {codec}")
    return text.encode("latin-1")


def _numpy_scalar(dtype: Record, data: bytes) -> float:
    """numpy.core.multiarray.scalar: one number."""
    kind = dtype.arguments[0]
    match = NUMPY_TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if match is None or match[1] not in STRUCT_CODES:
        raise refused(f"has a numpy scalar of the type {shown(kind)}")
    return struct.unpack(f"<{STRUCT_CODES[match[1]]}", data)[0]


def _dictionary(work: Work, items: Any = ()) -> dict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    return {as_key(key, work): value for key, value in pairs}


def as_set(work: Work, items: Iterable[Any] = ()) -> set[Any]:
    """A set of values that may be keys."""
    return {as_key(item, work) for item in items}


def _path(*parts: str) -> str:
    return "/".join(parts)


def _parametrised(kind: Any, parameters: Any) -> Global:
    """operator.getitem: how `typing.List[int]` is written, the type of a field of a structured config."""
    if not isinstance(kind, Global) or not kind.name.startswith("typing."):
        raise refused(f"takes an item of a {describe(kind)}")
    return kind


def _type_of_none(value: None) -> Global:
    """The type of None, as `typing.Optional` has it: the only one that is written as a call of `type`."""
    if value is not None:
        raise refused(f"asks for the type of a {describe(value)}")
    return Global("types.NoneType")


def _first(value: Any, *rest: Any) -> Any:
    return value


CONTAINERS: dict[str, Callable[..., Any]] = {  # their keys are weighed
    "collections.Counter": _dictionary,
    "collections.OrderedDict": _dictionary,
    "builtins.frozenset": as_set,
    "builtins.set": as_set,
}
TENSORS = (
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _first,
    "torch.device": _first,
    "torch.serialization._get_layout": _first,
    "torch.jit._pickle.build_boollist": _first,
    "torch.jit._pickle.build_doublelist": _first,
    "torch.jit._pickle.build_intlist": _first,
    "torch.jit._pickle.build_tensorlist": _first,
    "torch.jit._pickle.restore_type_tag": _first,
    "collections.defaultdict": lambda *factory: {},
    "builtins.bytes": lambda: b"",  # how old protocols write it
    "builtins.type": _type_of_none,
    "copyreg._reconstructor": _reconstruct,
    "_codecs.encode": _encode,
    "_operator.getitem": _parametrised,
    "numpy.dtype": lambda *arguments: Record("numpy.dtype", arguments),
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy.core.multiarray._reconstruct": lambda *arguments: Record("numpy.ndarray", arguments),
    "numpy._core.multiarray._reconstruct": lambda *arguments: Record("numpy.ndarray", arguments),
    "functools.partial": lambda *arguments: Record("functools.partial", arguments),
    "pathlib.PosixPath": _path,
    "pathlib.WindowsPath": _path,
    "pathlib._local.PosixPath": _path,  # Python 3.13
    "pathlib._local.WindowsPath": _path,
}
CALL = 4  # steps, for what is made has attributes
KEYS = (str, bytes, int, float, type(None), Global, Record, StoredTensor)
DEAR = 1000  # steps, for many tuples and many large numbers can be chosen that have one hash
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# Python 3's int and str in protocol 2, which torch writes: types of OmegaConf's values in Lightning's files
PYTHON_2_TYPES = {"builtins.long": "builtins.int", "builtins.unicode": "builtins.str"}


def as_key(key: Any, work: Work) -> Any:
    """A key as it is. Refuses what is none: to hash tuples nested a million deep ends the whole process."""
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, KEYS):
            raise refused(f"has a {describe(part)} as a key")
    if isinstance(key, tuple) or (isinstance(key, int) and abs(key) > LARGEST_KEY):
        work.spend(DEAR + extent(key))
    return key


def mention(module: str, name: str) -> Global:
    """A name. Raises CheckpointError for one of the standard library that no checkpoint needs."""
    if len(module) + len(name) > LONGEST_NAME:
        raise refused(f"has a name of {len(module) + len(name)} characters")
    module = PYTHON_2.get(module, module)
    full = PYTHON_2_TYPES.get(f"{module}.{name}", f"{module}.{name}")
    standard = module.partition(".")[0] in sys.stdlib_module_names
    if standard and not (full in HARMLESS or full in CALLS or full in CONTAINERS):
        raise refused(f"names {full}")
    return Global(full)


def call(function: Any, arguments: Any, work: Work) -> Any:
    """The value that a call gives. Raises CheckpointError for one that is not in `CALLS`."""
    if not isinstance(function, Global) or not isinstance(arguments, tuple):
        raise refused(f"calls something that is no function ({describe(function)})")
    work.spend(CALL + len(arguments) + sum(map(extent, arguments)))
    if function.name in CONTAINERS:
        return CONTAINERS[function.name](work, *arguments)
    if function.name not in CALLS:
        raise refused(f"calls {function.name}")
    return CALLS[function.name](*arguments)


def new_object(kind: Any, arguments: Any, work: Work) -> Any:
    """An object of a class: a container that we know, or a record."""
    if not isinstance(kind, Global) or not isinstance(arguments, tuple):
        raise refused(f"makes an object of something that is no class ({describe(kind)})")
    if kind.name in CALLS or kind.name in CONTAINERS:
        return call(kind, arguments, work)
    work.spend(CALL)
    return Record(kind.name, arguments)


def describe(value: Any) -> str:
    """The name of a name or of a record's class, else of the value's type."""
    return value.name if isinstance(value, (Global, Record)) else type(value).__name__


def stored(identity: Any) -> Storage | Global:
    """The storage that a persistent id stands for: ("storage", type, key, device, elements[, view])."""
    if isinstance(identity, tuple) and identity[:1] == ("module",):
        return Global(describe(identity[1]))  # old files: a class, with its source code
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise refused("refers to something outside of it that is no storage of torch's")
    _, kind, key, _, elements, *view = identity
    start = 0
    if view and view[0] is not None:
        _, start, elements = view[0]
    name = describe(kind).rpartition(".")[2]
    if name not in STORAGE_TYPES or not all(map(is_count, (start, elements))):
        raise refused(
            f"has an impossible storage ({describe(kind)}, {shown(elements)} elements from {shown(start)})"
        )
    if not isinstance(key, (str, int)) or len(str(key)) > LONGEST_NAME:
        raise refused(f"has a storage called {shown(key)}")
    return Storage(str(key), STORAGE_TYPES[name], elements, start)
