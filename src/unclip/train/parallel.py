"""Several processes on one run: torchrun starts them, torch's own DDP keeps them equal."""

from __future__ import annotations

import atexit
import copy
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel

from unclip.errors import TrainingError
from unclip.train.config import GradientHook, LoopConfig, Parallel
from unclip.train.places import Places
from unclip.train.powersgd import PowerSGD

Loss = Callable[[nn.Module, Any, Places], tuple[Tensor, dict[str, Any]]]


@dataclass(frozen=True)
class World:
    """The processes that train together; a size of 1 is one process alone."""

    device: torch.device  # of this process
    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """True in the one process that writes the run's files."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag or-ed over all processes: so that all of them skip, save and stop at the same step."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return tuple(bool(vote) for vote in votes.tolist())

    def equalise_(self, model: nn.Module) -> None:
        """Gives the model of every process the weights and buffers of rank 0."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                there = tensor.to(self.device)  # one after the other: all may be more than it holds
                dist.broadcast(there, 0)
                if there is not tensor:
                    tensor.copy_(there)

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

    def forward(self, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        return self._loss(self.model, batch, places)


def distribute_(
    model: nn.Module,
    averages: Sequence[nn.Module],
    loss: Loss,
    world: World,
    config: LoopConfig,
    mesh: DeviceMesh | None,
) -> nn.Module:
    """The module to call with (batch, places) for the loss; its backward pass averages over the processes.

    FSDP cuts the model and its moving averages (its copies) into one share a process, over the mesh that
    `machines_and_shares` gave. With a hybrid's PowerSGD the backward pass averages over the processes of a
    machine alone; see `between_machines`.
    """
    module = LossModule(model, loss)
    if world.size == 1:
        return module
    if config.parallel is not Parallel.DDP:
        if mesh is not None and config.gradient_hook is GradientHook.POWERSGD:
            mesh = mesh["shares"]
        for part in (module, *averages):
            for number in _numbers(part):
                number.data = number.data.to(world.device)
            _shard_(part, mesh)
        return module
    # told of kernels in the order of channels last; their gradients are copied, and nothing can be done
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    wrapped = DistributedDataParallel(module)
    if config.gradient_hook is GradientHook.POWERSGD:
        from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

        hook_state = powerSGD_hook.PowerSGDState(
            None,
            matrix_approximation_rank=config.powersgd_rank,
            start_powerSGD_iter=config.powersgd_start,
        )
        wrapped.register_comm_hook(hook_state, powerSGD_hook.powerSGD_hook)
    return wrapped


def machines_and_shares(world: World, config: LoopConfig) -> DeviceMesh | None:
    """The processes of a hybrid as machines x shares; None for any other way of sharing the work.

    torchrun says how many processes a machine has (LOCAL_WORLD_SIZE). It is made once a run: each mesh opens
    its own groups of processes.
    """
    if world.size == 1 or config.parallel is not Parallel.HYBRID:
        return None
    from torch.distributed.device_mesh import init_device_mesh

    here = int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    if world.size % here:
        raise TrainingError(
            f"LOCAL_WORLD_SIZE is {here}, and {world.size} processes train: start as many on every machine"
        )
    return init_device_mesh(
        world.device.type, (world.size // here, here), mesh_dim_names=("machines", "shares")
    )


def between_machines(module: nn.Module, config: LoopConfig, mesh: DeviceMesh | None) -> PowerSGD | None:
    """Averages the gradients over the machines after a backward pass; None where that pass does so itself.

    `mesh` is that of `distribute_`.
    """
    if mesh is None or config.gradient_hook is not GradientHook.POWERSGD:
        return None
    group = mesh["machines"].get_group()
    shares = [parameter for parameter in module.parameters() if _is_cut(parameter)]
    return PowerSGD(shares, group, config.powersgd_rank, config.powersgd_start)


def _shard_(module: nn.Module, mesh: DeviceMesh | None) -> None:
    """FSDP2: each item of a list of layers is gathered when it is called, everything else with the whole.

    `mesh` has one dimension, the shares, or two, machines and shares; None cuts over all processes. Single
    numbers, such as CLIP's scale, cannot be cut: `average_numbers_` has their gradients.
    """
    from torch.distributed.fsdp import fully_shard  # here: a second, and one process alone does not need it

    for layer in reversed(units(module)):  # the inner ones first
        fully_shard(layer, mesh=mesh, ignored_params=set(_numbers(layer)))
    fully_shard(module, mesh=mesh, ignored_params=set(_numbers(module)))


def units(module: nn.Module) -> list[nn.Module]:
    """The parts of a module that FSDP gathers one by one, the outer ones first; what is left is another."""
    return [
        layer
        for items in module.modules()
        if isinstance(items, nn.ModuleList)
        for layer in items
        if not isinstance(layer, nn.ModuleList | nn.ModuleDict) and any(True for _ in layer.parameters())
    ]


def _numbers(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of no dimension, in the model's order, in which all processes average them."""
    return [parameter for parameter in module.parameters() if not parameter.ndim]


def average_numbers_(module: nn.Module, world: World, config: LoopConfig) -> None:
    """Gives the single numbers that FSDP leaves alone the mean of their gradients over all processes."""
    if world.size == 1 or config.parallel is Parallel.DDP:
        return
    for number in _numbers(module):
        if number.grad is not None:
            dist.all_reduce(number.grad)
            number.grad /= world.size


def clip_(model: nn.Module, longest: float) -> float:
    """Shortens the gradients to a common length of at most `longest`; returns the length before.

    Gradients that are cut and others are measured apart: torch cannot mix them.
    """
    given = [parameter for parameter in model.parameters() if parameter.grad is not None]
    cut, plain = ([one for one in given if _is_cut(one) is kind] for kind in (True, False))
    if not (cut and plain):
        return float(whole(nn.utils.clip_grad_norm_(given, longest)))
    kinds = [[parameter.grad for parameter in some if parameter.grad is not None] for some in (cut, plain)]
    norm = math.hypot(*(float(whole(nn.utils.get_total_norm(gradients))) for gradients in kinds))
    for gradient in (gradient for gradients in kinds for gradient in gradients):
        gradient.mul_(min(1.0, longest / (norm + 1e-6)))  # as torch does
    return norm


class Gathered:
    """The plain model with the weights of a module that may be cut into shares; all processes call it."""

    def __init__(self, model: nn.Module, world: World, config: LoopConfig) -> None:
        self._device = world.device
        self._plain = None
        if world.size > 1 and config.parallel is not Parallel.DDP:
            self._plain = copy.deepcopy(model).cpu()

    @contextmanager
    def __call__(self, module: nn.Module) -> Iterator[nn.Module]:
        if self._plain is None:
            yield module
            return
        self._plain.load_state_dict(whole(module.state_dict()))
        try:
            yield self._plain.to(self._device)
        finally:
            self._plain.cpu()


def whole(value: Any) -> Any:
    """The value with every tensor that is cut into shares put together again; all processes call it."""
    if isinstance(value, Tensor):
        join: Callable[[], Tensor] | None = getattr(value, "full_tensor", None)
        return join() if join else value
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value


def is_mixed(model: nn.Module) -> bool:
    """True where some parameters are cut into shares and others are not."""
    return len({_is_cut(parameter) for parameter in model.parameters()}) > 1


def _is_cut(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor; its class is not imported where nothing is distributed


def like_parameters(optimiser_state: dict[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's whole state, cut into shares as its parameters are."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    indices = [index for group in optimiser_state["param_groups"] for index in group["params"]]
    if not any(_is_cut(parameter) for parameter in parameters):
        return optimiser_state
    from torch.distributed.tensor import DTensor, distribute_tensor

    cut = dict(optimiser_state["state"])
    for index, parameter in zip(indices, parameters, strict=True):
        if isinstance(parameter, DTensor) and index in cut:
            cut[index] = {
                name: distribute_tensor(
                    value.to(parameter.device), parameter.device_mesh, parameter.placements
                )
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim
                else value
                for name, value in cut[index].items()
            }
    return {**optimiser_state, "state": cut}


def mean_of_processes(number: Tensor) -> Tensor:
    """The mean of a number () over all processes, float32; of one process alone the number itself."""
    mean = number.detach().to(torch.float32, copy=True)
    if dist.is_initialized():
        dist.all_reduce(mean)
        mean /= dist.get_world_size()
    return mean


def without_exchange(module: nn.Module) -> AbstractContextManager[object]:
    """While it lasts a backward pass only adds to this process's gradients."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()
