"""Promises of weight files: each kind is read tensor by tensor, exactly, and what is broken is named."""

from __future__ import annotations

import json
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unclip.checkpoints.torch_file import MAGIC
from unclip.checkpoints.weights import Weights, open_weights
from unclip.errors import CheckpointError


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Network(nn.Module):
    """A module with everything that is stored: parameters, buffers, modules, a list, plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.BatchNorm1d(4)])
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("steps", torch.arange(3))
        self.width = 17

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x) * self.scale


STATE = {
    "a.weight": torch.arange(12.0).view(3, 4),
    "a.transposed": torch.arange(6.0).view(2, 3).T,
    "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "half": torch.tensor([0.25], dtype=torch.float16),
    "count": torch.tensor(7),
    "flag": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


def same(weights: Weights, state: dict[str, Tensor]) -> None:
    assert list(weights) == list(state)
    for name, tensor in state.items():
        assert weights.shapes[name] == tuple(tensor.shape)
        assert weights.dtypes[name] == tensor.dtype == weights[name].dtype
        assert torch.equal(weights[name], tensor)


@pytest.mark.parametrize("modern", [True, False], ids=["archive", "stream"])
def test_a_file_of_torch_is_read_exactly(tmp_path: Path, modern: bool) -> None:
    parameters = {name: nn.Parameter(value, False) for name, value in STATE.items()}
    for state in (STATE, parameters):
        torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=modern)
        same(open_weights(tmp_path / "a.pt"), STATE)


@pytest.mark.parametrize("modern", [True, False], ids=["archive", "stream"])
def test_shared_storages_and_views_are_read_where_they_lie(tmp_path: Path, modern: bool) -> None:
    base = torch.arange(20.0)
    state = {"all": base, "part": base[4:10].view(2, 3), "again": base, "steps": base[1::3]}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=modern)
    same(open_weights(tmp_path / "a.pt"), state)


@pytest.mark.parametrize("modern", [True, False], ids=["archive", "stream"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module_is_its_parameters_and_buffers(tmp_path: Path, modern: bool) -> None:
    network = Network()
    torch.save(network, tmp_path / "a.pkl", _use_new_zipfile_serialization=modern)
    weights = open_weights(tmp_path / "a.pkl")
    assert weights.extra["width"] == 17
    assert set(weights) == set(network.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_a_torchscript_archive_is_its_parameters_and_buffers(tmp_path: Path) -> None:
    network = Network()
    network.layers = nn.ModuleList([network.layers[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as such
        torch.jit.trace(network, torch.ones(1, 3)).save(tmp_path / "a.pt")
    weights = open_weights(tmp_path / "a.pt")
    assert set(weights) == set(network.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_nested_dictionaries_become_dotted_names_and_the_rest_is_extra(tmp_path: Path) -> None:
    content = {
        "state_dict": {"a.weight": torch.ones(2), "b": torch.zeros(1)},
        "epoch": 3,
        "config": {"width": 8, "layers": [1, 2], "name": "x", "optimiser": {"lr": torch.ones(1)}},
        0: [torch.ones(3)],
    }
    torch.save(content, tmp_path / "a.ckpt")
    weights = open_weights(tmp_path / "a.ckpt")
    assert set(weights) == {"state_dict.a.weight", "state_dict.b", "config.optimiser.lr", "0.0"}
    assert weights.extra["epoch"] == 3
    assert weights.extra["config"] == {"width": 8, "layers": [1, 2], "name": "x"}
    inside = weights.inside("state_dict")
    same(inside, {"a.weight": torch.ones(2), "b": torch.zeros(1)})
    assert weights.inside("config").extra["width"] == 8
    with pytest.raises(
        CheckpointError, match="no tensors inside 'model': at the top it has 0, config, state_dict"
    ):
        weights.inside("model")


def test_safetensors_in_one_file_and_in_several(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in sorted(STATE.items())}
    save_file(state, tmp_path / "one.safetensors", {"note": "x"})
    one = open_weights(tmp_path / "one.safetensors")
    assert {name: one.shapes[name] for name in one} == {name: tuple(t.shape) for name, t in state.items()}
    assert all(torch.equal(one[name], tensor) for name, tensor in state.items())
    assert one.extra == {"note": "x"}
    folder = tmp_path / "several"
    folder.mkdir()
    save_file({"b": state["b"]}, folder / "model-1.safetensors")
    torch.save({"half": state["half"]}, folder / "model-2.bin")
    index = {"weight_map": {"half": "model-2.bin", "b": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    same(open_weights(folder), {"half": state["half"], "b": state["b"]})
    index["weight_map"]["half"] = "../one.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_weights(folder)


def test_a_folder_must_leave_no_choice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="one weight file is needed, found none"):
        open_weights(tmp_path)
    torch.save(STATE, tmp_path / "one.pt")
    same(open_weights(tmp_path), STATE)
    torch.save(STATE, tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match=r"found one.pt, two.pt: hand in the file itself"):
        open_weights(tmp_path)
    torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    same(open_weights(tmp_path), {"a": torch.ones(1)})


def test_what_is_written_to_a_tensor_does_not_reach_the_file(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    open_weights(tmp_path / "a.pt")["a"].fill_(5)
    assert (tmp_path / "a.pt").read_bytes() == before


@pytest.mark.parametrize("modern", [True, False], ids=["archive", "stream"])
def test_a_hostile_file_is_refused_and_nothing_is_run(tmp_path: Path, modern: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "a.pt"
    for content in (Evil(marker), {"state_dict": {"a": torch.ones(1), "b": [Evil(marker)]}}):
        torch.save(content, path, _use_new_zipfile_serialization=modern)
        with pytest.raises(CheckpointError, match=r"a.pt: refused, for it names posix.system"):
            open_weights(path)
        assert not marker.exists()


def rezipped(source: Path, target: Path, compression: int, **replaced: bytes) -> Path:
    """The same archive with members compressed, or with other content."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.infolist():
            content = replaced.get(member.filename.rpartition("/")[2].replace(".", "_"), old.read(member))
            new.writestr(member.filename, content)
    return target


