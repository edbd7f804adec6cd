"""Promises of random masks: every kind comes, all is 0 or 1, and a seed draws the same ones again."""

from __future__ import annotations

import torch

from unclip.train.masks import random_masks
from unclip.train.places import Places


def test_masks_are_of_many_kinds_and_of_their_seed() -> None:
    masks = random_masks(Places.whole(400, 1), 32, whole=0.15)
    assert masks.shape == (400, 1, 32, 32)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masks, random_masks(Places.whole(400, 1), 32, whole=0.15))
    known = masks.mean(dim=(1, 2, 3))
    assert 0.1 < float((known == 0).float().mean()) < 0.25
    assert 0.3 < float(known.mean()) < 0.7
    corners = masks[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert bool((corners.sum(1) == 4).any())  # a box is missing
    edges = torch.stack([masks[:, 0, 0].amax(1), masks[:, 0, -1].amax(1)], 1).sum(1)
    assert bool(((edges == 1) & (known > 0.2)).any())  # a box at one side is known


def test_the_share_of_whole_pictures_is_what_was_asked_for() -> None:
    def share(whole: float) -> float:
        masks = random_masks(Places.whole(600, 2), 16, whole)
        return float((masks.amax(dim=(1, 2, 3)) == 0).float().mean())

    assert share(0.0) < 0.02
    assert 0.63 < share(0.7) < 0.77
    assert share(1.0) == 1
