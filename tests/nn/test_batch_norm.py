"""Promises of batch normalisation: processes normalise together what one would alone, gradients too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from unclip.nn.batch_norm import BatchNorm2d

PICTURES = 6
ONE_OF_TWO = """
import sys
import torch
import torch.distributed as dist
from nn.test_batch_norm import PICTURES, inputs, results
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
share = PICTURES // 2
x, weights = (tensor[rank * share : (rank + 1) * share] for tensor in inputs())
torch.save(results(x, weights), f"{folder}/rank-{rank}.pt")
dist.barrier()
"""


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures far from 0, and the weights of a loss."""
    torch.manual_seed(0)
    shape = (PICTURES, 3, 4, 5)
    return 2 * torch.randn(shape, dtype=torch.float64) + 7, torch.randn(shape, dtype=torch.float64)


def results(x: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """What is normalised, gradients of a weighted sum, and the running statistics."""
    torch.manual_seed(1)
    norm = BatchNorm2d(3).double()
    torch.nn.init.normal_(norm.weight)
    out = norm(x.requires_grad_())
    (out * weights).sum().backward()
    assert x.grad is not None
    of_parameters = {f"grad.{name}": parameter.grad for name, parameter in norm.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    return {"out": out.detach(), "grad": x.grad, **of_parameters, **buffers}


def test_two_processes_normalise_as_one_does(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-W", "error", "-c", ONE_OF_TWO, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(rank)], env=environment) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    expected = results(*inputs())
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    for name in ("out", "grad"):  # each has those of its pictures
        torch.testing.assert_close(torch.cat([first[name], second[name]]), expected[name])
    for name in ("grad.weight", "grad.bias"):  # which the loop averages
        torch.testing.assert_close(first[name] + second[name], expected[name])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(first[name], expected[name])
        assert torch.equal(first[name], second[name])


def test_one_process_normalises_as_torch_does_to_the_bit() -> None:
    x, weights = inputs()
    torch.manual_seed(1)
    norm = torch.nn.BatchNorm2d(3).double()
    torch.nn.init.normal_(norm.weight)
    assert torch.equal(results(x, weights)["out"], norm(x.detach()))
