"""PowerSGD between machines: what crosses the slow link is two thin factors of each gradient (1905.13727).

Inside a machine FSDP averages gradients whole, and every process keeps a share of them. The processes of all
machines that keep the same share average it here, as DALL-E was trained (2102.12092, section 2.5): each
matrix of a share, M (n, m) with what was lost at earlier steps (error feedback), is sent as P = M Q (n, r)
and Q = Mᵀ P (m, r), and P Qᵀ stands for the mean of all. It is done once a step, behind the last part of a
batch that is cut into several: FSDP2's own hook is called for every part, and is told of no matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

LEAST_GAIN = 2  # times fewer numbers: a matrix that gains less is sent whole


def factors(shape: Sequence[int], rank: int) -> tuple[int, int] | None:
    """The sides (n, m) of the matrix that a gradient of this shape is; None where it is sent whole."""
    if len(shape) < 2:
        return None
    rows, columns = shape[0], math.prod(shape[1:])
    return (rows, columns) if rows * columns >= LEAST_GAIN * (rows + columns) * rank > 0 else None


def numbers_sent(shape: Sequence[int], rank: int) -> int:
    """The numbers that a gradient of this shape is sent as."""
    sides = factors(shape, rank)
    return math.prod(shape) if sides is None else sum(sides) * rank


class PowerSGD:
    """Averages the gradients of a module's shares over the machines.

    Args:
        parameters: of the module, cut into shares or whole.
        group: the processes, one a machine, that keep the same share.
        rank: columns of the factors; more lose less and cost more.
        start: steps that send gradients whole: early ones do not compress well.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], group: dist.ProcessGroup, rank: int, start: int
    ) -> None:
        self.group, self.rank, self.start = group, rank, start
        self._machines = dist.get_world_size(group)
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._lost: dict[int, Tensor] = {}  # error feedback, (n, m) by parameter
        self._right: dict[int, Tensor] = {}  # the factor Q of the step before, (m, r)

    @property
    def share_sent(self) -> float:
        """The part of a step's numbers that is sent, once it is compressed, 0 to 1."""
        shapes = [_local(parameter.detach()).shape for parameter in self._parameters]
        sent = sum(numbers_sent(shape, self.rank) for shape in shapes)
        return sent / max(1, sum(map(math.prod, shapes)))

    @torch.no_grad()
    def average_(self, step: int) -> None:
        """Gives the gradients of this process the means over all machines; `step` counts from 0."""
        gradients = {
            index: _local(parameter.grad)
            for index, parameter in enumerate(self._parameters)
            if parameter.grad is not None
        }
        matrices = {}
        if step >= self.start:
            matrices = {
                index: gradient.reshape(sides)
                for index, gradient in gradients.items()
                if (sides := factors(gradient.shape, self.rank)) is not None
            }
        for index, matrix in matrices.items():
            if index in self._lost:
                matrix += self._lost[index]
        left = {index: matrix @ self._factor(index, matrix) for index, matrix in matrices.items()}
        whole = [gradient for index, gradient in gradients.items() if index not in matrices]
        self._mean_([*left.values(), *whole])
        left = {index: torch.linalg.qr(factor)[0] for index, factor in left.items()}
        self._right = {index: matrix.T @ left[index] for index, matrix in matrices.items()}
        self._mean_(list(self._right.values()))
        for index, matrix in matrices.items():
            mean = left[index] @ self._right[index].T
            lost = matrix - mean
            self._lost[index] = torch.where(lost.isfinite(), lost, 0.0)  # a bad step leaves nothing behind
            gradients[index].copy_(mean.reshape(gradients[index].shape))

    def _factor(self, index: int, matrix: Tensor) -> Tensor:
        """The factor Q to begin with: that of the step before, or the same random one on all machines."""
        found = self._right.get(index)
        if found is not None and bool(found.isfinite().all()):
            return found
        random = torch.Generator().manual_seed(index)
        return torch.randn(matrix.shape[1], self.rank, generator=random).to(matrix)

    def _mean_(self, tensors: Sequence[Tensor]) -> None:
        """Gives the tensors their means over the machines, in one exchange."""
        if not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat, group=self.group)
        flat /= self._machines
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def state_dict(self) -> dict[str, Any]:
        """The state of this process that an exact resume needs."""
        return {
            **{f"lost.{index}": tensor for index, tensor in self._lost.items()},
            **{f"right.{index}": tensor for index, tensor in self._right.items()},
        }

    def load_state_dict(self, found: dict[str, Any]) -> None:
        parts: dict[str, dict[int, Tensor]] = {"lost": {}, "right": {}}
        for name, tensor in found.items():
            kind, _, index = name.partition(".")
            parts[kind][int(index)] = tensor
        self._lost, self._right = parts["lost"], parts["right"]


def _local(tensor: Tensor) -> Tensor:
    """The share of this process; a tensor that is not cut is its own."""
    local: Any = getattr(tensor, "to_local", None)
    return local() if local else tensor
