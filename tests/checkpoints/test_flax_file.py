"""Promises of Flax's files: every array comes back, in one piece or in several, and nonsense is refused."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import msgpack
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unclip.checkpoints.weights import open_weights
from unclip.errors import CheckpointError


def packed(value: object) -> bytes:
    """MessagePack with Flax's arrays, by the specification: always the widest form but for small lengths."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return (
            bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xdb" + struct.pack(">I", len(data))
        ) + data
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, (list, tuple)):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdd" + struct.pack(">I", len(value))
        return head + b"".join(packed(item) for item in value)
    if isinstance(value, dict):
        items = b"".join(packed(key) + packed(item) for key, item in value.items())
        return (
            bytes([0x80 | len(value)]) if len(value) < 16 else b"\xdf" + struct.pack(">I", len(value))
        ) + items
    assert isinstance(value, Tensor)
    name = str(value.dtype).removeprefix("torch.")
    numbers = value.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b""
    content = packed((tuple(value.shape), name, numbers))
    return b"\xc9" + struct.pack(">I", len(content)) + b"\x01" + content


def test_arrays_of_every_type_come_back(tmp_path: Path) -> None:
    params = {
        "kernel": torch.arange(6.0).view(2, 3),
        "half": torch.tensor([0.5, 2.0], dtype=torch.float16),
        "brain": torch.tensor([[1.0, -3.0]], dtype=torch.bfloat16),
        "ids": torch.tensor([1, -2], dtype=torch.int32),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 2),
    }
    content = {"params": {"layers": {"0": params}}, "step": 12, "name": "x" * 40}
    (tmp_path / "flax_model.msgpack").write_bytes(packed(content))
    weights = open_weights(tmp_path)
    assert weights.extra["step"] == 12
    inside = weights.inside("params.layers.0")
    assert dict(inside.dtypes) == {name: tensor.dtype for name, tensor in params.items()}
    assert all(torch.equal(inside[name], tensor) for name, tensor in params.items())


def test_an_array_in_chunks_is_put_together(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    chunks = {"0": whole[:5], "1": whole[5:10], "2": whole[10:]}
    content = {"__msgpack_chunked_array__": True, "shape": {"0": 3, "1": 4}, "chunks": chunks}
    (tmp_path / "a.msgpack").write_bytes(packed({"w": content}))
    assert torch.equal(open_weights(tmp_path / "a.msgpack")["w"], whole.view(3, 4))
    chunks["2"] = whole[11:]
    (tmp_path / "a.msgpack").write_bytes(packed({"w": content}))
    with pytest.raises(CheckpointError, match="do not make up an array"):
        open_weights(tmp_path / "a.msgpack")


def test_flax_writes_what_is_read_here(tmp_path: Path) -> None:
    numbers = torch.arange(6, dtype=torch.float32).numpy()
    inner = msgpack.packb(((2, 3), "float32", numbers.tobytes()), use_bin_type=True)
    data = msgpack.packb({"a": {"b": msgpack.ExtType(1, inner)}, "n": -5, "x": 0.5, "t": [1, None, True]})
    (tmp_path / "a.msgpack").write_bytes(data)
    weights = open_weights(tmp_path / "a.msgpack")
    assert torch.equal(weights["a.b"], torch.arange(6.0).view(2, 3))
    assert weights.extra == {"n": -5, "x": 0.5, "t": [1, None, True]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 1000,
        b"\x81\xa1a\xd4\x05x",
        packed({"a": torch.ones(3)})[:-2],
        packed({"a": torch.ones(3)}).replace(b"float32", b"float99"),
        packed({"a": torch.ones(3)}).replace(packed(3), packed(4)),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.msgpack").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"a\.msgpack"):
        open_weights(tmp_path / "a.msgpack")


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.msgpack"
    path.write_bytes(data)
    with contextlib.suppress(CheckpointError):
        open_weights(path)