def test_a_compressed_archive_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pt")
    bomb = rezipped(tmp_path / "a.pt", tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, data_pkl=bytes(10**7))
    assert bomb.stat().st_size < 10**5
    with pytest.raises(CheckpointError, match=r"data.pkl is compressed \(.* bytes that become 10000000\)"):
        open_weights(bomb)


def test_sizes_that_the_file_does_not_have_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(400)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    place = data.rindex(b"PK\x01\x02", 0, data.rindex(b"a/data/0"))  # the member's entry in the directory
    for field in (20, 24):  # compressed and real size
        data = data[: place + field] + struct.pack("<I", 2**31) + data[place + field + 4 :]
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(CheckpointError, match="data/0 should have 2147483648 bytes, more than there are"):
        open_weights(tmp_path / "a.pt")


def test_a_storage_that_is_too_small_or_missing_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(400)}, tmp_path / "a.pt")
    small = rezipped(tmp_path / "a.pt", tmp_path / "small.pt", zipfile.ZIP_STORED, **{"0": bytes(16)})
    weights = open_weights(small)
    with pytest.raises(CheckpointError, match="storage 0 has 16 bytes and should have 1600"):
        weights["a"]
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "none.pt", "w") as new:
        new.writestr("a/data.pkl", old.read("a/data.pkl"))
    weights = open_weights(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="storage 0 is missing"):
        weights["a"]


@pytest.mark.parametrize("kind", ["archive", "stream", "safetensors"])
def test_a_file_that_is_cut_off_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.pt"
    if kind == "safetensors":
        save_file({"a": torch.zeros(400)}, path)
    else:
        torch.save({"a": torch.zeros(400)}, path, _use_new_zipfile_serialization=kind == "archive")
    whole = path.read_bytes()
    for length in (0, 1, 2, 9, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            open_weights(path)


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello " * 100)
    with pytest.raises(CheckpointError, match="neither safetensors nor a file of torch's"):
        open_weights(tmp_path / "a.txt")
    (tmp_path / "a.tar").write_bytes(bytes(257) + b"ustar" + bytes(400))
    with pytest.raises(CheckpointError, match="a tar archive"):
        open_weights(tmp_path / "a.tar")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(CheckpointError, match=r"a zip archive without data.pkl"):
        open_weights(tmp_path / "a.zip")
    with pytest.raises(CheckpointError, match="no such weight file"):
        open_weights(tmp_path / "nothing.pt")


def test_lightnings_checkpoint_with_omegaconfs_settings_is_read(tmp_path: Path) -> None:
    """Frozen: data.pkl of `torch.save({"state_dict": {"w": ...}, "hyper_parameters": conf}, ...)`.

    By torch 2.13 in its protocol 2 (which writes int as `__builtin__ long`), conf of omegaconf 2.4, with a
    structured part in it (int, Optional[str], List[int], bool). Each of its values refers to its parent.
    """
    content = (Path(__file__).parents[1] / "fixtures" / "lightning-omegaconf.pkl").read_bytes()
    assert b"c__builtin__\nlong" in content
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    weights = open_weights(
        rezipped(tmp_path / "a.pt", tmp_path / "a.ckpt", zipfile.ZIP_STORED, data_pkl=content)
    )
    same(weights, {"state_dict.w": torch.ones(2)})
    model = {"width": 8, "sides": [16, 32], "flag": True}
    assert weights.extra["hyper_parameters"] == {"model": model, "rate": 0.5, "target": "a.b"}


def test_a_few_bytes_do_not_become_a_million_names(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    laughs = b"]"
    for _ in range(40):
        laughs = laughs + b"q\x000](h\x00h\x00e"  # a list that holds the last one twice
    rezipped(
        tmp_path / "a.pt", tmp_path / "laughs.pt", zipfile.ZIP_STORED, data_pkl=b"\x80\x02" + laughs + b"."
    )
    with pytest.raises(CheckpointError, match="more than 200000 names"):
        open_weights(tmp_path / "laughs.pt")
    itself = b"\x80\x02]q\x00h\x00a."
    rezipped(tmp_path / "a.pt", tmp_path / "itself.pt", zipfile.ZIP_STORED, data_pkl=itself)
    with pytest.raises(CheckpointError, match="nested deeper"):
        open_weights(tmp_path / "itself.pt")


def test_the_older_stream_is_told_by_its_first_number(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02K\x05.")
    with pytest.raises(CheckpointError, match=r"a pickle, but not of torch.save"):
        open_weights(tmp_path / "a.pkl")
    number = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02" + number + b".\x80\x02K\x05.")
    with pytest.raises(CheckpointError, match=r"protocol 5 of torch.save, known is 1001"):
        open_weights(tmp_path / "a.pkl")


class Settings:
    """An object that knows what it is part of, as OmegaConf's are."""

    def __init__(self, parent: Settings | None = None) -> None:
        self.parent = parent
        self.width = 3
        self.inner = [Settings(self), Settings(self)] if parent is None else []


def test_objects_that_refer_to_what_holds_them_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": Settings()}, tmp_path / "a.ckpt")
    weights = open_weights(tmp_path / "a.ckpt")
    assert list(weights) == ["state_dict.a"]
    assert weights.extra["config"]["inner"] == [{"width": 3}, {"width": 3}]
