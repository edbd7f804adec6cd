"""The promise that a step's work is counted as it is: beside closed forms, and beside steps really taken."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.tiny_recipe import every_stage
from unclip import recipes
from unclip.errors import InputError
from unclip.models.dalle1 import Dalle1
from unclip.runtime import autocast
from unclip.train import workload
from unclip.train.config import LoopConfig
from unclip.train.live_bytes import LiveBytes
from unclip.train.plan import Outline
from unclip.train.stages import TASKS
from unclip.train.workload import PASSES, Workload

SIZES = ("text_context=32", "grid=8", "width=64", "layers=6", "heads=2", "kernel=3")
T, N, D, LAYERS, WORDS, CODES = 32, 64, 64, 6, 300, 32


def counted(outline: Outline, stage: str, pictures: int = 2, **how: Any) -> Workload:
    config = outline.part(stage, "train", LoopConfig)
    return workload.count(outline, stage, config, pictures, torch.bfloat16, **how)


def small(*settings: str) -> Outline:
    """The recipe of DALL-E 1 with a transformer of these sizes."""
    changes = (*(f"model.{size}" for size in SIZES), *settings)
    words = (f"tokenizer.vocabulary={WORDS}", f"vqvae.model.dvae.vocabulary={CODES}")
    return Outline(recipes.load("dalle1", [*words, *(f"dalle1.{change}" for change in changes)]))


def test_every_stage_that_trains_a_network_is_counted() -> None:
    assert set(PASSES) == set(TASKS)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_forward_pass_of_a_transformer_is_its_closed_form(on_gpu: bool) -> None:
    found = counted(small(), "dalle1", pictures=3, on_gpu=on_gpu)
    length = T + N - 1
    layer = 2 * length * 12 * D**2 + 4 * length**2 * D
    logits = 2 * D * ((T - 1) * WORDS + N * CODES)
    assert found.forward == 3 * (LAYERS * layer + logits)


def test_the_backward_pass_is_twice_as_much_and_checkpointing_adds_most_of_the_forward_pass() -> None:
    plain = counted(small("task.checkpointing=false"), "dalle1", on_gpu=False)
    again = counted(small("task.checkpointing=true"), "dalle1", on_gpu=False)
    assert plain.backward == 2 * plain.forward
    assert 0.6 * plain.forward < again.backward - plain.backward < plain.forward
    assert again.light.kept < plain.light.kept / 3


def test_weights_in_16_bits_are_kept_for_all_layers_or_made_one_by_one() -> None:
    """With checkpointing nothing else keeps them: a process that holds a share has no room for the whole."""
    outline = small("task.checkpointing=true", "model.layers=12")
    found = counted(outline, "dalle1")
    block = 2 * 12 * D**2
    assert found.held.cast > 12 * block
    assert found.light.cast < found.held.cast - 10 * block
    assert found.light.kept == found.held.kept


@pytest.mark.parametrize("keeps", [True, False])
def test_bytes_are_those_of_a_pass_really_taken(keeps: bool) -> None:
    outline = small("task.checkpointing=true")
    work = counted(outline, "dalle1", on_gpu=False)
    found = work.held if keeps else work.light
    model = Dalle1(outline.settings("dalle1").model)
    model.checkpointing = True
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(forget)
    ids, mask = torch.ones(2, T, dtype=torch.int64), torch.ones(2, T, dtype=torch.bool)
    codes = torch.ones(2, N, dtype=torch.int64)
    with LiveBytes(model.parameters()) as live:
        with autocast(torch.device("cpu"), torch.bfloat16, keeps=keeps):
            loss = model.losses(ids, mask, codes).total
        assert found.kept == pytest.approx(live.now - live.cast_now, rel=0.02)
        loss.backward()
    assert found.cast == live.cast
    assert found.kept + found.cast + found.working == pytest.approx(live.peak, rel=0.02)


def forget(parameter: Tensor) -> None:
    parameter.grad = None


@pytest.mark.slow
def test_a_transformer_of_12_billion_takes_no_memory() -> None:
    found = counted(Outline(recipes.load("dalle1-12b")), "dalle1", pictures=1)
    assert found.parameters == pytest.approx(12.3e9, rel=1e-3)
    attention = 64 * 4 * 1279**2 * 3968
    assert found.forward == pytest.approx(2 * 12.3e9 * 1279 + attention, rel=0.02)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 0.1 * 4 * found.parameters


def test_units_are_what_fsdp_gathers() -> None:
    found = counted(small(), "dalle1")
    assert len(found.units) == LAYERS + 1
    assert sum(found.units) == found.parameters
    assert len(set(found.units[:-1])) == 1


@pytest.mark.parametrize("stage", [stage for stage in TASKS if stage != "upsampler-1024"])
def test_all_kinds_of_stages_can_be_counted(stage: str, corpus: Path) -> None:
    outline = Outline(every_stage(), corpus)
    one, two = (counted(outline, stage, pictures) for pictures in (4, 8))
    assert one.parameters == two.parameters > 0
    assert one.forward > 0
    assert one.backward > 0
    if stage not in ("clip", "noised-clip"):  # whose pairs are compared with all of the batch
        assert two.forward == 2 * one.forward
    assert two.held.kept > one.held.kept


def test_settings_that_do_not_go_together_are_named() -> None:
    outline = Outline(recipes.load("dalle2", ["decoder.model.head_channels=7"]))
    with pytest.raises(InputError, match="decoder"):
        counted(outline, "decoder")


def test_nothing_is_left_of_the_way_of_a_gpu() -> None:
    """Attention on this machine takes the way of this machine afterwards."""
    from unclip.nn.attention import attention, fused

    query = torch.randn(1, 1, 4, 8, requires_grad=True)
    with fused(), LiveBytes() as on_gpu:
        attention(query, query, query)
    with LiveBytes() as here:
        attention(query, query, query)
    assert on_gpu.peak != here.peak
