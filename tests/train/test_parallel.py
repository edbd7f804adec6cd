"""Processes train what one would: the same weights, on every rank, in every way of sharing the work."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from support import parallel_worker
from support.tiny_task import Recorded, TinyTask
from unclip import native
from unclip.errors import InputError, TrainingError, UnclipWarning
from unclip.train import loop, parallel, state
from unclip.train.config import Parallel
from unclip.train.log import read_metrics

Results = list[dict[str, Any]]


@pytest.fixture(scope="module", params=[2, 4], ids="{} processes".format)
def size(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def folder(size: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"parallel-{size}")


@pytest.fixture(scope="module")
def results(size: int, folder: Path, corpus: Path) -> Results:
    return started(size, folder, str(corpus))


def started(size: int, folder: Path, *arguments: str) -> Results:
    """The results of so many workers, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ,
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "support.parallel_worker", str(folder), *arguments]
    processes = [subprocess.Popen(command, env={**common, "RANK": str(rank)}) for rank in range(size)]
    assert [process.wait(timeout=300) for process in processes] == [0] * size
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """The runs of one process: `alone`, `alone-sam` and the stages of a recipe."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("one")
    for name, rho in (("alone", 0.0), ("alone-sam", parallel_worker.SAM_RHO)):
        loop.train(parallel_worker.plain(), parallel_worker.settings(sam_rho=rho), folder / name)
    parallel_worker.train_stages(corpus, folder / "stages")
    return folder


def final(folder: Path) -> dict[str, torch.Tensor]:
    return native.load_model(folder / "final" / "raw.safetensors").state_dict()


@pytest.mark.parametrize(
    "way",
    [
        *("ddp", "accumulated", "fsdp", "sam", "sam-fsdp", "resumed-fsdp", "poisoned", "powersgd"),
        *("hybrid", "hybrid-whole", "hybrid-powersgd"),
    ],
)
def test_ranks_stay_the_same_to_the_bit(results: Results, way: str) -> None:
    first, *others = (result[way]["weights"] for result in results)
    for other in others:
        for name, tensor in first.items():
            assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize(
    "way",
    ["ddp", "accumulated", "fsdp", "resumed-fsdp", "sam", "sam-fsdp", "hybrid", "hybrid-whole"],
)
def test_several_processes_equal_one(results: Results, one: Path, way: str) -> None:
    expected = final(one / ("alone-sam" if "sam" in way else "alone"))
    for name, tensor in results[0][way]["weights"].items():
        if name != "seen":
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)


def test_the_mesh_of_a_hybrid_is_made_once(results: Results) -> None:
    """Each mesh opens groups of processes, with connections of their own."""
    assert [result["hybrid-powersgd"]["meshes"] for result in results] == [1] * len(results)


@pytest.mark.parametrize("way", ["recorded", "recorded-in-parts"])
def test_several_processes_draw_what_one_draws_to_the_bit(
    results: Results, size: int, way: str, tmp_path: Path
) -> None:
    """Each a share: what a place shows, and the noise and the noise level of its loss."""
    alone = Recorded()
    loop.train(alone, parallel_worker.settings(), tmp_path)
    shares = [result[way]["drawn"] for result in results]
    assert [len(share) for share in shares] == [len(alone.drawn) // size] * size
    together = {place: drawn for share in shares for place, drawn in share.items()}
    assert together.keys() == alone.drawn.keys()
    for place, drawn in alone.drawn.items():
        assert all(map(torch.equal, drawn, together[place])), place


@pytest.mark.parametrize("stage", parallel_worker.STAGES)
@pytest.mark.usefixtures("results")
def test_several_processes_train_a_stage_as_one_does(folder: Path, one: Path, stage: str) -> None:
    """Contrastive losses and batch normalisation see the whole batch, and dead codes begin anew with latents
    of the whole batch.
    """
    expected, found = (final(run / "stages" / stage) for run in (one, folder))
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("stage", parallel_worker.CUT_STAGES)
@pytest.mark.usefixtures("results")
def test_processes_that_share_a_model_train_it_as_one_does(folder: Path, one: Path, stage: str) -> None:
    expected, found = final(one / "stages" / stage), final(folder / "stages-fsdp" / stage)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.usefixtures("results")
def test_the_moving_average_equals_that_of_one(folder: Path, one: Path, way: str) -> None:
    runs = (one / "alone", folder / way)
    averages = [native.load_model(run / "final/ema-0.safetensors") for run in runs]
    for alone, other in zip(*(average.parameters() for average in averages), strict=True):
        torch.testing.assert_close(alone, other, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("fewer", [1, 2])
@pytest.mark.usefixtures("results")
def test_fewer_processes_go_on_from_what_several_have_saved(
    size: int, folder: Path, one: Path, fewer: int, tmp_path: Path
) -> None:
    if fewer == size:
        pytest.skip("as many")
    shutil.copytree(folder / "handed", tmp_path / "handed")
    if fewer == 1:
        loop.train(parallel_worker.plain(init=5), parallel_worker.settings(), tmp_path / "handed")
    else:
        started(fewer, tmp_path)
    expected = final(one / "alone")
    for name, tensor in final(tmp_path / "handed").items():
        if name != "seen":
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-6)


@pytest.mark.usefixtures("results")
def test_a_checkpoint_of_shares_that_is_not_whole_is_passed_over(folder: Path, tmp_path: Path) -> None:
    (path,) = state.checkpoint_paths(folder / "handed")
    shutil.copytree(path, tmp_path / "checkpoints" / path.name)
    found = state.load_checkpoint(tmp_path)
    assert found is not None
    assert found["step"] == 2
    largest = max((tmp_path / "checkpoints" / path.name).iterdir(), key=lambda file: file.stat().st_size)
    with largest.open("r+b") as file:
        file.truncate(100)
    with (
        pytest.warns(UnclipWarning, match="is damaged; going back to the one before"),
        pytest.raises(TrainingError, match="none of the 1 checkpoints"),
    ):
        state.load_checkpoint(tmp_path)


@pytest.mark.parametrize("way", ["powersgd", "hybrid-powersgd"])
@pytest.mark.usefixtures("results")
def test_powersgd_learns(folder: Path, way: str) -> None:
    losses = [line["loss"] for line in read_metrics(folder / way) if line["kind"] == "train"]
    assert losses[-1] < losses[0]


def test_a_run_with_powersgd_goes_on_as_if_nothing_had_been(results: Results) -> None:
    """PowerSGD's error feedback is part of the checkpoint."""
    for result in results:
        undisturbed, resumed = (result[f"{way}-hybrid"]["weights"] for way in ("undisturbed", "resumed"))
        assert all(map(torch.equal, undisturbed.values(), resumed.values()))


def test_a_batch_that_cannot_be_shared_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "join", lambda device: parallel.World(device, 0, 3))
    with pytest.raises(
        InputError, match=r"batch: got 8, allowed is a multiple of 6: 3 processes take 2 parts"
    ):
        loop.train(TinyTask(), parallel_worker.settings(accumulate=2), tmp_path)


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


def test_single_numbers_are_averaged_in_the_order_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order in another process would average one number with another one."""
    module = torch.nn.Module()
    for index in range(20):
        number = torch.nn.Parameter(torch.tensor(float(index)))
        number.grad = torch.tensor(float(index))
        module.register_parameter(f"number{index}", number)
    seen: list[float] = []
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda tensor: seen.append(float(tensor)))
    world = parallel.World(torch.device("cpu"), 0, 2)
    parallel.average_numbers_(module, world, parallel_worker.settings(parallel=Parallel.FSDP))
    assert seen == [float(index) for index in range(20)]
    assert [float(number.grad or 0) for number in module.parameters()] == [value / 2 for value in seen]
