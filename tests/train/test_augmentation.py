"""Promises of the augmentation: what its labels say was done, on white, by the generator's chance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unclip.train import augmentation
from unclip.train.augmentation import LABELS, TURN, Augmented, augmented
from unclip.train.places import Places

SIDE = 32


def spot(across: int, down: int) -> Tensor:
    """A black spot of 4 x 4 on white, (3, SIDE, SIDE)."""
    picture = torch.ones(3, SIDE, SIDE)
    picture[:, down - 2 : down + 2, across - 2 : across + 2] = -1
    return picture


def centre(picture: Tensor) -> tuple[float, float]:
    """Where the black of (3, S, S) is, from -1 (left, above) to 1 (right, below)."""
    black = (1 - picture).mean(dim=0)
    places = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    return float((black.sum(0) * places).sum() / black.sum()), float(
        (black.sum(1) * places).sum() / black.sum()
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed(images: Tensor, share: float, seed: int = 0) -> Augmented:
    return augmented(images, share, Places.whole(len(images), seed))


def test_none_is_changed_at_a_share_of_zero_and_each_in_all_ways_at_one() -> None:
    images = torch.rand(6, 3, SIDE, SIDE, generator=seeded()) * 2 - 1
    none = changed(images, 0.0)
    assert torch.equal(none.images, images)
    assert torch.equal(none.labels, torch.zeros(6, LABELS))
    every = changed(images, 1.0)
    assert bool((every.labels != 0).all())
    assert bool((every.images != images).flatten(1).any(dim=1).all())
    assert every.images.abs().max() <= 1 + 1e-6


def test_some_are_changed_and_the_others_are_as_they_were() -> None:
    images = torch.rand(400, 3, 8, 8, generator=seeded()) * 2 - 1
    found = changed(images, 0.12)
    same = ~found.labels.any(dim=1)
    assert abs(same.float().mean().item() - 0.88**5) < 0.08
    assert torch.equal(found.images[same], images[same])
    assert torch.equal(found.images, changed(images, 0.12).images)
    assert not torch.equal(found.labels, changed(images, 0.12, 1).labels)


def test_labels_say_where_a_spot_went() -> None:
    images = torch.stack([spot(10, 14)] * 64)
    x, y = centre(images[0])
    found = changed(images, 1.0, 2)
    inside = 0
    for picture, label in zip(found.images, found.labels, strict=True):
        mirrored, scale, stretch, cosine, sine, right, down = label.tolist()
        wide = x * (1 - 2 * mirrored) * 2 ** (scale + stretch)
        high = y * 2 ** (scale - stretch)
        expected = (
            (cosine + 1) * wide - sine * high + right,
            sine * wide + (cosine + 1) * high + down,
        )
        if max(map(abs, expected)) < 0.7:  # all of the spot is in the picture
            inside += 1
            assert centre(picture) == pytest.approx(expected, abs=0.03)
    assert inside > 40


def test_mirrored_alone_is_to_the_pixel_the_mirrored_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCALE", "TURN", "SHIFT"):
        monkeypatch.setattr(augmentation, name, 0.0)
    images = torch.rand(3, 3, SIDE, SIDE, generator=seeded()) * 2 - 1
    found = changed(images, 1.0)
    torch.testing.assert_close(found.images, images.flip(3), atol=1e-5, rtol=0)
    assert found.labels[:, 0].tolist() == [1, 1, 1]


def test_turns_are_small_and_white_stays_white() -> None:
    found = changed(torch.ones(200, 3, 8, 8), 1.0)
    torch.testing.assert_close(found.images, torch.ones(200, 3, 8, 8))
    assert found.labels[:, 4].abs().max() <= math.sin(TURN)
    assert found.labels[:, 4].abs().max() > 0.9 * math.sin(TURN)
