"""Promises of the restricted unpickler: it reads what torch writes, and runs nothing whatever a file says."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unclip.checkpoints.pickle_values import Global, Record
from unclip.checkpoints.unpickle import unpickle
from unclip.errors import CheckpointError


def read(data: bytes) -> Any:
    return unpickle(io.BytesIO(data), "file").value


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


class Calls:
    """Pickled, it becomes a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Plain:
    """Pickled, it becomes an object with a state."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.sets(st.integers())
    ),
    max_leaves=10,
)


@given(plain_values, st.integers(0, 5))
def test_plain_values_come_back_in_every_protocol(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_numpys_numbers_are_understood(protocol: int) -> None:
    value = {
        "ordered": OrderedDict(a=1, b=2),
        "default": defaultdict(list, a=[1]),
        "counter": Counter("aab"),
        "float": np.float64(0.5),
        "int": np.int64(-7),
        "half": np.float16(2),
        "path": Path("a/b"),
    }
    found = read(pickle.dumps(value, protocol))
    assert found == {
        "ordered": {"a": 1, "b": 2},
        "default": {"a": [1]},
        "counter": {"a": 2, "b": 1},
        "float": 0.5,
        "int": -7,
        "half": 2.0,
        "path": "a/b",
    }


@pytest.mark.parametrize("protocol", range(6))
def test_an_object_becomes_a_record_of_its_state(protocol: int) -> None:
    found = read(pickle.dumps(Plain(width=3, inner=Plain(name="x")), protocol))
    assert isinstance(found, Record)
    assert found.name == f"{__name__}.Plain"
    assert found.state["width"] == 3
    assert found.state["inner"].state == {"name": "x"}


def test_the_name_of_a_function_that_is_no_libraries_business_stays_a_name() -> None:
    assert read(b"ctorch.nn.functional\nrelu\n.") == Global("torch.nn.functional.relu")


def test_the_types_of_python_2_and_of_typing_are_names() -> None:
    for name in ("long", "unicode", "bool"):
        known = {"long": "int", "unicode": "str"}.get(name, name)
        assert read(f"c__builtin__\n{name}\n.".encode()) == Global(f"builtins.{known}")
    for name in ("List", "Dict", "Union"):  # typing.List[int], as pickle writes it
        item = f"c_operator\ngetitem\n(ctyping\n{name}\nc__builtin__\nint\ntR."
        assert read(item.encode()) == Global(f"typing.{name}")
    assert read(pickle.dumps(type(None), 2)) == Global("types.NoneType")


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Pickles that would do something in the usual reader: most of them make the file `ran`."""
    marker = tmp_path / "ran"
    command = f"touch {marker}"
    python = f"open({str(marker)!r}, 'w')"
    system = b"cposix\nsystem\n"
    argument = text(command)
    return {
        "os.system": pickle.dumps(Calls(os.system, command)),
        "eval": pickle.dumps(Calls(eval, python)),
        "exec, oldest protocol": pickle.dumps(Calls(exec, python), 0),
        "nested": pickle.dumps({"state_dict": [1, ({"a": Calls(os.system, command)},)]}),
        "in the state of an object": pickle.dumps(Plain(weight=Plain(inner=Calls(eval, python)))),
        "as a key": pickle.dumps({Plain(): Calls(os.system, command)}),
        "getattr": pickle.dumps(Calls(getattr, "text", "upper")),
        "apply": b"c__builtin__\napply\n" + system + b"(" + argument + b"tR.",
        "found in the memo": system + b"q\x010h\x01(" + argument + b"tR.",
        "stack global": text("posix") + text("system") + b"\x93(" + argument + b"tR.",
        "instance": b"(" + argument + b"iposix\nsystem\n.",
        "object": b"(" + system + argument + b"o.",
        "new object": system + b"(" + argument + b"t\x81.",
        "new object with keywords": system + b"(" + argument + b"t}\x92.",
        "third-party function": b"ctorch.hub\nload\n(" + argument + b"tR.",
        "load from bytes": b"ctorch.storage\n_load_from_bytes\n(" + argument + b"tR.",
        "partial, called": b"cfunctools\npartial\n(ctorch.hub\nload\ntR(" + argument + b"tR.",
        "a record, called": b"cmy.module\nModel\n)\x81(" + argument + b"tR.",
        "a class, called": b"cmy.module\nModel\n(" + argument + b"tR.",
        "from type": b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch.hub\nload\nN)NtR.",
        "state of a name": b"cmy.module\nModel\n}" + text("x") + argument + b"sb.",
        "state of an allowed function": b"ctorch._utils\n_rebuild_tensor_v2\n}"
        + text("x")
        + argument
        + b"sb.",
        "state of a list": b"]}" + text("x") + argument + b"sb.",
        "codec": b"c_codecs\nencode\n(" + argument + text("rot13") + b"tR.",
        "extension registry": b"\x82\x01.",
        "persistent id": b"(" + text("file") + argument + b"tQ.",
        "type": b"c__builtin__\ntype\n(" + argument + b"tR.",
        "item of a text": b"c_operator\ngetitem\n(" + argument + b"K\x00tR.",
        "item of a function": b"c_operator\ngetitem\n(ctorch.hub\nload\nK\x00tR.",
        "mentioned only": b"(csubprocess\nPopen\nt.",
    }


CASES = tuple(hostile(Path()))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_pickle_is_refused_and_nothing_is_run(tmp_path: Path, case: str) -> None:
    with pytest.raises(CheckpointError, match="file: refused, for it .* nothing of it was run"):
        read(hostile(tmp_path)[case])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"no pickle",
        pickle.dumps({"a": [1, 2, 3]})[:-4],
        b".",
        b"0.",
        b"h\x05.",  # a memo that is not there
        b"R.",
        b"K\x01K\x02.",  # two values left over
        b"I" + b"9" * 5000 + b"\n.",  # Python refuses to convert so many digits
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",  # too few arguments
    ],
)
def test_a_broken_pickle_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="file: "):
        read(data)


def test_what_is_nested_without_end_does_not_end_the_process() -> None:
    deep = b")" + b"\x85" * 200_000  # a tuple in a tuple in a tuple
    with pytest.raises(CheckpointError, match="as a key"):
        read(b"}" + deep + b"K\x01s.")
    with pytest.raises(CheckpointError, match="as a key"):
        read(b"c__builtin__\nset\n(]" + deep + b"atR.")


def tensor(shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, elements: int = 6) -> bytes:
    """A tensor over a storage of `elements` float32."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    identity = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    identity += b"J" + struct.pack("<i", elements) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + identity
        + b"J"
        + struct.pack("<i", offset)
        + numbers(shape)
        + numbers(stride)
        + b"\x89NtR."
    )


def test_a_tensor_is_where_its_numbers_lie() -> None:
    found = read(tensor((2, 3), (1, 2)))
    assert (found.shape, found.stride, found.storage.key) == ((2, 3), (1, 2), "0")


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "elements"),
    [
        ((2, 4), (4, 1), 0, 6),  # more than there is
        ((2, 3), (3, 1), 1, 6),  # begins too late
        ((1000, 1000, 1000), (0, 0, 0), 0, 6),  # one number a thousand million times
        ((-1, 3), (3, 1), 0, 6),
        ((2, 3), (-3, 1), 5, 6),
        ((2, 3), (3, 1), -1, 6),
        ((2, 3), (3, 1), 0, -6),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int, elements: int
) -> None:
    with pytest.raises(CheckpointError, match="refused"):
        read(tensor(shape, stride, offset, elements))
