"""One of the processes that `test_parallel.py` starts: trains in several ways and leaves its results."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import device_mesh

from support.tiny_recipe import every_stage
from support.tiny_task import Recorded, TinyTask
from unclip.errors import Interrupted
from unclip.train import loop, parallel
from unclip.train.config import GradientHook, LoopConfig, Parallel, Precision
from unclip.train.places import Places
from unclip.train.run import Run
from unclip.train.stages import TASKS

PICTURES = 8  # that one step sees over all processes
SAM_RHO = 0.05  # of the runs with SAM
STAGES = tuple(stage for stage in TASKS if stage != "upsampler-1024")  # of each kind one
CUT_STAGES = (
    "clip",
    "prior",
    "decoder",
)  # that are trained by FSDP, too: one has a parameter of no dimension
CODES = "{codebook = 'average', decay = 0.5, dead = 0.4}"  # many are dead


def settings(**changes: Any) -> LoopConfig:
    defaults: dict[str, Any] = {
        "steps": 6,
        "batch": PICTURES,
        "warmup": 0,
        "learning_rate": 0.1,
        "eps": 1.0,  # with Adam's own, the last bit of a gradient can turn into a whole step
        "log_steps": 1,
        "preview_steps": 3,
        "evaluate_steps": 3,
        "tensorboard": False,
        "precision": Precision.FLOAT32,
        "ema": (0.9,),
    }
    return LoopConfig(**{**defaults, **changes})


def train_stages(corpus: Path, out: Path, stages: Sequence[str] = STAGES, parallel: str = "ddp") -> None:
    """Trains stages of the recipe that has all, by settings like those above."""
    same = ("batch=8", "steps=3", "warmup=0", "learning_rate=0.1", "eps=1.0", "precision=float32")
    changes = [f"{stage}.train.{setting}" for stage in STAGES for setting in (*same, f"parallel={parallel}")]
    changes += [f"vqvae.task.nearest={CODES}", "vqvae.task.perceptual=0.0", "glide.model.dropout=0.0"]
    recipe = every_stage(*changes)
    run = Run(recipe, corpus, out, torch.device("cpu"))
    for stage in stages:
        run.go(stage)


def plain(init: int = 0) -> TinyTask:
    return TinyTask(dropout=0, init=init)


class StopsOnOneRank(TinyTask):
    """Rank 1 alone is asked to stop, in its second step."""

    seen = 0

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        self.seen += 1
        if dist.get_rank() == 1 and self.seen == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch, places)


class PoisonedOnOneRank(TinyTask):
    """Rank 1 alone has a loss that is not a number, in its second step, with gradients that are."""

    seen = 0

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        loss, parts = super().loss(model, batch, places)
        self.seen += 1
        bad = dist.get_rank() == 1 and self.seen == 2
        return (loss + torch.tensor(float("nan")) if bad else loss), parts


def main(out: Path, corpus: Path | None) -> None:
    """Trains in all ways, or without a corpus goes on from what other processes have left in `handed`."""
    rank, results = int(os.environ["RANK"]), {}

    def run(name: str, task: TinyTask, folder: str = "", **changes: Any) -> None:
        stopped = ""
        try:
            loop.train(task, settings(**changes), out / (folder or name))
        except Interrupted as error:
            stopped = str(error)
        weights = {key: value.clone() for key, value in parallel.whole(task.model.state_dict()).items()}
        results[name] = {"weights": weights, "stopped": stopped}

    if corpus is None:
        run("handed", plain(init=5), parallel=Parallel.FSDP)
        torch.save(results, out / f"rank-{rank}.pt")
        return
    run("ddp", plain(init=rank))  # other first weights on every rank: those of rank 0 must count
    run("accumulated", plain(), accumulate=2)
    for name, accumulate in (("recorded", 1), ("recorded-in-parts", 2)):
        run(name, task := Recorded(), accumulate=accumulate)
        results[name]["drawn"] = task.drawn
    train_stages(corpus, out / "stages")
    train_stages(corpus, out / "stages-fsdp", CUT_STAGES, "fsdp")
    run("fsdp", plain(init=rank), parallel=Parallel.FSDP)
    run("sam", plain(init=rank), sam_rho=SAM_RHO)
    run("sam-fsdp", plain(init=rank), sam_rho=SAM_RHO, parallel=Parallel.FSDP)
    run("stopped", StopsOnOneRank(dropout=0))
    run("stopped-fsdp", StopsOnOneRank(dropout=0), parallel=Parallel.FSDP)
    run("handed", StopsOnOneRank(dropout=0), parallel=Parallel.FSDP)
    run("resumed-fsdp", plain(init=5), folder="stopped-fsdp", parallel=Parallel.FSDP)
    run("poisoned", PoisonedOnOneRank(dropout=0))
    run("powersgd", plain(), gradient_hook=GradientHook.POWERSGD, powersgd_start=2)
    os.environ["LOCAL_WORLD_SIZE"] = str(dist.get_world_size() // 2)  # two machines
    run("hybrid", plain(init=rank), parallel=Parallel.HYBRID)
    whole = {"parallel": Parallel.HYBRID, "gradient_hook": GradientHook.POWERSGD, "powersgd_rank": 1}
    run("hybrid-whole", plain(init=rank), **whole, powersgd_start=100)
    with mock.patch.object(device_mesh, "init_device_mesh", wraps=device_mesh.init_device_mesh) as made:
        run("hybrid-powersgd", plain(), **whole, powersgd_start=2)
    results["hybrid-powersgd"]["meshes"] = made.call_count
    run("stopped-hybrid", StopsOnOneRank(dropout=0), **whole, powersgd_start=1)
    run("resumed-hybrid", plain(init=5), folder="stopped-hybrid", **whole, powersgd_start=1)
    run("undisturbed-hybrid", plain(), **whole, powersgd_start=1)
    torch.save(results, out / f"rank-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    dist.barrier()  # neither closes its connections while the other still needs them
    os._exit(0)  # Gloo's threads outlive their group; one that is late aborts an interpreter that shuts down
