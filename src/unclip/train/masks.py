"""Masks drawn at random, to learn filling in from (section 4.3 of 2112.10741)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unclip.train.places import Places

# Shares of the masks that leave something: a box is missing, a box is known; in the rest blobs are missing.
MISSING_BOX, KNOWN_BOX = 0.4, 0.3
BLOBS = 5  # noise that blobs are cut from, a side
BLOB_SHARE = (0.2, 0.8)  # of a picture that blobs cover at least and at most, about


def random_masks(places: Places, side: int, whole: float) -> Tensor:
    """(B, 1, S, S) float32, 1 where a picture is known and 0 where it is missing.

    Boxes of any place and shape are missing, or known alone, as what is to be extended is: the latter touch
    an edge of the picture as often as not. Blobs stand for masks drawn by hand. Nothing is known in the share
    `whole`: the network learns to draw all of it.
    """
    pixels = (torch.arange(side, device=places.device) + 0.5) / side  # (S,)

    def boxes(low: Tensor, high: Tensor) -> Tensor:
        """(B, 1, S, S) bool of ends (B, 2) in [0, 1], of height and width."""
        within = (pixels >= low[..., None]) & (pixels < high[..., None])  # (B, 2, S)
        return (within[:, 0, :, None] & within[:, 1, None, :])[:, None]

    of_boxes, of_blobs, of_kinds = places.rand(8 + BLOBS**2 + 3).split([8, BLOBS**2, 3], dim=1)
    low, high, first, second = of_boxes.view(-1, 4, 2).unbind(dim=1)  # (B, 2) each
    missing = boxes(torch.minimum(first, second), torch.maximum(first, second))
    known = boxes(low - 0.5, high + 0.5)
    noise = F.interpolate(of_blobs.view(-1, 1, BLOBS, BLOBS), size=(side, side), mode="bicubic")
    amount, kind, emptied = of_kinds.view(-1, 3, 1, 1, 1).unbind(dim=1)  # (B, 1, 1, 1) each
    least, most = BLOB_SHARE
    share = least + (most - least) * amount.flatten(1)  # (B, 1)
    level = noise.flatten(1).sort(dim=1).values.gather(1, (share * (side**2 - 1)).long())  # (B, 1)
    blobs = noise < level[..., None, None]
    keep = torch.where(kind < MISSING_BOX + KNOWN_BOX, known, ~blobs)
    keep = torch.where(kind < MISSING_BOX, ~missing, keep)
    return (keep & (emptied >= whole)).float()
