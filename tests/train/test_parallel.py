"""Two processes train what one would: the same weights, on every rank, in every way of sharing the work."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from support import parallel_worker
from support.tiny_task import TinyTask
from unclip import native
from unclip.errors import TrainingError
from unclip.train import loop, parallel
from unclip.train.log import read_metrics

Results = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parallel")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "support.parallel_worker", str(folder)]
    processes = [subprocess.Popen(command, env={**common, "RANK": str(rank)}) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that one process finds, plain and with SAM."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "noise_generator", loop.noise_generator)  # put back afterwards
        parallel_worker.same_draws_on_every_rank()
        for name, rho in (("alone", 0.0), ("alone-sam", parallel_worker.SAM_RHO)):
            task = parallel_worker.Shares()
            loop.train(task, parallel_worker.settings(1, sam_rho=rho), folder / name)
            found[name] = {key: tensor.detach() for key, tensor in task.model.state_dict().items()}
    return found


@pytest.mark.parametrize(
    "way",
    ["ddp", "accumulated", "fsdp", "sam", "sam-fsdp", "resumed-fsdp", "poisoned", "powersgd"],
)
def test_ranks_stay_the_same_to_the_bit(results: Results, way: str) -> None:
    first, second = (result[way]["weights"] for result in results)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("way", ["ddp", "accumulated", "fsdp", "resumed-fsdp", "sam", "sam-fsdp"])
def test_two_processes_equal_one(results: Results, alone: dict[str, Any], way: str) -> None:
    expected = alone["alone-sam" if "sam" in way else "alone"]
    for name, tensor in results[0][way]["weights"].items():
        if name != "seen":
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.usefixtures("results", "alone")
def test_the_moving_average_equals_that_of_one(folder: Path, way: str) -> None:
    averages = [native.load_model(folder / run / "final/ema-0.safetensors") for run in ("alone", way)]
    for one, other in zip(*(average.parameters() for average in averages), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_run_that_one_rank_stops_is_stopped_on_all(results: Results) -> None:
    for way in ("stopped", "stopped-fsdp"):
        assert all("stopped at step 2 of 6" in result[way]["stopped"] for result in results)


def test_a_step_that_is_bad_on_one_rank_is_left_out_on_all(results: Results, folder: Path) -> None:
    trained = [line for line in read_metrics(folder / "poisoned") if line["kind"] == "train"]
    assert [line["skipped"] for line in trained] == [0, 1, 1, 1, 1, 1]


def test_rank_0_alone_writes(results: Results, folder: Path) -> None:
    lines = read_metrics(folder / "ddp")
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["pictures"] == parallel_worker.PICTURES
    for way in ("ddp", "fsdp"):
        names = {path.name for path in (folder / way / "previews").iterdir()}
        assert names == {"step-000003.png", "step-000006.png"}


def test_powersgd_learns(results: Results, folder: Path) -> None:
    losses = [line["loss"] for line in read_metrics(folder / "powersgd") if line["kind"] == "train"]
    assert losses[-1] < losses[0]


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TrainingError, match="RANK, MASTER_ADDR, MASTER_PORT is not set: start with torchrun"):
        parallel.join(torch.device("cpu"))


def test_one_process_needs_no_group() -> None:
    world = parallel.join(torch.device("cpu"))
    assert (world.rank, world.size, world.writes) == (0, 1, True)
    assert world.any(True, False) == (True, False)
    assert parallel.whole({"a": [TinyTask().model.first.weight]})
