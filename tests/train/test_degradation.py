"""Promises of the degradations: the paper's kernel, nothing out of range, the same for the same generator."""

from __future__ import annotations

import pytest
import torch

from unclip.train.degradation import BSR_STEPS, Degradation, blur, degrade, gaussian_kernel
from unclip.train.places import Places


def picture() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_blur_is_the_papers() -> None:
    kernel = gaussian_kernel(3, (0.6, 0.6))
    assert kernel.sum().item() == pytest.approx(1)
    assert (kernel[1, 2] / kernel[1, 1]).item() == pytest.approx(torch.tensor(-0.5 / 0.36).exp().item())
    point = torch.full((1, 3, 5, 5), -1.0)
    point[..., 2, 2] = 1
    torch.testing.assert_close((blur(point)[0, 0, 1:4, 1:4] + 1) / 2, kernel)


def test_one_colour_stays_that_colour() -> None:
    flat = torch.full((2, 3, 8, 8), 0.25)
    torch.testing.assert_close(blur(flat), flat)


@pytest.mark.parametrize("degradation", list(Degradation))
def test_shape_and_range_are_kept_and_chance_is_that_of_the_places(degradation: Degradation) -> None:
    low = picture()
    first, again, other = (degrade(low, degradation, Places.whole(len(low), seed)) for seed in (1, 1, 2))
    assert first.shape == low.shape
    assert first.abs().max() <= 1
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (degradation is not Degradation.BSR)
    assert torch.equal(low, picture())


@pytest.mark.parametrize("step", BSR_STEPS, ids=lambda step: step.__name__)
def test_each_step_changes_the_picture_a_little(step: object) -> None:
    assert callable(step)
    low = picture()[:1]
    spoiled = step(low, torch.Generator().manual_seed(3))
    assert spoiled.shape == low.shape
    assert 0 < (spoiled - low).abs().mean() < 0.5
