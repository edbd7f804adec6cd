"""Sharpness-aware minimisation: which gradient a step goes by, and what it leaves as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.tiny_task import TinyConfig, TinyModel, TinyTask
from unclip.train.config import LoopConfig, Precision
from unclip.train.loop import train
from unclip.train.places import Places
from unclip.train.sam import climbed


def test_the_gradient_is_that_of_the_worst_place_nearby() -> None:
    """Equation 2 and 3 of 2010.01412, by hand: the loss a x^2 / 2 + b y^2 / 2."""
    curvature = torch.tensor([3.0, 0.5])
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)

    def backward() -> None:
        (curvature * model.weight.square()).sum().div(2).backward()

    backward()
    gradient = model.weight.grad.clone()
    torch.testing.assert_close(gradient, curvature[None])
    with climbed(model, 0.1):
        assert model.weight.grad is None
        backward()
    torch.testing.assert_close(model.weight.detach(), torch.ones(1, 2), rtol=0, atol=0)
    expected = curvature * (1 + 0.1 * curvature / curvature.norm())
    torch.testing.assert_close(model.weight.grad, expected[None])


def test_weights_and_buffers_come_back_to_the_bit_even_from_an_error() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model(torch.randn(2, 3, 5, 5)).square().sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="in the middle"), climbed(model, 0.5):
        moved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model(torch.randn(2, 3, 5, 5))
        raise RuntimeError("in the middle")
    assert not torch.equal(moved["0.weight"], before["0.weight"])
    assert torch.equal(moved["1.running_mean"], before["1.running_mean"])
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_what_is_not_trained_and_a_gradient_of_zero_stay() -> None:
    model = TinyModel(TinyConfig())
    model.first.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    before = model.hidden.weight.detach().clone()
    with climbed(model, 0.5):
        assert torch.equal(model.hidden.weight, before)


def test_both_gradients_of_a_step_are_of_the_same_noise(tmp_path: Path) -> None:
    """The task's own noise and dropout: another draw would be another loss."""
    drawn: list[Tensor] = []

    class Listens(TinyTask):
        def loss(self, model: nn.Module, batch: Any, places: Places) -> Any:
            loss = super().loss(model, batch, places)
            drawn.append(torch.cat([torch.rand(2), places.rand(2)[0]]))
            return loss

    config = LoopConfig(
        steps=2,
        batch=4,
        accumulate=2,
        sam_rho=0.1,
        precision=Precision.FLOAT32,
        preview_steps=0,
        tensorboard=False,
    )
    train(Listens(), config, tmp_path)
    first, second = drawn[:4], drawn[4:]
    for step in (first, second):
        assert torch.equal(step[0], step[2])
        assert torch.equal(step[1], step[3])
        assert not torch.equal(step[0], step[1])
    assert not torch.equal(first[0], second[0])
