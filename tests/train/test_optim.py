"""Learning rates, averages and which parameter is trained by what."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from support.tiny_task import TinyConfig, TinyModel
from unclip.config import from_dict, to_dict
from unclip.errors import InputError, TrainingError
from unclip.train.config import LoopConfig, Optimiser, RateSchedule
from unclip.train.optim import FlatMuon, MovingAverage, Optimisers, ema_decay, muon_names, rate_factor


def test_wsd_warms_up_stays_and_decays() -> None:
    rates = [rate_factor(RateSchedule.WSD, step, 100, 10, 0.2) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(rates[10:81]) == {1.0}
    assert rates[80:] == pytest.approx([(100 - step) / 20 for step in range(80, 100)])


def test_cosine_falls_by_half_in_the_middle() -> None:
    def factor(step: int) -> float:
        return rate_factor(RateSchedule.COSINE, step, 110, 10, 0.2)

    assert factor(10) == pytest.approx(1)
    assert factor(60) == pytest.approx(0.5)
    assert 0 < factor(109) < 0.001


def test_constant_stays() -> None:
    assert {rate_factor(RateSchedule.CONSTANT, step, 100, 0, 0.2) for step in range(100)} == {1.0}


@given(
    schedule=st.sampled_from(RateSchedule),
    steps=st.integers(1, 1000),
    warmup=st.integers(0, 1500),
    share=st.floats(0.01, 1),
    step=st.integers(0, 2000),
)
def test_no_update_of_a_run_is_lost_and_none_is_too_large(
    schedule: RateSchedule, steps: int, warmup: int, share: float, step: int
) -> None:
    factor = rate_factor(schedule, step, steps, warmup, share)
    assert 0 <= factor <= 1
    if step < steps:
        assert factor > 0


def test_a_half_life_halves() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, value=800.0, ramp=0.0)
    nn.init.constant_(model.weight, 1.0)
    average.update_(model, 8, 8)  # the first update takes the weights as they are
    nn.init.constant_(model.weight, 0.0)
    for step in range(100):  # 800 pictures
        average.update_(model, 8, 8 * (step + 2))
    assert float(average.module.weight) == pytest.approx(0.5, abs=1e-5)


def test_values_below_one_are_decays_per_step_of_any_batch() -> None:
    assert ema_decay(0.99, 64, 10**9, ramp=0.05) == pytest.approx(0.99)
    assert ema_decay(0.99, 7, 10**9, ramp=0.05) == pytest.approx(0.99)


def test_the_ramp_forgets_the_first_weights() -> None:
    assert ema_decay(0.9999, 10, 1000, ramp=0.05) == pytest.approx(0.5 ** (10 / 50))
    assert ema_decay(0.9999, 10, 1000, ramp=0) == pytest.approx(0.9999)


def test_decay_acts_on_matrices_and_kernels_alone() -> None:
    model = TinyModel(TinyConfig())
    model.position_embedding = nn.Parameter(torch.zeros(4, 8))
    config = LoopConfig(steps=1, batch=1, weight_decay=0.3)
    (adamw,) = Optimisers(model, config).parts
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = {group["weight_decay"]: [names[p] for p in group["params"]] for group in adamw.param_groups}
    assert groups[0.3] == ["first.weight", "middle.weight", "hidden.weight", "last.weight"]
    assert {"position_embedding", "label.weight", "norm.weight", "last.bias"} <= set(groups[0.0])
    assert sum(map(len, groups.values())) == len(names)


def test_muon_takes_the_hidden_matrices_alone() -> None:
    model = TinyModel(TinyConfig())
    assert muon_names(model, ()) == ["middle.weight", "hidden.weight"]
    assert muon_names(model, ("hid*",)) == ["middle.weight"]
    with pytest.raises(TrainingError, match=r"'hiden\*' matches no parameter; there are first.weight"):
        muon_names(model, ("hiden*",))
    adamw, muon = Optimisers(model, LoopConfig(steps=1, batch=1, optimiser=Optimiser.MUON)).parts
    counts = [sum(len(group["params"]) for group in part.param_groups) for part in (adamw, muon)]
    assert counts == [len(list(model.parameters())) - 2, 2]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_flat_muon_is_muon_on_flattened_kernels(memory_format: Any) -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(6, 4, 3, 3).to(memory_format=memory_format))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    flat = FlatMuon([kernel], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    plain = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(6, 4, 3, 3)
        kernel.grad, matrix.grad = gradient.to(memory_format=memory_format), gradient.flatten(1)
        flat.step()
        plain.step()
    assert torch.equal(kernel.detach().flatten(1), matrix.detach())
    flat.zero_grad()
    assert kernel.grad is None


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(TrainingError, match="nothing to train"):
        Optimisers(nn.Linear(1, 1).requires_grad_(False), LoopConfig(steps=1, batch=1))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 0}, "steps: got 0, allowed is at least 1"),
        ({"batch": 8, "accumulate": 3}, "accumulate: got 3, allowed is a divisor of the batch 8"),
        ({"ema": [0.0]}, "ema"),
        ({"adamw_only": ["a"]}, "adamw_only"),
        ({"optimiser": "muon", "parallel": "fsdp"}, "parallel"),
        ({"parallel": "fsdp", "gradient_hook": "powersgd"}, "gradient_hook"),
        ({"sam_rho": 0.1, "gradient_hook": "powersgd"}, "'none' with sam_rho"),
        ({"schedule": "linear"}, "train.schedule: got 'linear', allowed are 'constant', 'cosine', 'wsd'"),
        ({"warmpu": 3}, "did you mean 'warmup'"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as raised:
        from_dict(LoopConfig, {"steps": 1, "batch": 1, **changes}, "train")
    assert named in str(raised.value)


def test_settings_survive_the_file() -> None:
    config = LoopConfig(steps=3, batch=4, optimiser=Optimiser.MUON, ema=(0.5, 1000.0), adamw_only=("a.*",))
    assert from_dict(LoopConfig, to_dict(config)) == config
    assert math.isclose(config.learning_rate, 2e-4)
