"""torchrun starts a run again whose process was killed, and it ends with the weights of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from unclip import native
from unclip.train import state

STEPS = 40
KILLED_FROM = 5  # on, so that a checkpoint is there
SETTINGS = ("checkpoint_minutes=0.0001", "keep=2", "log_steps=1", "tensorboard=false", "precision=float32")


def torchrun(recipe: Path, corpus: Path, out: Path, *ways: str) -> subprocess.Popen[bytes]:
    """`unclip train` for CLIP in two processes, started again up to three times."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "3", "--monitor-interval", "0.1", "-m", "unclip", "train", str(recipe)]
    command += ["--data", str(corpus), "--out", str(out), "--only", "clip", "--steps", str(STEPS)]
    for setting in (*SETTINGS, *ways):
        command += ["--set", f"clip.train.{setting}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment)  # what they say is shown if the test fails


def ranks(parent: int) -> list[int]:
    """The processes that torchrun has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return native.load_model(out / "clip" / "final" / "raw.safetensors").state_dict()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.skipif(
    "PYTEST_XDIST_WORKER" in os.environ,
    reason="wants the machine to itself: `.venv/bin/python -m pytest tests/train/test_restarts.py`",
)
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_run_whose_process_was_killed_ends_as_one_that_was_not(
    way: str, recipe: Path, corpus: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert torchrun(recipe, corpus, whole, f"parallel={way}").wait(timeout=300) == 0

    run = torchrun(recipe, corpus, killed, f"parallel={way}")
    try:
        while (state.newest_step(killed / "clip") or 0) < KILLED_FROM:
            assert run.poll() is None
            time.sleep(0.01)
        last = ranks(run.pid)[-1]
        os.kill(last, signal.SIGKILL)
        assert run.wait(timeout=300) == 0
    finally:
        run.kill()
    started = (killed / "clip" / "metrics.jsonl").read_text()
    assert '"step": 40' in started or '"step":40' in started
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(killed)[name]), name
