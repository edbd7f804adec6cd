"""Promises of `unclip train --ray`, kept by two processes on this machine.

They need the extra `cluster`, which the environment of the other tests does not have: `make test-cluster`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from unclip import native
from unclip.ray_cluster import HERE, settle
from unclip.train import state

settle(HERE)  # before Ray is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    pytest.importorskip("ray", reason="the extra `cluster` is not installed: `make test-cluster`")

pytestmark = pytest.mark.slow
PATIENCE = 600
STEPS = 30
KILLED_FROM = 5  # steps, so that a checkpoint is there
SETTINGS = ("checkpoint_minutes=0.0001", "keep=2", "log_steps=1", "tensorboard=false", "precision=float32")


def started(recipe: Path, corpus: Path, out: Path, *more: str, steps: int = STEPS) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unclip", "train", str(recipe), "--data", str(corpus), "--out", str(out)]
    command += ["--only", "clip", "--steps", str(steps), "--device", "cpu", "--ray", *more]
    for setting in SETTINGS:
        command += ["--set", f"clip.train.{setting}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def trained(out: Path) -> list[int]:
    """Processes that train in a folder, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        ranks = [int(one.partition(b"=")[2]) for one in environment if one.startswith(b"RANK=")]
        if ranks and str(out).encode() in words:
            found[ranks[0]] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def until_step(run: subprocess.Popen[str], out: Path, step: int) -> None:
    while (state.newest_step(out / "clip") or 0) < step:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return native.load_model(out / "clip" / "final" / "raw.safetensors").state_dict()


@pytest.fixture(scope="module")
def whole(recipe: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbs."""
    out = tmp_path_factory.mktemp("placed") / "whole"
    run = started(recipe, corpus, out)
    printed, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, said
    assert printed == f"{out}\n"
    assert f"clip: {STEPS}/{STEPS}" in said
    return out


def test_two_processes_train_into_the_folder_of_the_run(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "clip" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, STEPS + 1))
    assert {path.name for path in whole.iterdir()} >= {"clip", "tokenizer.json"}


def test_a_run_whose_process_was_killed_ends_as_one_that_was_not(
    whole: Path, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    run = started(recipe, corpus, tmp_path / "killed")
    until_step(run, tmp_path / "killed", KILLED_FROM)
    processes = trained(tmp_path / "killed")
    assert len(processes) == 2
    os.kill(processes[1], signal.SIGKILL)
    _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, said
    assert "all processes begin again from the newest checkpoint" in said
    expected = weights(whole)
    for name, tensor in weights(tmp_path / "killed").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_run_that_is_stopped_leaves_a_checkpoint_and_no_process(
    recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    run = started(recipe, corpus, tmp_path / "stopped", steps=10_000)
    until_step(run, tmp_path / "stopped", KILLED_FROM)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130, said
    assert "start the same command again to go on" in said
    assert trained(tmp_path / "stopped") == []
    assert state.newest_step(tmp_path / "stopped" / "clip") is not None


def test_what_no_restart_mends_is_said_once(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    run = started(recipe, corpus, tmp_path / "odd", "--processes", "2", "--set", "clip.train.batch=3")
    _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode != 0
    assert "a multiple of 2" in said
    assert "begin again" not in said


def test_a_cluster_that_is_not_there_is_said_at_once(recipe: Path, corpus: Path, tmp_path: Path) -> None:
    run = started(recipe, corpus, tmp_path / "nowhere", "127.0.0.1:9")
    _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1
    assert "no Ray cluster at 127.0.0.1:9" in said
