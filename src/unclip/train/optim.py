"""Optimisers, their parameter groups, learning rates and moving averages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from unclip.errors import TrainingError
from unclip.train import parallel
from unclip.train.config import LoopConfig, Optimiser, RateSchedule

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Leaf names of parameters that are looked up or added rather than multiplied by: weight decay would only
# shorten them.
ADDED = ("embedding", "position", "token")


def rate_factor(schedule: RateSchedule, step: int, steps: int, warmup: int, decay_fraction: float) -> float:
    """The factor on the learning rate at `step` (from 0): a linear ramp, then `schedule`.

    `CONSTANT` stays 1. `COSINE` falls to 0 after `steps`. `WSD` stays 1 and falls linearly to 0 over the last
    `decay_fraction` of the steps (2404.06395 names it, 2405.18392 measures it).
    """
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    left = max(0, steps - step)  # 1 at the last step: so that its update is not lost
    if schedule is RateSchedule.COSINE:
        return ramp * 0.5 * (1 - math.cos(math.pi * min(1.0, left / max(1, steps - warmup))))
    if schedule is RateSchedule.WSD:
        return ramp * min(1.0, left / max(1.0, steps * decay_fraction))
    return ramp


def ema_decay(value: float, pictures_per_step: int, pictures_seen: int, ramp: float) -> float:
    """The decay of one update of a moving average that is `value`: a decay per step (< 1) or a half-life.

    The half-life (in pictures) is at most `ramp` times the pictures seen, so that the average forgets the
    first weights in short runs too (as EDM trains, 2206.00364). `ramp` 0 takes that limit away.
    """
    half_life = value if value >= 1 else pictures_per_step * math.log(0.5) / math.log(value)
    if ramp:
        half_life = min(half_life, ramp * pictures_seen)
    return float(0.5 ** (pictures_per_step / half_life)) if half_life > 0 else 0.0


class MovingAverage(AveragedModel):
    """A copy of a model whose weights follow the model's; its buffers are the model's at the last update."""

    def __init__(self, model: nn.Module, value: float, ramp: float) -> None:
        self.value, self.ramp = value, ramp
        self._decay = 0.0
        super().__init__(model, multi_avg_fn=self._average)
        self.requires_grad_(False)
        self.eval()

    def update_(self, model: nn.Module, pictures_per_step: int, pictures_seen: int) -> None:
        self._decay = ema_decay(self.value, pictures_per_step, pictures_seen, self.ramp)
        self.update_parameters(model)

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        get_ema_multi_avg_fn(self._decay)(averaged, current, count)


def is_decayed(name: str, parameter: Tensor, owner: nn.Module) -> bool:
    """True where weight decay acts: on matrices and kernels, not on biases, gains, embeddings."""
    leaf = name.rpartition(".")[2]
    return (
        parameter.ndim >= 2
        and not isinstance(owner, nn.Embedding)
        and not any(word in leaf for word in ADDED)
    )


def named_owners(model: nn.Module) -> Iterable[tuple[str, nn.Parameter, nn.Module]]:
    """Every trained parameter once, in the order of registration: dotted name, parameter, its module."""
    modules = dict(model.named_modules())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter, modules[name.rpartition(".")[0]]


def muon_names(model: nn.Module, adamw_only: tuple[str, ...]) -> list[str]:
    """The names of the parameters that Muon trains.

    They are the weights of linear layers and convolutions but the first and the last of the model (in the
    order of registration) and those that a pattern of `adamw_only` (as in a shell: `unet.*`) matches.

    Raises:
        TrainingError: a pattern matches no parameter.
    """
    names = [name for name, _, _ in named_owners(model)]
    for pattern in adamw_only:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise TrainingError(f"adamw_only: {pattern!r} matches no parameter; there are {', '.join(names)}")
    matrices = [
        name
        for name, parameter, owner in named_owners(model)
        if isinstance(owner, (nn.Linear, *CONVOLUTIONS)) and parameter.ndim >= 2
    ]
    return [name for name in matrices[1:-1] if not any(fnmatchcase(name, pattern) for pattern in adamw_only)]


class FlatMuon(torch.optim.Muon):
    """`torch.optim.Muon` for parameters of two and more dimensions: kernels count as (out, -1) matrices.

    The state belongs to the matrices; `step` carries the gradients over and, where a matrix cannot share its
    parameter's memory (channels-last kernels), the values both ways.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], **settings: Any) -> None:
        self.kernels = list(parameters)
        self.matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in self.kernels]
        super().__init__(self.matrices, **settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures
        pairs = list(zip(self.kernels, self.matrices, strict=True))
        copied = [
            (k, m) for k, m in pairs if k.untyped_storage().data_ptr() != m.untyped_storage().data_ptr()
        ]
        for kernel, matrix in pairs:
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for kernel, matrix in copied:
            matrix.copy_(kernel.flatten(1))
        super().step()
        for kernel, matrix in copied:
            kernel.copy_(matrix.view(kernel.shape))

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for kernel in self.kernels:
            kernel.grad = None


class Optimisers:
    """AdamW, and Muon beside it where the config asks for it, driven as one."""

    def __init__(self, model: nn.Module, config: LoopConfig) -> None:
        self.model = model
        by_muon = set(muon_names(model, config.adamw_only)) if config.optimiser is Optimiser.MUON else set()
        matrices: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter, owner in named_owners(model):
            if name in by_muon:
                matrices.append(parameter)
            else:
                (decayed if is_decayed(name, parameter, owner) else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.parts: list[torch.optim.Optimizer] = []
        if groups:
            mixed = parallel.is_mixed(model)  # then torch can only take one parameter after the other
            fused = next(model.parameters()).device.type in ("cpu", "cuda") and not mixed
            self.parts.append(
                torch.optim.AdamW(
                    groups,
                    lr=config.learning_rate,
                    betas=config.betas,
                    eps=config.eps,
                    fused=fused,
                    foreach=False if mixed else None,
                )
            )
        if matrices:
            self.parts.append(
                FlatMuon(
                    matrices,
                    lr=config.learning_rate,
                    weight_decay=config.weight_decay,
                    adjust_lr_fn="match_rms_adamw",  # so that AdamW's learning rate serves both
                )
            )
        if not self.parts:
            raise TrainingError("the model has no parameter that requires a gradient: nothing to train")

    def set_rate(self, rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Takes over the moments; decay, betas and eps stay those of the config, which may have changed."""
        for part, state in zip(self.parts, states, strict=True):
            with _own_settings(part):
                part.load_state_dict(parallel.like_parameters(state, part))

    def shares(self) -> list[dict[str, Any]]:
        """The moments by the names of the parameters, cut as they are; zero where no step was taken."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict  # here: half a second

        states: list[Any] = [get_optimizer_state_dict(self.model, part)["state"] for part in self.parts]
        return states

    def load_shares(self, states: list[dict[str, Any]]) -> None:
        """Takes over what `shares` gave, filled anew."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

        for part, state in zip(self.parts, states, strict=True):
            with _own_settings(part):
                whole = {**get_optimizer_state_dict(self.model, part), "state": state}
                set_optimizer_state_dict(self.model, part, whole)


@contextmanager
def _own_settings(optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Afterwards the settings of an optimiser's groups are what they were."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimiser.param_groups]
    yield
    for group, own in zip(optimiser.param_groups, settings, strict=True):
        group.update(own)
