"""Several processes on one run: torchrun starts them, torch's own DDP keeps them equal."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unclip.errors import TrainingError
from unclip.train.config import GradientHook, LoopConfig

Loss = Callable[[nn.Module, Any, torch.Generator], tuple[Tensor, dict[str, Any]]]


@dataclass(frozen=True)
class World:
    """The processes that train together; a size of 1 is one process alone."""

    device: torch.device  # of this process
    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag or-ed over all processes: so that all of them skip, save and stop at the same step."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes.tolist())

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def join(device: torch.device) -> World:
    """Joins the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or is alone.

    NCCL on CUDA, where each process takes the GPU of its local rank; Gloo on the CPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device)
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise TrainingError(f"WORLD_SIZE is {size} but {', '.join(missing)} is not set: start with torchrun")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return World(device, dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class LossModule(nn.Module):
    """A model's loss as the forward pass of a module.

    DDP and FSDP act when the module that they wrap is called; so they wrap this one, and a task may call any
    method of its model.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Any]]:
        return self._loss(self.model, batch, generator)


def distribute(model: nn.Module, loss: Loss, world: World, config: LoopConfig) -> nn.Module:
    """The module to call with (batch, generator) for the loss; all ranks begin with the weights of rank 0."""
    module = LossModule(model, loss)
    if world.size == 1:
        return module
    wrapped = DistributedDataParallel(module)
    if config.gradient_hook is GradientHook.POWERSGD:
        from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

        wrapped.register_comm_hook(
            powerSGD_hook.PowerSGDState(process_group=None, matrix_approximation_rank=4),
            powerSGD_hook.powerSGD_hook,
        )
    return wrapped


def without_exchange(module: nn.Module) -> AbstractContextManager[object]:
    """While it lasts a backward pass only adds to this process's gradients."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
