"""Plain names as a person types them: is what is drawn known again?

The words were drawn by chance from published lists (`benchmarks/choose_names.py`) and are frozen in
`names.json`: 80 things and 20 compositions in English, and 20 of the things in five languages more. The judge
finds each thing among the 80; people name the pictures on a sheet without captions.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from unclip.drawing import Options
from unclip.evaluate import forms
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import share
from unclip.pipeline import Pipeline

SECTION = "names"
COMPOSED = "compositions"
SHOWN_SIZE = 256  # largest side of a picture on the sheets


@dataclass(frozen=True)
class Name:
    """A prompt, its language or `COMPOSED`, and what it is in English."""

    prompt: str
    group: str
    english: str


def frozen() -> tuple[list[Name], int]:
    """The prompts, and the seed that they are drawn with."""
    known = json.loads(files("unclip.evaluate").joinpath("names.json").read_text(encoding="utf-8"))
    seed = int(known.pop("seed"))
    english = known["en"]
    names = [
        Name(text, group, text if group == COMPOSED else english[place])
        for group, texts in known.items()
        for place, text in enumerate(texts)
    ]
    return names, seed


def pictures(model: Pipeline, names: list[Name], size: int, seed: int) -> Generator[Step, None, np.ndarray]:
    """One picture of each prompt as the bundle draws it for everybody, uint8 (N, S, S, 3)."""
    prompts = [name.prompt for name in names]
    return (yield from draw(model, prompts, seed, f"drawing {SECTION}", Options(size=size)))


def shown_size(model: Pipeline) -> int:
    """The side of pictures that people look at."""
    return max((side for side in model.sizes if side <= SHOWN_SIZE), default=model.sizes[0])


def evaluate(
    model: Pipeline, judge: Encoder, findings: Findings
) -> Generator[Step, None, list[tuple[Name, np.ndarray]]]:
    """Judge R@1 of the things in each language among the English names of all; and the pictures drawn."""
    names, seed = frozen()
    drawn = yield from pictures(model, names, shown_size(model), seed)
    english = [name.english for name in names if name.group == "en"]
    texts = judge.texts(english)  # (W, E)
    for group in dict.fromkeys(name.group for name in names):
        if group == COMPOSED:
            continue  # what is composed is judged by its halves, in the part of that name
        rows = [row for row, name in enumerate(names) if name.group == group]
        likeness = judge.images(drawn[rows]) @ texts.T  # (M, W)
        own = np.array([english.index(names[row].english) for row in rows])
        right = likeness.argmax(axis=1) == own
        estimate = share(right, own)
        findings.figures.append(Figure(SECTION, "judge R@1", estimate, "", group, "drawn", len(english)))
    return list(zip(names, drawn, strict=True))


def write_form(folder: Path, drawn: list[tuple[Name, np.ndarray]], about: dict[str, str]) -> list[Path]:
    """The sheets without captions, shuffled, with a blank form, and the key that the reader does not see."""
    order = list(range(len(drawn)))
    Random("names").shuffle(order)
    images = [Image.fromarray(drawn[row][1]) for row in order]
    items = [
        {"prompt": drawn[row][0].prompt, "group": drawn[row][0].group, "accepted": [drawn[row][0].english]}
        for row in order
    ]
    return forms.write(folder, forms.NAMES, images, items, about)
