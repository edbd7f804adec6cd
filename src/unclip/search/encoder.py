"""What an index needs of a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from unclip.bundle import Preprocessing


class Encoder(Protocol):
    """Texts and pictures to (N, E) L2-normalised; `unclip.embedding.ClipEmbedder` is one.

    Attributes:
        name: of the model, for messages.
        identity: stands for everything that an embedding depends on.
    """

    name: str
    identity: str

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures are made what the model sees."""

    @property
    def scale(self) -> float:
        """Factor that makes cosines the logits of a softmax over texts."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, E)."""

    def embed_images(self, images: Sequence[Image.Image | Path | str]) -> Tensor:
        """(N, E)."""

    def embed_pixels(self, pixels: np.ndarray) -> Tensor:
        """(N, E) of uint8 (N, S, S, 3)."""
