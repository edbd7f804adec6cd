"""Compositions: are both things there, and where and of the colour that was asked for?

Pairs of things that the corpus knows one by one, and that no scene of it has together. The judge looks at
each half of a picture, and has to find the thing among the names of a hundred. Beside what is drawn stand
real pictures put together in the same way, the same judged by another pair's names, and a single thing in
the middle, which is no composition.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from unclip.data.captions import with_article
from unclip.data.colours import SAYS_COLOUR, colours
from unclip.data.corpus import Corpus
from unclip.data.records import SCENES
from unclip.data.scene_words import Relation
from unclip.data.scenes import GROUPS, HUES, MOST_WORDS, NO_THINGS, STYLES, held_out, plural
from unclip.drawing import Options
from unclip.errors import DataError
from unclip.evaluate.encoder import Encoder, Step
from unclip.evaluate.figures import Figure, Findings
from unclip.evaluate.stages import draw
from unclip.evaluate.statistics import share
from unclip.images import fit_square
from unclip.pipeline import Pipeline
from unclip.sheets import contact_sheet

SECTION = "compositions"
PAIRS = 60  # of each relation
OFFERED = 100  # names that the judge chooses from
DRAWN, REAL, WRONG, ALONE = "drawn", "real", "wrong pair", "one thing alone"
FIGURES = {
    Relation.AND: "both things known: A and B",
    Relation.LEFT: "both known, each in its place: A left of B",
    Relation.TWO: "known in both halves: two As",
    Relation.COLOUR: "known, and of the colour: a COLOUR A",
}
PAINTED = 245  # a level below it is no ground
MARGIN = 0.05  # around what is cut out, in shares of its side
SHEET = 10  # pictures of each relation on the sheet
COLOURED = 60  # saturation of a pixel, of 255, that has a hue


@dataclass(frozen=True, eq=False)
class Thing:
    """A thing of the corpus: its concept, English name, and a picture (S, S, 3)."""

    concept: str
    name: str
    picture: np.ndarray


@dataclass(frozen=True)
class Asked:
    """A prompt, and what it is to show: two things, or one and a colour."""

    prompt: str
    first: Thing
    second: Thing
    colour: str = ""


def things(corpus: Corpus, size: int) -> list[Thing]:
    """Things that can be told apart and counted, a picture each, in the clearest style that there is.

    Where the corpus has no groups (somebody's own pictures), all of its concepts with short names are.
    """
    pixels = corpus.pixels(size)
    found: dict[str, tuple[int, int, str]] = {}  # concept: rank of its style, position, name
    columns = (corpus.column(name) for name in ("concept", "style", "source", "group", "subgroup"))
    rows = list(zip(*columns, strict=True))
    grouped = any(row[3] for row in rows)
    for index, (concept, style, source, group, subgroup) in enumerate(rows):
        if source == SCENES or (grouped and (group not in GROUPS or subgroup in NO_THINGS)):
            continue
        rank = STYLES.index(style) if style in STYLES else len(STYLES)
        name = (corpus.names(index) or [""])[0]
        if grouped and (rank == len(STYLES) or SAYS_COLOUR["en"].search(name)):
            continue
        if name and len(name.split()) <= MOST_WORDS and (concept not in found or rank < found[concept][0]):
            found[concept] = rank, index, name
    own: dict[str, Thing] = {}
    for concept, (_, index, name) in sorted(found.items()):
        own.setdefault(name, Thing(concept, name, np.asarray(pixels[index])))
    return list(own.values())


def asked(known: list[Thing], count: int, seed: int) -> dict[Relation, list[Asked]]:
    """Prompts of each relation, of pairs that scenes hold out."""
    random = Random(f"compositions {seed}")
    pairs: list[tuple[Thing, Thing]] = []
    for _ in range(1000 * count):
        first, second = random.sample(known, 2)
        if held_out(first.concept, second.concept):
            pairs.append((first, second))
            if len(pairs) == count:
                break
    counted = [thing for thing in known if with_article(thing.name) != thing.name] or known
    single = random.sample(counted, min(count, len(counted)))
    hued = [thing for thing in known if colours(thing.picture[None])[0] in HUES] or known
    chosen = random.sample(hued, min(count, len(hued)))
    own = [str(colours(thing.picture[None])[0]) for thing in chosen]
    other = [random.choice([colour for colour in HUES if colour != had]) for had in own]
    article = with_article
    return {
        Relation.AND: [Asked(f"{article(a.name)} and {article(b.name)}", a, b) for a, b in pairs],
        Relation.LEFT: [Asked(f"{article(a.name)} left of {article(b.name)}", a, b) for a, b in pairs],
        Relation.TWO: [Asked(f"two {plural(a.name)}", a, a) for a in single],
        Relation.COLOUR: [
            Asked(with_article(f"{colour} {a.name}"), a, a, colour)
            for a, colour in zip(chosen, other, strict=True)
        ],
    }


def composed(one: Asked) -> np.ndarray:
    """The real pictures of what is asked for, put together as scenes are, (S, S, 3)."""
    side = one.first.picture.shape[0]
    if one.colour:
        return hued(one.first.picture, one.colour)
    square, half = Image.new("RGB", (side, side), "white"), side // 2
    for place, thing in enumerate((one.first, one.second)):
        small = Image.fromarray(thing.picture).resize((half, half), Image.Resampling.LANCZOS)
        square.paste(small, (place * half, side // 4))
    return np.asarray(square)


def hued(picture: np.ndarray, colour: str) -> np.ndarray:
    """A picture (S, S, 3) all of whose hues are one colour's."""
    values = np.array(Image.fromarray(picture).convert("HSV"))
    coloured = values[..., 1] >= COLOURED
    values[..., 0][coloured] = round(HUES[colour] / 360 * 255)
    values[..., 1][coloured] = np.maximum(values[..., 1][coloured], 150)
    values[..., 2][coloured] = np.maximum(values[..., 2][coloured], 170)  # a dark orange is brown
    return np.asarray(Image.fromarray(values, "HSV").convert("RGB"))


def cut_out(picture: np.ndarray, size: int) -> np.ndarray:
    """The painted part of a picture (H, W, 3), as large as a square (size, size, 3) allows."""
    rows, columns = np.nonzero((picture < PAINTED).any(axis=2))
    image = Image.fromarray(np.ascontiguousarray(picture))
    if not len(rows):
        return np.asarray(fit_square(image, size))
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    side = max(right - left, bottom - top)
    square = Image.new("RGB", (round(side * (1 + 2 * MARGIN)),) * 2, "white")
    place = (int(square.width - (right - left)) // 2, int(square.width - (bottom - top)) // 2)
    square.paste(image.crop((int(left), int(top), int(right), int(bottom))), place)
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


class Judged:
    """Pictures (N, S, S, 3) as the judge sees them: of the names offered, the best for each part of one."""

    def __init__(self, judge: Encoder, pictures: np.ndarray, offered: np.ndarray) -> None:
        """`offered` (N, K, E) are texts of names."""
        half, size = pictures.shape[1] // 2, judge.size
        parts = {
            "left": pictures[:, :, :half],
            "right": pictures[:, :, half:],
            "top": pictures[:, :half],
            "bottom": pictures[:, half:],
        }
        self.shown = {
            name: self._best(judge, np.stack([cut_out(one, size) for one in part]), offered)
            for name, part in parts.items()
        } | {"whole": self._best(judge, pictures, offered)}
        self.colours = colours(pictures)
        painted = np.asarray((pictures < PAINTED).any(axis=3))  # (N, S, S)
        across, down = painted[:, half - 1 : half + 1], painted[:, :, half - 1 : half + 1]
        self.upright = across.sum(axis=(1, 2)) < down.sum(axis=(1, 2))  # the emptier line parts the things

    @staticmethod
    def _best(judge: Encoder, pictures: np.ndarray, offered: np.ndarray) -> np.ndarray:
        return np.einsum("ne,nke->nk", judge.images(pictures), offered).argmax(axis=1)  # (N,)

    def right(self, relation: Relation, wanted: list[str]) -> np.ndarray:
        """Truth of each picture to its prompt, bool (N,); thing 0 and thing 1 are the first two offered.

        `wanted` are the colours.
        """
        left, right, top, bottom, whole = self.shown.values()
        if relation is Relation.COLOUR:
            return (whole == 0) & (self.colours == np.array(wanted))
        if relation is Relation.LEFT:
            return (left == 0) & (right == 1)
        first, second = np.where(self.upright, top, left), np.where(self.upright, bottom, right)
        if relation is Relation.TWO:
            return (first == 0) & (second == 0)
        return (np.minimum(first, second) == 0) & (np.maximum(first, second) == 1)


def evaluate(
    model: Pipeline, judge: Encoder, corpus: Corpus, findings: Findings, seed: int
) -> Generator[Step, None, None]:
    """The share that is right of each relation, of what is drawn and of the three controls.

    Raises:
        DataError: the corpus has too few things with short names.
    """
    size = model.sizes[0]
    known = things(corpus, size)
    if len(known) < 4:
        raise DataError(f"{corpus.folder} has {len(known)} things with short names: 4 are needed to compose")
    names = [thing.name for thing in known]
    texts = dict(zip(names, judge.texts(names), strict=True))
    random = np.random.default_rng(seed)
    shown: list[tuple[str, np.ndarray]] = []
    for relation, prompts in asked(known, PAIRS, seed).items():
        if len(prompts) < 2:
            continue
        offered = np.stack([_offered(one, names, texts, random) for one in prompts])  # (N, K, E)
        label = f"drawing {relation.value}"
        drawn = yield from draw(model, [one.prompt for one in prompts], seed, label, Options(size=size))
        real = np.stack([composed(one) for one in prompts])
        series = {
            DRAWN: drawn,
            REAL: real,
            WRONG: np.roll(real, 1, axis=0),
            ALONE: np.stack([one.first.picture for one in prompts]),
        }
        groups = np.array([one.first.concept + one.second.concept for one in prompts])
        for variant, pictures in series.items():
            right = Judged(judge, pictures, offered).right(relation, [one.colour for one in prompts])
            estimate = share(right, groups)
            figure = Figure(SECTION, FIGURES[relation], estimate, "", "en", variant, offered.shape[1])
            findings.figures.append(figure)
        shown += [(one.prompt, picture) for one, picture in zip(prompts[:SHEET], drawn, strict=False)]
    if shown:
        images = [Image.fromarray(picture) for _, picture in shown]
        findings.sheets[SECTION] = contact_sheet(images, SHEET, [prompt for prompt, _ in shown])


def _offered(
    one: Asked, names: list[str], texts: dict[str, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """The texts (K, E) that the judge chooses from: the first thing's name, the second's, and others."""
    own = list(dict.fromkeys((one.first.name, one.second.name)))
    count = min(OFFERED, len(names))
    rest = [name for name in random.permutation(names).tolist() if name not in own][: count - len(own)]
    return np.stack([texts[name] for name in (*own, *rest)])
