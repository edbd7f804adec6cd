"""Sharpness-aware minimisation (2010.01412): a step goes by the gradient of the worst place nearby."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from unclip.train import parallel

LEAST_LENGTH = 1e-12  # of a gradient: one of length 0 leads nowhere


@contextmanager
def climbed(model: nn.Module, rho: float) -> Iterator[None]:
    """While it lasts, the weights stand `rho` up the gradient that they had, and have none.

    Gradients that are taken meanwhile stay. The weights come back to the bit, and so do the buffers: what
    batch normalisation keeps is of the model and not of its neighbour.

    Eq. 2 of 2010.01412 with p = 2: eps = rho g / |g|, over all weights together.
    """
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    with torch.no_grad():
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        kept = [(tensor, tensor.detach().clone()) for tensor in (*trained, *model.buffers())]
        length = float(parallel.whole(nn.utils.get_total_norm(gradients)))
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.add_(gradient, alpha=rho / max(length, LEAST_LENGTH))
            parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
