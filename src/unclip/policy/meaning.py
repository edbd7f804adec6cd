"""Prompts judged by what they mean: near to a description of a category, farther from what is harmless.

The text tower is whatever reads texts into one space. How well it tells is a property of its weights:
`benchmarks/policy.py meaning` measures it, and no preset uses it, because the shipped one cannot
(`docs/policy.md`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

NEAREST = 5  # background texts whose mean similarity a prompt's own is compared with


class TextTower(Protocol):
    """The part of a CLIP that is needed here; `unclip.embedding.ClipEmbedder` has it."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, E), L2-normalised."""


@dataclass(frozen=True)
class Meaning:
    """Categories of texts by a text tower.

    Attributes:
        tower: reads texts.
        categories: of each description.
        descriptions: (D, E).
        background: (B, E) of harmless texts.
        least: how much nearer to a description than to the background a text of its category is.
    """

    tower: TextTower
    categories: tuple[str, ...]
    descriptions: np.ndarray
    background: np.ndarray
    least: float

    @classmethod
    def of(
        cls,
        tower: TextTower,
        background: Sequence[str],
        share: float,
        described: Mapping[str, Sequence[str]] | None = None,
    ) -> Meaning:
        """A judge that takes `share` of the harmless texts for what is not allowed.

        Args:
            tower: reads texts.
            background: harmless texts, at least 100, such as captions; half of them set the limit, against
                the other half.
            share: 0 to 1.
            described: texts by category; the package's own by default.

        Raises:
            ValueError: too few texts.
        """
        if len(background) < 100:
            raise ValueError(f"{len(background)} harmless texts: give at least 100")
        known = descriptions() if described is None else described
        categories = tuple(name for name, texts in known.items() for _ in texts)
        rows = _embedded(tower, [text for texts in known.values() for text in texts])
        kept, limiting = background[::2], background[1::2]
        judge = cls(tower, categories, rows, _embedded(tower, kept), 0.0)
        least = float(np.quantile(judge.scores(limiting), 1 - share))
        return cls(tower, categories, rows, judge.background, least)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """The margin (N,) by which each text is nearer to a description than to the background."""
        return self._compared(texts)[0]

    def found(self, texts: Sequence[str]) -> list[str | None]:
        """The category that each text is of; None where it is of none."""
        scores, nearest = self._compared(texts)
        return [
            self.categories[index] if score > self.least else None
            for score, index in zip(scores, nearest, strict=True)
        ]

    def _compared(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = _embedded(self.tower, texts)  # (N, E)
        to_described = rows @ self.descriptions.T  # (N, D)
        to_background = np.sort(rows @ self.background.T, axis=1)[:, -NEAREST:].mean(axis=1)  # (N,)
        return to_described.max(axis=1) - to_background, to_described.argmax(axis=1)


@cache
def descriptions() -> Mapping[str, tuple[str, ...]]:
    """The package's descriptions of categories."""
    table = tomllib.loads((Path(__file__).parent / "meaning.toml").read_text(encoding="utf-8"))
    return {name: tuple(texts) for name, texts in table["described"].items()}


def _embedded(tower: TextTower, texts: Sequence[str]) -> np.ndarray:
    return np.asarray(tower.embed_texts(list(texts)), np.float32)
