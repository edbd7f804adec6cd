"""One of the processes that `test_parallel.py` starts: trains in several ways and leaves its results."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from support.tiny_task import TinyTask
from unclip.errors import Interrupted
from unclip.runtime import noise_generator
from unclip.train import loop, parallel
from unclip.train.config import GradientHook, LoopConfig, Parallel, Precision

PICTURES = 8  # that one step sees over all processes
SAM_RHO = 0.05  # of the runs with SAM


def settings(size: int, **changes: Any) -> LoopConfig:
    defaults: dict[str, Any] = {
        "steps": 6,
        "batch": PICTURES // size,
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


class Shares(TinyTask):
    """Every process takes its share of one batch, so that several see together what one alone would see."""

    def __init__(self, init: int = 0) -> None:
        super().__init__(dropout=0, init=init)

    def batch(self, size: int, generator: torch.Generator) -> Any:
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return torch.randint(4, (size * ranks,), generator=generator)[rank * size : (rank + 1) * size]

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        images = (batch[:, None, None, None] / 2 - 1).expand(-1, 3, 4, 4)
        return (model(images, batch) - images).square().mean(), {}


class StopsOnOneRank(Shares):
    """Rank 1 alone is asked to stop, in its second step."""

    seen = 0

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        self.seen += 1
        if dist.get_rank() == 1 and self.seen == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch, generator)


class PoisonedOnOneRank(Shares):
    """Rank 1 alone has a loss that is not a number, in its second step, with gradients that are."""

    seen = 0

    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        loss, parts = super().loss(model, batch, generator)
        self.seen += 1
        bad = dist.get_rank() == 1 and self.seen == 2
        return (loss + torch.tensor(float("nan")) if bad else loss), parts


def same_draws_on_every_rank() -> None:
    loop.noise_generator = lambda seed, step, stage: noise_generator(seed, step, "shared")


def main(out: Path) -> None:
    same_draws_on_every_rank()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    results = {}

    def run(name: str, task: TinyTask, folder: str = "", **changes: Any) -> None:
        stopped = ""
        try:
            loop.train(task, settings(size, **changes), out / (folder or name))
        except Interrupted as error:
            stopped = str(error)
        weights = {key: value.clone() for key, value in parallel.whole(task.model.state_dict()).items()}
        results[name] = {"weights": weights, "stopped": stopped}

    run("ddp", Shares(init=rank))  # other first weights on every rank: those of rank 0 must count
    run("accumulated", Shares(), accumulate=2)
    run("fsdp", Shares(init=rank), parallel=Parallel.FSDP)
    run("sam", Shares(init=rank), sam_rho=SAM_RHO)
    run("sam-fsdp", Shares(init=rank), sam_rho=SAM_RHO, parallel=Parallel.FSDP)
    run("stopped", StopsOnOneRank())
    run("stopped-fsdp", StopsOnOneRank(), parallel=Parallel.FSDP)
    run("resumed-fsdp", Shares(init=5), folder="stopped-fsdp", parallel=Parallel.FSDP)
    run("poisoned", PoisonedOnOneRank())
    parallel.POWERSGD_START = 2
    run("powersgd", Shares(), gradient_hook=GradientHook.POWERSGD)
    torch.save(results, out / f"rank-{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    dist.barrier()  # neither closes its connections while the other still needs them
    os._exit(0)  # Gloo's threads outlive their group; one that is late aborts an interpreter that shuts down
