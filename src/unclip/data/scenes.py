"""Scenes made of single pictograms: two things in a relation, several of one, other grounds, other colours.

They are put together as SVG from drawings that are at hand when a corpus is built, the same ones each time. A
scene is of one style. Nothing that is held out is in any: no concept, no pair of concept and style, and of
pairs of concepts a tenth (`held_out`), in no relation.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from unclip.data.captions import names, with_article
from unclip.data.colours import SAYS_COLOUR
from unclip.data.records import SCENES, Drawing
from unclip.data.scene_words import COLOURS, PLAIN, RELATIONS, Relation
from unclip.data.splits import UNSEEN_PAIRS, is_unseen_concept, share
from unclip.data.wording import slug

SIDE = 128  # of a scene's SVG, in its own units
HELD_OUT_PAIRS = 0.1
STYLES = ("flat", "noto", "twemoji", "gradient", "emojione")
GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
# Subgroups of these that are no things one could count, or have a ground of their own.
NO_THINGS = frozenset({"sky-weather", "place-geographic", "place-map", "time", "award-medal", "game"})
MOST_WORDS = 2  # of an English name
# How often each relation comes; the rest of what a corpus needs to say are single things.
SHARES: Mapping[Relation, float] = {
    Relation.AND: 0.24,
    Relation.LEFT: 0.16,
    Relation.ABOVE: 0.1,
    Relation.ON: 0.08,
    Relation.TWO: 0.12,
    Relation.THREE: 0.06,
    Relation.GROUND: 0.08,
    Relation.COLOUR: 0.12,
    Relation.SMALL: 0.04,
}
HUES: Mapping[str, float] = {  # degrees
    "red": 2, "orange": 26, "yellow": 50, "green": 125, "blue": 215, "purple": 272, "pink": 325,
}  # fmt: skip
GROUND_COLOURS: Mapping[str, str] = {
    "red": "#e5484d", "orange": "#f59b42", "yellow": "#fadb5f", "green": "#6cc070", "blue": "#6aaef0",
    "purple": "#a78be0", "pink": "#f7a8c8",
}  # fmt: skip
HEX = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b")
IDENTIFIER = re.compile(r"""(\bid=["']|url\(["']?#|href=["']#)([^"')\s]+)""")
GREY = 0.2  # saturation, from there on a colour has a hue
Box = tuple[float, float, float]
"""Left, top and side of a thing, in shares of the picture's."""


@dataclass(frozen=True)
class Thing:
    """A drawing that scenes are made of, and its concept's names, by language."""

    drawing: Drawing
    said: Mapping[str, str]


def held_out(first: str, second: str) -> bool:
    """True for two concepts that are in no scene together; of one concept twice too."""
    return share("scene", *sorted((first, second))) < HELD_OUT_PAIRS


def things(drawings: Iterable[Drawing], groups: Mapping[str, tuple[str, str]]) -> list[Thing]:
    """The drawings that scenes can be made of, one of each concept and style.

    Args:
        drawings: of any sources.
        groups: the group and subgroup of emoji, by concept.
    """
    found: dict[tuple[str, str], Thing] = {}
    for one in drawings:
        group, subgroup = groups.get(one.concept, ("", ""))
        if one.svg is None or one.style not in STYLES or group not in GROUPS or subgroup in NO_THINGS:
            continue
        if is_unseen_concept(one.concept) or share("pair", one.concept, one.style) < UNSEEN_PAIRS:
            continue
        said = {language: own[0] for language in one.captions if (own := names(one.captions, language))}
        english = said.get("en", "")
        if english and len(english.split()) <= MOST_WORDS and not SAYS_COLOUR["en"].search(english):
            found.setdefault((one.concept, one.style), Thing(one, said))
    return list(found.values())


def scenes(parts: Sequence[Thing], count: int) -> Iterator[Drawing]:
    """So many scenes of these things; the first ones are the same when there are more."""
    by_style: dict[str, list[Thing]] = {}
    for part in parts:
        by_style.setdefault(part.drawing.style, []).append(part)
    usable = sorted(style for style, own in by_style.items() if len(own) > 1)
    if not usable:
        return
    done = number = 0
    while done < count:
        random = Random(f"scene {number}")
        number += 1
        own = by_style[random.choice(usable)]
        (relation,) = random.choices(list(SHARES), list(SHARES.values()))
        first, second = random.sample(own, 2)
        made = scene(relation, first, second, random, number)
        if made is not None:
            done += 1
            yield made


def scene(relation: Relation, first: Thing, second: Thing, random: Random, number: int) -> Drawing | None:
    """One scene; None where the pair is held out, or the thing has no colour that could be another."""
    one = first.drawing
    assert one.svg is not None
    shown, colour = [first], ""
    if relation in (Relation.AND, Relation.LEFT, Relation.ABOVE, Relation.ON):
        shown = [first, second]
    elif relation in (Relation.TWO, Relation.THREE):
        shown = [first] * (2 if relation is Relation.TWO else 3)
    if len(shown) > 1 and held_out(one.concept, shown[1].drawing.concept):
        return None
    documents = [str(thing.drawing.svg) for thing in shown]
    ground = "#ffffff"
    if len(shown) > 1 and shown[0] is shown[1] and with_article(first.said["en"]) == first.said["en"]:
        return None  # several already, or nothing one counts
    if relation is Relation.GROUND:
        colour = random.choice(list(GROUND_COLOURS))
        ground = GROUND_COLOURS[colour]
    elif relation is Relation.COLOUR:
        colour = random.choice(list(HUES))
        documents = [recoloured(documents[0], colour)]
        if documents[0] == one.svg:
            return None
    captions = said(relation, shown, colour)
    concept = slug(" ".join([relation.value, colour, *(thing.drawing.concept for thing in shown)]))
    concept = f"scene-{concept}-{one.style}"
    if is_unseen_concept(concept):  # it would be held out as a thing of its own
        return None
    authors = dict.fromkeys(thing.drawing.author for thing in shown)
    return Drawing(
        key=f"{SCENES}/{number}",
        source=SCENES,
        style=one.style,
        concept=concept,
        captions={
            language: [texts[0] if language == "en" else random.choice(texts)]
            for language, texts in captions.items()
        },
        names=tuple(captions["en"][1:]),
        licence=one.licence,
        author=", ".join(authors),
        svg=composed(documents, boxes(relation, random), ground),
    )


def said(relation: Relation, shown: Sequence[Thing], colour: str = "") -> dict[str, list[str]]:
    """Captions of a scene, several in some languages, in all in which its things have names."""
    languages = set.intersection(*(set(thing.said) for thing in shown))
    found: dict[str, list[str]] = {}
    for language in sorted(languages):
        own = [thing.said[language] for thing in (shown[0], shown[-1])]
        base = language if language in RELATIONS else language.partition("-")[0]  # en-gb is English
        templates = RELATIONS.get(base, PLAIN).get(relation, ())
        words = COLOURS.get(base, {})
        if colour and colour not in words:
            continue
        filled = [
            template.format(
                a=article(own[0], language), b=article(own[1], language), n=own[0], s=plural(own[0]),
                c=words.get(colour, ""),
            )
            for template in templates
        ]  # fmt: skip
        if filled:
            found[language] = [re.sub(r"\ba (?=[aeiou])", "an ", text) for text in filled]
    return found


def article(name: str, language: str) -> str:
    """A name as it stands in a sentence: in English with its article."""
    return with_article(name) if language.partition("-")[0] == "en" else name


def plural(name: str) -> str:
    """The plural of an English name: "box" -> "boxes"."""
    if re.search(r"(?:s|x|z|ch|sh)$", name):
        return f"{name}es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", name) + "s"


