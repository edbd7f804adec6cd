"""LoRA: a change of low rank beside each weight of the attention, trained in place of the weights.

2106.09685: W + B A, with A (rank, in) drawn by chance and B (out, rank) zero at first, so that nothing
changes before training. Weights are merged when they are written, so whatever draws knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unclip.nn.transformer import Attention
from unclip.nn.unet import AttentionBlock

WEIGHTS = {  # of the layers that attend; a dot leads to a layer within
    Attention: ("in_proj_weight", "out_proj.weight"),
    AttentionBlock: ("qkv.weight", "context_kv.weight", "out.weight"),
}
MARK = "parametrizations"  # torch's, in the names of tensors that a weight is computed of


class LowRank(nn.Module):
    """The change of one weight (out, in), of rank at most `rank`."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def attention_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The attention's weights of a model: dotted name, the module that has it, what it is called there."""
    for prefix, module in model.named_modules():
        for place in WEIGHTS.get(type(module), ()):
            below, _, name = place.rpartition(".")
            owner = module.get_submodule(below) if below and getattr(module, below) is not None else module
            if below and owner is module:
                continue  # a block that reads no context
            yield f"{prefix}.{place}" if prefix else place, owner, name


def add_low_rank_(model: nn.Module, rank: int) -> nn.Module:
    """Gives a model's attention changes of low rank, which alone are trained from now on; it draws the same.

    Raises:
        ValueError: the model has no attention, or the rank is below 1.
    """
    if rank < 1:
        raise ValueError(f"rank {rank}: choose 1 or more")
    found = list(attention_weights(model))
    if not found:
        raise ValueError(f"a {type(model).__name__} has no attention that adapters could stand beside")
    model.requires_grad_(False)
    for _, owner, name in found:
        weight = getattr(owner, name)
        parametrize.register_parametrization(owner, name, LowRank(weight, rank).to(weight))
        getattr(owner.parametrizations, name).original.requires_grad_(False)
    return model


def merged(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model with every computed weight under its own name, as if it were a plain one."""
    state = {name: tensor for name, tensor in model.state_dict().items() if f"{MARK}." not in name}
    for prefix, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for name in module.parametrizations:
                state[f"{prefix}.{name}" if prefix else name] = getattr(module, name).detach()
    return state


def factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(out, rank) and (rank, in) whose product is a change (out, in) of that rank, or comes nearest to it."""
    left, values, right = torch.linalg.svd(change.float(), full_matrices=False)
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]
