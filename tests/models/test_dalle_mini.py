"""Promises of DALL-E mini's transformer: the published sizes, and a cache that changes nothing.

That it computes what min-dalle computes is promised in `tests/checkpoints/test_dalle_mini.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.tiny import DALLE_MINI, nudge_
from unclip.config import from_dict, to_dict
from unclip.errors import InputError
from unclip.models.dalle_mini import PRESETS, DalleMini, DalleMiniConfig


@pytest.fixture(scope="module")
def model() -> DalleMini:
    torch.manual_seed(0)
    return nudge_(DalleMini(DALLE_MINI).eval().requires_grad_(False), 0.3)


@pytest.mark.parametrize(("name", "millions"), [("mini", 438), ("mega", 2588)])
def test_a_preset_has_the_published_size(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = DalleMini(PRESETS[name])
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions
    assert from_dict(DalleMiniConfig, to_dict(PRESETS[name])) == PRESETS[name]


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[0, 5, 6, 2, 1, 1, 1, 1], [0, 7, 2, 1, 1, 1, 1, 1]])
    return ids, ids != 1


def test_cached_and_uncached_logits_agree(model: DalleMini) -> None:
    ids, mask = prompts()
    codes = torch.randint(30, (2, 9), generator=torch.Generator().manual_seed(0))
    whole = model(ids, mask, codes)  # (B, N, V)
    assert whole.shape == (2, 9, 30)
    writing = model.begin(model.read(ids, mask), mask)
    for i in range(9):
        step = model.step(writing, None if i == 0 else codes[:, i - 1])
        assert torch.allclose(step, whole[:, i], atol=1e-5), i


def test_a_code_changes_what_follows_and_nothing_before(model: DalleMini) -> None:
    ids, mask = prompts()
    codes = torch.randint(30, (2, 9), generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 30
    difference = (model(ids, mask, codes) - model(ids, mask, changed)).abs().amax((0, 2))  # (N,)
    assert (difference[:5] == 0).all()
    assert (difference[5:] > 1e-4).all()


def test_padding_is_not_read(model: DalleMini) -> None:
    ids, mask = prompts()
    codes = torch.zeros(2, 3, dtype=torch.int64)
    other = torch.where(mask, ids, 9)
    assert torch.equal(model(ids, mask, codes), model(other, mask, codes))
    assert torch.allclose(model(ids[:, :4], mask[:, :4], codes), model(ids, mask, codes), atol=1e-5)


def test_every_step_hears_the_prompt(model: DalleMini) -> None:
    ids, mask = prompts()
    codes = torch.zeros(2, 9, dtype=torch.int64)
    logits = model(ids, mask, codes)
    assert ((logits[0] - logits[1]).abs().amax(1) > 1e-4).all()


def test_what_does_not_fit_is_refused(model: DalleMini) -> None:
    with pytest.raises(InputError, match="9 tokens of text: at most 8 are read"):
        model.read(torch.zeros(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(InputError, match="start 32 and 30 codes do not fit 32 rows of codes"):
        replace(DALLE_MINI, start=32)
    with pytest.raises(InputError, match="not a multiple of its 3 heads"):
        replace(DALLE_MINI, heads=3)
