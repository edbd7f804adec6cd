"""Pictures in batches with the class that each belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.train.pictures import EVALUATION_PICTURES, check_shift, shifted, spread
from unclip.train.places import Places, chooser


class ClassBy(StrEnum):
    """The column of the corpus that pictures are classed by."""

    GROUP = "group"  # of the emoji: food-drink, animals-nature, ...
    SUBGROUP = "subgroup"  # food-fruit, animal-bird, ...
    CONCEPT = "concept"
    STYLE = "style"


@dataclass(frozen=True)
class LabelledConfig:
    """The pictures that are learned from, and their classes.

    Attributes:
        by: what the classes are, a picture that has none being left out; None is all, without classes.
        sources: factor on a source's share of the pictures (1 where not named, 0 leaves it out).
        shift: pictures are moved by up to so many pixels each way, on white.
    """

    by: ClassBy | None = None
    sources: Mapping[str, float] = field(default_factory=dict)
    shift: int = 0

    def __post_init__(self) -> None:
        check_shift(self.shift)


def labels_of(corpus: Corpus, by: ClassBy | None) -> tuple[str, ...]:
    """The names of the classes of a corpus's pictures, in order; none without `by`.

    Raises InputError where no picture has one.
    """
    if by is None:
        return ()
    labels = tuple(sorted(set(corpus.column(by)) - {""}))
    if not labels:
        raise InputError(
            f"no picture of {corpus.where} has a {by}: build the corpus anew with this version, or class by "
            "concept or style"
        )
    return labels


class Labelled:
    """Draws batches from a corpus: concepts evenly, as `train.pictures.Pictures` does."""

    def __init__(self, corpus: Corpus, config: LabelledConfig, labels: tuple[str, ...], size: int) -> None:
        self.config = config
        self.pixels = corpus.pixels(size)
        weights = corpus.weights(dict(config.sources))
        self.classes: np.ndarray | None = None  # (N,) int64
        if config.by is not None:
            numbers = {label: number for number, label in enumerate(labels)}
            self.classes = np.array([numbers.get(name, -1) for name in corpus.column(config.by)])
            weights = weights * (self.classes >= 0)
        self.weights = torch.from_numpy(weights).double()
        self.chosen = chooser(corpus, self.weights)

    def draw(self, places: Places) -> tuple[Tensor, Tensor | None]:
        """Pictures (B, 3, S, S) and their classes (B,) int64, None without classes."""
        index = self.chosen(places).numpy()
        return self.at(index, shifted(self.pixels[index], self.config.shift, places))

    def batches(self, size: int) -> list[tuple[Tensor, Tensor | None]]:
        """Up to `EVALUATION_PICTURES` of those that can be drawn, the same every time, `size` at once."""
        known = np.flatnonzero(self.weights.numpy() > 0)
        chosen = known[spread(len(known), EVALUATION_PICTURES)]
        parts = (chosen[start : start + size] for start in range(0, len(chosen), size))
        return [self.at(part, self.pixels[part]) for part in parts]

    def at(self, index: np.ndarray, pixels: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Pictures (B, S, S, 3) of these positions as tensors, with their classes."""
        classes = None if self.classes is None else torch.from_numpy(self.classes[index])
        return from_uint8(pixels), classes