def boxes(relation: Relation, random: Random) -> list[Box]:
    """Where the things of a relation stand, a little different each time."""

    def near(value: float, by: float = 0.02) -> float:
        return value + random.uniform(-by, by)

    side = random.uniform(0.42, 0.48)
    match relation:
        case Relation.LEFT:
            return [(near(0.02), near(0.27, 0.1), side), (near(0.52), near(0.27, 0.1), side)]
        case Relation.AND | Relation.TWO:
            left = [(near(0.02), near(0.27, 0.2), side), (near(0.52), near(0.27, 0.2), side)]
            return left if random.random() < 0.5 else left[::-1]
        case Relation.ABOVE:
            return [(near(0.27, 0.1), near(0.02), side), (near(0.27, 0.1), near(0.52), side)]
        case Relation.ON:
            low = random.uniform(0.5, 0.56)
            return [(near(0.27), near(0.5 - side + 0.04, 0.01), side), ((1 - low) / 2, 0.98 - low, low)]
        case Relation.THREE:
            side = random.uniform(0.36, 0.44)
            return [
                (near(0.04), near(0.08), side),
                (near(0.54), near(0.08), side),
                (near(0.29), near(0.52), side),
            ]
        case Relation.GROUND:
            side = random.uniform(0.6, 0.85)
            return [((1 - side) / 2, (1 - side) / 2, side)]
        case Relation.SMALL:
            side = random.uniform(0.4, 0.55)
            return [(random.uniform(0.02, 0.98 - side), random.uniform(0.02, 0.98 - side), side)]
        case _:
            return [(0.0, 0.0, 1.0)]


def composed(documents: Sequence[str], places: Sequence[Box], ground: str = "#ffffff") -> str:
    """One SVG of several, each in its box, in the order given: the last one lies on top of all."""
    parts = [
        placed(document, box, f"s{number}-")
        for number, (document, box) in enumerate(zip(documents, places, strict=True))
    ]
    back = f'<rect width="{SIDE}" height="{SIDE}" fill="{ground}"/>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}">{back}{"".join(parts)}</svg>'
    )


def placed(document: str, box: Box, prefix: str) -> str:
    """A document as a part of another one: in its box, and its identifiers its own."""
    left, top, side = (round(value * SIDE, 2) for value in box)
    inner = IDENTIFIER.sub(lambda match: f"{match[1]}{prefix}{match[2]}", document)
    head = re.search(r"<svg\b[^>]*>", inner)
    assert head is not None  # every source gives whole documents
    view = re.search(r'viewBox="([^"]*)"', head[0])
    size = f'x="{left}" y="{top}" width="{side}" height="{side}"'
    shown = f' viewBox="{view[1]}"' if view else ""
    return f"<svg {size}{shown}>{inner[head.end() :]}"


def recoloured(document: str, colour: str) -> str:
    """A document whose colours have one hue; black, white and greys stay."""
    hue = HUES[colour] / 360

    def changed(match: re.Match[str]) -> str:
        digits = match[0][1:]
        digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
        red, green, blue = (int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4))
        _, light, saturation = colorsys.rgb_to_hls(red, green, blue)
        if saturation < GREY or not 0.08 < light < 0.95:
            return match[0]
        if colour in ("yellow", "orange", "pink"):
            light = max(light, 0.5)  # darker ones are brown, or purple
        elif colour in ("red", "blue", "purple", "green"):
            light = min(light, 0.62)  # paler ones are pink, or grey
        new = colorsys.hls_to_rgb(hue, light, max(saturation, 0.6))
        return "#" + "".join(f"{round(value * 255):02x}" for value in new)

    return HEX.sub(changed, document)
