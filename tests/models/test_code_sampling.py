"""The promise that codes are drawn with the probabilities that the settings say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unclip.errors import InputError
from unclip.models.code_sampling import CodeSampling, draw_codes, draw_ordered, guided

PROBABILITIES = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
DRAWS = 20_000


def shares(sampling: CodeSampling, probabilities: Tensor = PROBABILITIES) -> Tensor:
    """The share of draws that each code gets."""
    logits = probabilities.log().expand(DRAWS, -1) + 3.0  # logits have no fixed zero
    noise = torch.empty(DRAWS, len(probabilities)).exponential_(generator=torch.Generator().manual_seed(0))
    return draw_codes(logits, noise, sampling).bincount(minlength=len(probabilities)) / DRAWS


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (CodeSampling(), PROBABILITIES),
        (CodeSampling(temperature=0.5), PROBABILITIES**2 / (PROBABILITIES**2).sum()),
        (CodeSampling(top_k=2), torch.tensor([4 / 7, 3 / 7, 0, 0, 0])),
        (CodeSampling(top_k=99), PROBABILITIES),
        (CodeSampling(top_p=0.75), torch.tensor([8 / 17, 6 / 17, 3 / 17, 0, 0])),
        (CodeSampling(top_p=0.01), torch.tensor([1.0, 0, 0, 0, 0])),
        (CodeSampling(top_k=3, top_p=0.5), torch.tensor([4 / 7, 3 / 7, 0, 0, 0])),
    ],
    ids=lambda value: str(value) if isinstance(value, CodeSampling) else "",
)
def test_codes_come_as_often_as_they_should(sampling: CodeSampling, expected: Tensor) -> None:
    found = shares(sampling)
    assert (found - expected).abs().max() < 4 * 0.5 / DRAWS**0.5  # four standard deviations at most
    assert torch.equal(found == 0, expected == 0)


@pytest.mark.parametrize(
    "sampling",
    [CodeSampling(), CodeSampling(temperature=0.5), CodeSampling(top_k=2), CodeSampling(top_p=0.75)],
)
def test_ordered_codes_are_as_likely_as_others(sampling: CodeSampling) -> None:
    logits = PROBABILITIES.log().expand(DRAWS, -1) + 3.0
    uniform = torch.arange(DRAWS)[:, None] / DRAWS
    found = draw_ordered(logits, uniform, sampling).bincount(minlength=len(PROBABILITIES)) / DRAWS
    expected = shares(sampling)
    assert (found - expected).abs().max() < 4 * 0.5 / DRAWS**0.5
    assert torch.equal(found == 0, expected == 0)


def test_logits_that_round_differently_move_an_ordered_code_to_a_neighbour_at_most() -> None:
    """The race of exponential clocks would take another one, from anywhere."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 64, generator=generator)
    other = logits + 1e-3 * torch.randn(logits.shape, generator=generator)
    uniform = torch.rand(2000, 1, generator=generator)
    codes, others = (draw_ordered(each, uniform, CodeSampling()) for each in (logits, other))
    assert (codes - others).abs().max() == 1
    assert (codes != others).float().mean() < 0.01


def test_codes_as_likely_as_the_last_one_kept_stay() -> None:
    """As in min-dalle: which of several equals is among the k likeliest is nobody's to say."""
    found = shares(CodeSampling(top_k=2), torch.tensor([0.4, 0.2, 0.2, 0.2]))
    assert (found > 0).all()


def test_the_draw_is_that_of_multinomial_from_the_same_noise() -> None:
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(1))
    for seed in range(20):
        noise = torch.empty(1, 500).exponential_(generator=torch.Generator().manual_seed(seed))
        weights = (logits - logits.max()).exp()
        theirs = torch.multinomial(weights, 1, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(draw_codes(logits, noise, CodeSampling()), theirs[:, 0])


def test_guidance_moves_away_from_the_logits_without_the_prompt() -> None:
    conditional, unconditional = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    assert torch.equal(guided(conditional, unconditional, 1.0), conditional)
    assert torch.equal(guided(conditional, unconditional, 0.0), unconditional)
    assert torch.equal(guided(conditional, unconditional, 3.0), torch.tensor([[1.0, 6.0]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0: choose more than 0"),
        ({"top_k": 0}, "top_k is 0: choose 1 or more"),
        ({"top_p": 1.5}, "top_p is 1.5: choose more than 0, at most 1"),
        ({"guidance": float("nan")}, "guidance is nan"),
    ],
)
def test_settings_outside_their_range_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CodeSampling(**changes)
