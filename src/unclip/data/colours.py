"""The colour that a picture has on the whole, and how it is said with a thing's name.

Names of emoji and icons say a colour only where it tells two of them apart ("red heart"). That a red car is
red stands in no caption, so nothing teaches a model what "a red car" asks for.
"""

from __future__ import annotations

import re
from random import Random

import numpy as np

NONE = ""  # of pictures of many colours, or of none that stands out
# What a hue is called from so many degrees on; the last one goes over 360 to the first.
HUES = (
    (0, "red"),
    (13, "orange"),
    (37, "yellow"),
    (68, "green"),
    (172, "blue"),
    (255, "purple"),
    (292, "pink"),
    (343, "red"),
)
WHITE = 0.9  # value above which a colourless pixel is ground or paper
COLOURLESS = 0.15  # saturation below it
DARK = 0.22  # value below it is black
BROWN_BELOW = 0.62  # value of an orange or yellow that is called brown
PALE = 0.5  # saturation of a red that is called pink
LEAST_PAINTED = 0.06  # share of the picture that is not white
LEAST_COLOURED = 0.35  # of the painted share, for a hue to stand for the whole
LEAST_OF_ONE = 0.65  # of the coloured share, that has the one colour
LEAST_COLOURLESS = 0.8  # of the painted share, for black or grey
CHUNK = 512  # pictures at once

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "red": {"en": ("red",), "ko": ("빨간", "빨간색"), "de": ("rot",)},
    "orange": {"en": ("orange",), "ko": ("주황색",), "de": ("orange",)},
    "yellow": {"en": ("yellow",), "ko": ("노란", "노란색"), "de": ("gelb",)},
    "green": {"en": ("green",), "ko": ("초록색", "녹색"), "de": ("grün",)},
    "blue": {"en": ("blue",), "ko": ("파란", "파란색"), "de": ("blau",)},
    "purple": {"en": ("purple", "violet"), "ko": ("보라색",), "de": ("lila", "violett")},
    "pink": {"en": ("pink",), "ko": ("분홍색", "핑크색"), "de": ("rosa", "pink")},
    "brown": {"en": ("brown",), "ko": ("갈색",), "de": ("braun",)},
    "grey": {"en": ("grey", "gray"), "ko": ("회색",), "de": ("grau",)},
    "black": {"en": ("black",), "ko": ("검은", "검은색"), "de": ("schwarz",)},
}
# German adjectives by the gender of a noun, which names do not tell: each ending comes as often
ENDINGS = ("er", "e", "es")
UNINFLECTED = ("orange", "lila", "rosa", "pink")
# Names that say a colour already, or of things that one does not call by their colour: flags, keys, people.
SAYS_COLOUR = {
    "en": re.compile(
        r"\b(?:red|orange|yellow|green|blue|purple|violet|pink|brown|gr[ea]y|black|white|gold(?:en)?|silver|"
        r"rainbow|colou?r(?:ed|ful)?|flag|keycap|key|skin|skinned|hair|person|people|m[ae]n|wom[ae]n|boys?|girls?|"
        r"child(?:ren)?|baby|family|couple)\b",
        re.IGNORECASE,
    ),
    "ko": re.compile(
        r"빨간|빨강|주황|노란|노랑|초록|녹색|파란|파랑|보라|분홍|핑크|갈색|회색|검은|검정|하얀|흰|금색|은색|무지개|"
        r"국기|깃발|키캡|버튼|피부|머리|사람|남자|여자|소년|소녀|아이|아기|가족|커플"
    ),
    "de": re.compile(
        r"rot(?:e[rsmn]?)?\b|orange|gelb|grün|blau|lila|violett|rosa|pink|braun|grau|schwarz|weiß|gold|silber|regenbogen|"
        r"farb|flagge|fahne|taste|haut|haar|person|leute|mann|männer|frau|junge|mädchen|kind|baby|familie|paar",
        re.IGNORECASE,
    ),
}


def colours(pixels: np.ndarray) -> np.ndarray:
    """The colour of each picture (N, S, S, 3) uint8 as a key of `WORDS`, or `NONE`: str (N,).

    A hue counts that most of what is coloured has, however much black or grey there is beside it (the wheels
    and windows of a red car); black or grey counts where nearly nothing is coloured.
    """
    found = [_colours(pixels[start : start + CHUNK]) for start in range(0, len(pixels), CHUNK)]
    return np.concatenate(found) if found else np.zeros(0, "<U6")


def _colours(pixels: np.ndarray) -> np.ndarray:
    names = [*dict.fromkeys(name for _, name in HUES), "brown"]
    rgb = pixels.reshape(len(pixels), -1, 3).astype(np.float32) / 255  # (N, P, 3)
    value, low = rgb.max(axis=2), rgb.min(axis=2)  # (N, P)
    spread = value - low
    saturation = spread / np.maximum(value, 1e-6)
    painted = ~((value >= WHITE) & (saturation < COLOURLESS))
    black = painted & (value < DARK)
    grey = painted & ~black & (saturation < COLOURLESS)
    coloured = painted & ~black & ~grey
    edges = [edge for edge, _ in HUES]
    kind = np.array([names.index(name) for _, name in HUES])[
        np.searchsorted(edges, _hue(rgb, value, spread), side="right") - 1
    ]  # (N, P), a position in `names`
    warm = np.isin(kind, [names.index("orange"), names.index("yellow")])
    kind[warm & (value < BROWN_BELOW)] = names.index("brown")
    kind[(kind == names.index("red")) & (saturation < PALE) & (value >= BROWN_BELOW)] = names.index("pink")
    counts = np.stack([((kind == index) & coloured).sum(axis=1) for index in range(len(names))], axis=1)
    all_painted, all_coloured = painted.sum(axis=1), coloured.sum(axis=1)  # (N,)
    best = counts.argmax(axis=1)
    hued = (all_coloured >= LEAST_COLOURED * all_painted) & (
        counts.max(axis=1) >= LEAST_OF_ONE * np.maximum(all_coloured, 1)
    )
    found = np.where(hued, np.array(names)[best], NONE)
    for name, part in (("black", black), ("grey", grey)):
        found = np.where(~hued & (part.sum(axis=1) >= LEAST_COLOURLESS * all_painted), name, found)
    return np.where(all_painted >= LEAST_PAINTED * rgb.shape[1], found, NONE).astype("<U6")


def _hue(rgb: np.ndarray, value: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Degrees (N, P), 0 to below 360, of colours (N, P, 3)."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(spread, 1e-6)
    of_red = ((green - blue) / safe) % 6
    hue = np.where(
        value == red, of_red, np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    )
    degrees: np.ndarray = (hue * 60) % 360
    return degrees


def coloured(name: str, colour: str, language: str, random: Random) -> str:
    """A name with its colour, "red car"; as it is where it says one, or in a language without `WORDS`."""
    words = WORDS.get(colour, {}).get(language)
    if words is None or SAYS_COLOUR[language].search(name):
        return name
    word = random.choice(words)
    if language == "de" and word not in UNINFLECTED:
        article = re.match(r"(?:ein|eine) ", name)
        if article:  # "ein rotes Auto"
            ending = "e" if article[0] == "eine " else random.choice(("er", "es"))
            return f"{article[0]}{word}{ending} {name[article.end() :]}"
        word += random.choice(ENDINGS)
    return f"{word} {name}"
