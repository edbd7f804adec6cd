"""Promises of LoRA: nothing changes before training, only the attention after it; written, it is merged."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from unclip.bundle import Bundle
from unclip.native import load_model, save_model
from unclip.nn.low_rank import add_low_rank_, attention_weights, factors, merged


@pytest.mark.parametrize("component", ["prior", "decoder"])
def test_nothing_changes_before_training_and_only_the_attention_after_it(
    component: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    plain = Bundle.load(tiny_bundle).model(component, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    model = add_low_rank_(plain, 2)
    assert {name: tensor.shape for name, tensor in merged(model).items()} == {
        name: tensor.shape for name, tensor in before.items()
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in merged(model).items())
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(map(torch.numel, trained)) < sum(map(torch.numel, before.values())) / 4
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1)
    save_model(tmp_path / "merged.safetensors", copy.deepcopy(model))
    written = load_model(tmp_path / "merged.safetensors", dtype=torch.float32)
    beside = {name for name, _, _ in attention_weights(written)}
    changed = {name for name, tensor in written.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == beside != set()
    for name in beside:
        assert torch.linalg.matrix_rank(written.state_dict()[name] - before[name], rtol=1e-4) <= 2


def test_the_factors_of_a_change_of_low_rank_give_it_back() -> None:
    change = torch.randn(12, 3) @ torch.randn(3, 20)
    up, down = factors(change, 3)
    assert (up.shape, down.shape) == ((12, 3), (3, 20))
    assert torch.allclose(up @ down, change, atol=1e-4)


def test_a_model_without_attention_and_a_rank_of_none_are_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ValueError, match="a Linear has no attention"):
        add_low_rank_(torch.nn.Linear(2, 2), 1)
    with pytest.raises(ValueError, match="rank 0: choose 1 or more"):
        add_low_rank_(Bundle.load(tiny_bundle).model("prior"), 0)
