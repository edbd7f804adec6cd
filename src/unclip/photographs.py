"""Photographs given to a CLIP that has learned from pictograms: noticed by a direction of its space."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from unclip.catalogue import KNOWS_PHOTOGRAPHS
from unclip.errors import warn
from unclip.manifest import Photographic

SHARE = 0.2  # of the pictures seen: one in a hundred pictograms is taken for a photograph


class Knowing(Protocol):
    """The part of a CLIP that is needed here; `unclip.embedding.ClipEmbedder` has it."""

    @property
    def name(self) -> str:
        """Of its bundle."""

    @property
    def photographic(self) -> Photographic | None:
        """The direction; None where it knows photographs, or that is not known."""


class Watch:
    """Counts the pictures that look like photographs, and warns where they are more than a fifth."""

    def __init__(self, clip: Knowing) -> None:
        self._clip = clip
        self._seen = self._found = 0

    def see(self, embeddings: Tensor | np.ndarray) -> None:
        """Look at embeddings, (N, E), L2-normalised."""
        test = self._clip.photographic
        if test is None or not len(embeddings):
            return
        along = np.asarray(embeddings, np.float32) @ np.array(test.direction, np.float32)  # (N,)
        self._seen += len(along)
        self._found += int((along > test.least).sum())

    def tell(self) -> None:
        """Warn of what was seen since the last time, with the command that fetches a CLIP that serves."""
        seen, found = self._seen, self._found
        self._seen = self._found = 0
        if found <= SHARE * seen:
            return
        warn(
            f"{found} of {seen} pictures look like photographs, and the CLIP of {self._clip.name} has "
            "learned from pictograms alone: what it says of them means little. `unclip pull "
            f"{KNOWS_PHOTOGRAPHS}` fetches one that knows photographs, --model {KNOWS_PHOTOGRAPHS} takes it"
        )
