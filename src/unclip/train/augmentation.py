"""Pictures mirrored, scaled, stretched, turned and moved, for a network that is told of it.

The non-leaking augmentation of Karras et al. (appendix F.2 of 2206.00364): what is done to a picture is among
what the network is conditioned on, so that it draws nothing so changed where nothing is said.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.train.places import Places

LABELS = 7  # mirrored, size, stretch, cosine and sine of the turn, right, down
SCALE = 0.2  # standard deviation of the size, and of width against height, in powers of two
TURN = math.pi / 6  # radians each way at most
SHIFT = 0.125  # standard deviation, of half a side


class Augmented(NamedTuple):
    """A batch of pictures, and what was done to each."""

    images: Tensor  # (B, 3, S, S) in [-1, 1], white where the picture did not reach
    labels: Tensor  # (B, LABELS) float32, all 0 where nothing was done


def augmented(images: Tensor, share: float, places: Places) -> Augmented:
    """Pictures (B, 3, S, S) in [-1, 1] on a CPU; each of five changes is made to about this share of them."""
    *chances, angle = places.rand(6).T
    mirrored, scaled, stretched, turned, moved = ((chance < share).float() for chance in chances)  # (B,)
    size, shape, across, along = places.randn(4).T
    scale, stretch = SCALE * size * scaled, SCALE * shape * stretched
    turn = TURN * (2 * angle - 1) * turned
    right, down = SHIFT * across * moved, SHIFT * along * moved
    cosine, sine = turn.cos(), turn.sin()
    labels = torch.stack([mirrored, scale, stretch, cosine - 1, sine, right, down], dim=1)
    # for every place of the new picture, where in the old one it comes from: moved back, turned, resized
    width = (1 - 2 * mirrored) * torch.exp2(-scale - stretch)
    height = torch.exp2(stretch - scale)
    matrix = torch.stack(
        [
            torch.stack([width * cosine, width * sine, -width * (cosine * right + sine * down)], dim=1),
            torch.stack([-height * sine, height * cosine, height * (sine * right - cosine * down)], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    changed = labels.any(dim=1)
    out = images.clone()
    if changed.any():
        taken = images[changed]
        grid = F.affine_grid(matrix[changed], list(taken.shape), align_corners=False)
        out[changed] = 1 - F.grid_sample(1 - taken, grid, align_corners=False)  # white without end
    return Augmented(out, labels)
