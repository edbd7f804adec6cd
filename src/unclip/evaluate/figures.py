"""The findings of an evaluation: figures with their intervals, verdicts in words, sheets of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from unclip.evaluate.statistics import Estimate


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        section: the part of the evaluation: "clip", "prior", "pictures", "upsamplers", "ablation", "rerank".
        name: what was measured, as docs/evaluation.md has it.
        estimate: the value with its interval.
        split: of the corpus, that the captions are of.
        language: of the captions; empty where none are read.
        variant: of what, where several are compared: "drawn", "real", "bicubic", "guidance 2".
        among: how many there were to choose from, where something was to be found.
    """

    section: str
    name: str
    estimate: Estimate
    split: str
    language: str = ""
    variant: str = ""
    among: int | None = None


@dataclass
class Findings:
    """The findings so far; every part of the evaluation adds to them."""

    figures: list[Figure] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    sheets: dict[str, Image.Image] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)  # section -> why
