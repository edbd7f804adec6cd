"""Faces put together of parts, every part said, and round faces of emoji with hats and glasses on.

The parts are of npm's `@dicebear` packages, whose templates are read as text and not run. Like scenes, faces
are the same each time, the first ones also of a larger number, and nothing that is held out is in any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random

from unclip.data.archives import find, members
from unclip.data.captions import names
from unclip.data.face_words import FACE_WORDS, WEARING, WEARING_PLAIN, Term
from unclip.data.records import FACES, Drawing
from unclip.data.scene_words import COLOURS, RELATIONS, Relation
from unclip.data.scenes import (
    GROUND_COLOURS,
    HUES,
    STYLES,
    Box,
    Thing,
    article,
    composed,
    held_out,
    recoloured,
)
from unclip.data.splits import UNSEEN_PAIRS, is_unseen_concept, share
from unclip.data.wording import slug
from unclip.errors import DataError

Choice = dict[str, str]
"""A variant for each slot of a face that is filled."""

WORN = 0.4  # share of faces that are emoji with something on
COLOURED_HATS = 0.6
HAIR_COLOURS: Mapping[Term, str] = {
    Term.BROWN: "#6b4030",
    Term.BLACK: "#2a2430",
    Term.BLOND: "#e8bd5a",
    Term.RED: "#cf5428",
    Term.GREY: "#b4b8c4",
}
SKINS = ("#ffe0c4", "#efc09c", "#dba27a", "#b8794f", "#8c5a2b", "#643d19")
HATS = frozenset({Term.CAP, Term.WOOLLY})
FACIAL_HAIR = frozenset({Term.BEARD, Term.MOUSTACHE, Term.GOATEE})
LONG_HAIR = frozenset({Term.LONG, Term.BOB, Term.BUN, Term.PIGTAILS})
HAIR = LONG_HAIR | {Term.SHORT, Term.CURLY, Term.MOHAWK, Term.SPIKY}

COMPONENT = re.compile(r"\$\{\(_\w+ = \(_\w+ = components\.(\w+)\)[^}]*?: ''\}")
COLOUR = re.compile(r"\$\{escape\.xml\(`\$\{colors\.(\w+)\}`\)\}")
# In the package's index: the whole face, its square, and what is said of the art.
TOLD = (r"body: `(.*?)`,\n", r"viewBox: '([^']*)'", r"license: \{\s*name: '([^']*)'", r"creator: '([^']*)'")
VARIANT = re.compile(r"^    '?(\w+)'?: \(\w*,? ?\w*\) => `(.*?)`,$", re.M | re.S)

# Emoji that hats and glasses are put on, round ones with both eyes free, and these.
ROUND = (
    *("u1f600", "u263a", "u1f610", "u1f611", "u1f609", "u1f620", "u1f632", "u2639", "u1f622", "u1f60b"),
    *("u1f61b", "u1f602", "u1f62e", "u1f641", "u1f642", "u1f60f"),
)
HAT_EMOJI = ("u1f3a9", "u1f452", "u1f393", "u1f451", "u1f9e2")
RECOLOURED_HATS = ("u1f3a9", "u1f452", "u1f9e2")
GLASSES_EMOJI = ("u1f453", "u1f576")
BELOW_HAT: Box = (0.12, 0.24, 0.76)


@dataclass(frozen=True)
class FaceKit:
    """A package of parts of faces of one style.

    Attributes:
        always: variants of slots that say nothing, one of which is there.
        looks: for each look the variants of slots that make it.
        hair, facial, eyewear, others: for each part the choices that make it.
        shirts: the slot whose colour is that of the shirt; empty where there is none.
    """

    package: str
    sha256: str
    style: str
    always: Mapping[str, Sequence[str]]
    looks: Mapping[Term, Mapping[str, Sequence[str]]]
    hair: Mapping[Term, Sequence[Choice]]
    facial: Mapping[Term, Sequence[Choice]]
    eyewear: Mapping[Term, Sequence[Choice]]
    others: Mapping[Term, Sequence[Choice]]
    shirts: str

    @property
    def fetch(self) -> tuple[str, str]:
        """The client and the package."""
        return "npm", f"@dicebear/{self.package}"

    @property
    def pattern(self) -> str:
        """The pattern of the package's file."""
        return f"dicebear-{self.package.replace('@', '-')}.tgz"


def _each(slot: str, *variants: str) -> list[Choice]:
    return [{slot: variant} for variant in variants]


FACE_KITS: tuple[FaceKit, ...] = (
    FaceKit(
        package="personas@9.4.3",
        sha256="6f5b4765c4d54444ab0330c4a89da53636662de3b04118b827f005a31332d002",
        style="portrait",
        always={"nose": ("mediumRound", "smallRound"), "body": ("rounded", "squared", "small")},
        looks={
            Term.SMILING: {"mouth": ("smile", "bigSmile"), "eyes": ("open", "happy")},
            Term.SAD: {"mouth": ("frown",), "eyes": ("open",)},
            Term.SURPRISED: {"mouth": ("surprise",), "eyes": ("open",)},
            Term.WINKING: {"mouth": ("smile", "smirk"), "eyes": ("wink",)},
            Term.SLEEPING: {"mouth": ("smirk",), "eyes": ("sleep",)},
            Term.FACE: {"mouth": ("smirk", "lips"), "eyes": ("open",)},
        },
        hair={
            Term.SHORT: _each("hair", "shortCombover", "fade", "shortComboverChops"),
            Term.LONG: _each("hair", "long", "extraLong", "sideShave"),
            Term.CURLY: _each("hair", "curly", "curlyHighTop"),
            Term.BOB: _each("hair", "bobCut", "bobBangs"),
            Term.BUN: _each("hair", "straightBun", "bunUndercut", "curlyBun"),
            Term.PIGTAILS: _each("hair", "pigtails"),
            Term.MOHAWK: _each("hair", "mohawk"),
            Term.BALD: _each("hair", "bald", "balding"),
            Term.CAP: _each("hair", "cap"),
            Term.WOOLLY: _each("hair", "beanie"),
        },
        facial={
            Term.BEARD: _each("facialHair", "beardMustache"),
            Term.MOUSTACHE: _each("facialHair", "pyramid", "walrus"),
            Term.GOATEE: _each("facialHair", "goatee"),
        },
        eyewear={
            Term.GLASSES: _each("eyes", "glasses"),
            Term.SUNGLASSES: _each("eyes", "sunglasses"),
        },
        others={},
        shirts="clothing",
    ),
    FaceKit(
        package="big-smile@9.4.3",
        sha256="8dbd7b96c9ceaf9dd7c280cdae4f0bb3e43ab2798b7bedbe355fbb3ce30e87bb",
        style="cartoon head",
        always={"face": ("base",)},
        looks={
            Term.SMILING: {"mouth": ("openedSmile", "gapSmile", "teethSmile"), "eyes": ("cheery", "normal")},
            Term.SAD: {"mouth": ("openSad",), "eyes": ("sad",)},
            Term.ANGRY: {"mouth": ("unimpressed",), "eyes": ("angry",)},
            Term.WINKING: {"mouth": ("openedSmile", "awkwardSmile"), "eyes": ("winking",)},
            Term.SLEEPING: {"mouth": ("unimpressed",), "eyes": ("sleepy",)},
            Term.FACE: {"mouth": ("unimpressed", "kawaii"), "eyes": ("normal",)},
        },
        hair={
            Term.SHORT: _each("hair", "shortHair", "bowlCutHair"),
            Term.LONG: _each("hair", "straightHair", "bangs"),
            Term.CURLY: _each("hair", "curlyBob", "curlyShortHair"),
            Term.BUN: _each("hair", "bunHair", "froBun"),
            Term.MOHAWK: _each("hair", "mohawk"),
        },
        facial={Term.MOUSTACHE: _each("accessories", "mustache")},
        eyewear={
            Term.GLASSES: _each("accessories", "glasses"),
            Term.SUNGLASSES: _each("accessories", "sunglasses"),
        },
        others={
            Term.CAT_EARS: _each("accessories", "catEars"),
            Term.RED_NOSE: _each("accessories", "clownNose"),
            Term.MASK: _each("accessories", "faceMask"),
        },
        shirts="",
    ),
    FaceKit(
        package="toon-head@9.4.3",
        sha256="b9cd3b5def9fb2c37a9acba2e4b9bd00268b6eaff705d596756e8d921a4580c8",
        style="cartoon portrait",
        always={"head": ("head",), "body": ("body",), "clothes": ("turtleNeck", "shirt", "tShirt")},
        looks={
            Term.SMILING: {"mouth": ("smile", "laugh"), "eyes": ("happy", "bow"), "eyebrows": ("happy",)},
            Term.SAD: {"mouth": ("sad",), "eyes": ("humble",), "eyebrows": ("sad",)},
            Term.ANGRY: {"mouth": ("angry",), "eyes": ("happy",), "eyebrows": ("angry",)},
            Term.SURPRISED: {"mouth": ("agape",), "eyes": ("wide",), "eyebrows": ("raised",)},
            Term.WINKING: {"mouth": ("smile",), "eyes": ("wink",), "eyebrows": ("neutral",)},
        },
        hair={
            Term.SHORT: _each("hair", "sideComed", "undercut"),
            Term.SPIKY: _each("hair", "spiky"),
            Term.BUN: _each("hair", "bun"),
            Term.LONG: [{"hair": "sideComed", "rearHair": rear} for rear in ("longStraight", "longWavy")],
            Term.BOB: [{"hair": "sideComed", "rearHair": rear} for rear in ("shoulderHigh", "neckHigh")],
        },
        facial={
            Term.BEARD: _each("beard", "fullBeard", "longBeard"),
            Term.MOUSTACHE: _each("beard", "moustacheTwirl"),
            Term.GOATEE: _each("beard", "chin", "chinMoustache"),
        },
        eyewear={},
        others={},
        shirts="clothes",
    ),
)


@dataclass(frozen=True)
class Parts:
    """The templates of a package: the whole face's, and for each slot those of its variants."""

    kit: FaceKit
    body: str
    view: str
    slots: Mapping[str, Mapping[str, str]]
    licence: str
    author: str

    def drawn(self, chosen: Choice, colours: Mapping[str, str], hat: str = "") -> str:
        """The SVG document of a face; with `hat` the hat in its hair slot has this colour.

        Raises DataError where the templates hold something that is not understood.
        """

        def filled(template: str) -> str:
            return COMPONENT.sub(lambda found: component(found[1]), template)

        def component(slot: str) -> str:
            if slot not in chosen:
                return ""
            inner = filled(self.slots[slot][chosen[slot]])
            return recoloured(inner, hat) if hat and slot == "hair" else inner

        text = COLOUR.sub(lambda found: colours[found[1]], filled(self.body))
        if "${" in text:
            raise DataError(f"the templates of {self.kit.package} cannot be read: fetch the package again")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{self.view}" width="64" height="64" '
            f'fill="none">{text}</svg>'
        )


def read_kit(kit: FaceKit, folder: Path) -> Parts:
    """The parts in a kit's package in `folder`. Raises DataError where it is missing or holds others."""
    archive = find(folder, kit.pattern)
    texts = {Path(name).stem: content.decode("utf-8") for name, content in members(archive, _is_template)}
    index = texts.pop("index", "")
    found = [re.search(pattern, index, re.S) for pattern in TOLD]
    slots = {slot: dict(VARIANT.findall(text)) for slot, text in texts.items()}
    if not all(found) or any(
        variant not in slots.get(slot, {}) for choice in choices(kit) for slot, variant in choice.items()
    ):
        raise DataError(f"{archive} lacks parts of faces that it should have: fetch it again")
    body, view, licence, author = (match[1] for match in found if match)
    return Parts(kit, body, view, slots, licence.replace(" ", "-", 2), author)


def _is_template(name: str) -> bool:
    inner = name.removeprefix("package/lib/")
    return inner == "index.js" or (
        inner.startswith("components/") and inner.endswith(".js") and not inner.endswith("/index.js")
    )


def choices(kit: FaceKit) -> Iterator[Choice]:
    """All choices that a kit may make, one slot or several at a time."""
    for slots in (kit.always, *kit.looks.values()):
        for slot, variants in slots.items():
            yield from _each(slot, *variants)
    for parts in (kit.hair, kit.facial, kit.eyewear, kit.others):
        for offered in parts.values():
            yield from offered


def faces(kits: Sequence[Parts], worn: Worn, count: int) -> Iterator[Drawing]:
    """So many faces of kits and of emoji; the first ones are the same when there are more."""
    seen = set[str]()
    number = 0
    while len(seen) < count and number < 50 * (count + 1):  # a few emoji alone allow only so many
        random = Random(f"face {number}")
        number += 1
        if random.random() < WORN:
            made = worn.face(random, number)
        else:
            made = of_parts(random.choice(kits), random, number) if kits else None
        if made is None or made.concept in seen or is_unseen_concept(made.concept):
            continue
        seen.add(made.concept)
        yield made


def of_parts(parts: Parts, random: Random, number: int) -> Drawing:
    """One face of a kit, with what it is said by."""
    kit = parts.kit
    look = random.choice(list(kit.looks))
    chosen = {slot: random.choice(list(own)) for slot, own in {**kit.always, **kit.looks[look]}.items()}
    said = [random.choice(list(kit.hair))]
    chosen |= random.choice(list(kit.hair[said[0]]))
    # what lies over the eyes hides a wink, and what is in one slot cannot be there twice
    free = look not in (Term.WINKING, Term.SLEEPING)
    for offered, chance in ((kit.eyewear, 0.35 * free), (kit.facial, 0.25), (kit.others, 0.4)):
        bare = {term: own for term, own in offered.items() if _fits(term, said, own, chosen)}
        if bare and random.random() < chance:
            term = random.choice(list(bare))
            chosen |= random.choice(list(bare[term]))
            said.append(term)
    hair, hat, shirt = random.choice(list(HAIR_COLOURS)), "", ""
    skin = random.choice(SKINS)
    if said[0] in HATS:
        hat = random.choice(list(HUES))
    colours = {"hair": HAIR_COLOURS[hair], "skin": skin}
    if kit.shirts:
        shirt = random.choice(list(GROUND_COLOURS))
        colours[kit.shirts] = GROUND_COLOURS[shirt]
    coloured = {said[0]: hat} if hat else {}
    if shirt:
        said.append(Term.SHIRT)
        coloured[Term.SHIRT] = shirt
    shown = hair if said[0] in HAIR else None
    variants = "-".join(variant for _, variant in sorted(chosen.items()))
    about = partial(spoken, coloured=coloured, hair=shown)
    english = about(look, said, "en")
    captions = {language: [about(look, said, language)] for language in FACE_WORDS if language != "en"}
    return Drawing(
        key=f"{FACES}/{number}",
        source=FACES,
        style=kit.style,
        concept=slug(f"face {kit.style} {variants} {hair.value if shown else ''} {hat} {shirt} {skin}"),
        captions={"en": [english, _a(english)], **captions},
        names=(
            english.replace("face", _person(said, look), 1),
            *(about(look, [part], "en") for part in random.sample(said, min(len(said), 2))),
        ),
        licence=parts.licence,
        author=parts.author,
        svg=parts.drawn(chosen, colours, hat),
    )


def _fits(term: Term, said: Sequence[Term], own: Sequence[Choice], chosen: Choice) -> bool:
    """True where a part hides nothing that is said already."""
    slots = {slot for choice in own for slot in choice}
    if term in FACIAL_HAIR and said[0] in LONG_HAIR | {Term.CAT_EARS}:
        return False
    return "accessories" not in slots or "accessories" not in chosen


def _a(text: str) -> str:
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _person(said: Sequence[Term], look: Term) -> str:
    """The English noun in place of "face"."""
    if FACIAL_HAIR & set(said):
        return "man"
    return "woman" if said[0] in LONG_HAIR else "person"


def spoken(
    look: Term,
    parts: Sequence[Term],
    language: str,
    coloured: Mapping[Term, str],
    hair: Term | None,
) -> str:
    """A face and some of its parts in words.

    Args:
        coloured: the colour of those parts that have one of their own.
        hair: the colour of the hair; None where there is none to be seen, or it is hidden.
    """
    say = FACE_WORDS[language]
    told = []
    for part in parts:
        word = say.words[part]
        if part in coloured:
            colour = COLOURS[language][coloured[part]]
            if language == "en":
                word = re.sub(r"^a (?=[aeiou])", "an ", word.replace("a ", f"a {colour} ", 1))
            else:
                word = RELATIONS[language][Relation.COLOUR][0].format(n=word, c=colour)
        elif hair and part in HAIR:
            if language == "en":
                colour = hair.value.removesuffix(" hair")
                word = _with_colour(word, colour)
            else:
                told.append(word)
                word = say.words[hair]
        told.append(word)
    if language == "en" and len(told) > 1:
        listed = f"{', '.join(told[:-1])} and {told[-1]}"
    else:
        listed = say.between.join(told)
    return say.whole.format(face=say.words[look], parts=listed)


def _with_colour(hair: str, colour: str) -> str:
    """English: "short hair" -> "short brown hair", "a bob" -> "a brown bob"."""
    if hair.endswith(" hair"):
        return f"{hair.removesuffix('hair')}{colour} hair"
    return hair.replace("a ", f"a {colour} ", 1) if hair.startswith("a ") else f"{colour} {hair}"


class Worn:
    """Faces of emoji, and the hats and glasses that fit them: what is of one style goes together."""

    def __init__(self, drawings: Iterable[Drawing]) -> None:
        self.things: dict[str, dict[str, Thing]] = {}  # style, then concept
        wanted = {*ROUND, *HAT_EMOJI, *GLASSES_EMOJI}
        for one in drawings:
            if one.svg is None or one.style not in STYLES or one.concept not in wanted:
                continue
            if is_unseen_concept(one.concept) or share("pair", one.concept, one.style) < UNSEEN_PAIRS:
                continue
            said = {language: own[0] for language in one.captions if (own := names(one.captions, language))}
            self.things.setdefault(one.style, {}).setdefault(one.concept, Thing(one, said))

    def face(self, random: Random, number: int) -> Drawing | None:
        """One face with a hat, glasses or both; None where the pair is held out or there is none."""
        styles = sorted(self.things)
        if not styles:
            return None
        own = self.things[random.choice(styles)]
        round_ones, hats, glasses = (
            sorted(set(own) & set(kind)) for kind in (ROUND, HAT_EMOJI, GLASSES_EMOJI)
        )
        on = [random.choice(kind) for kind in (hats, glasses) if kind and random.random() < 0.6]
        if not round_ones or not on:
            return None
        face = own[random.choice(round_ones)]
        worn = [own[concept] for concept in on]
        if any(held_out(*pair) for pair in combinations([face.drawing.concept, *on], 2)):
            return None
        colour = ""
        documents = [str(thing.drawing.svg) for thing in (face, *worn)]
        if on[0] in RECOLOURED_HATS and random.random() < COLOURED_HATS:
            colour = random.choice(list(HUES))
            documents[1] = recoloured(documents[1], colour)
            if documents[1] == worn[0].drawing.svg:
                return None
        hatted = on[0] in HAT_EMOJI
        box = BELOW_HAT if hatted else (0.0, 0.0, 1.0)
        places = [box]
        if hatted:
            side = random.uniform(0.52, 0.6)
            places.append((0.5 - side / 2, -0.01, side))
        if on[-1] in GLASSES_EMOJI:
            side = 0.72 * box[2]
            places.append((box[0] + 0.14 * box[2], box[1] + 0.05 * box[2], side))
        one = face.drawing
        captions = wearing(face, worn, colour, random)
        return Drawing(
            key=f"{FACES}/{number}",
            source=FACES,
            style=one.style,
            concept=slug(" ".join(["wearing", colour, one.concept, *on, one.style])),
            captions=captions,
            names=tuple(captions["en"][1:]),
            licence=one.licence,
            author=", ".join(dict.fromkeys(thing.drawing.author for thing in (face, *worn))),
            svg=composed(documents, places),
        )


def wearing(face: Thing, worn: Sequence[Thing], colour: str, random: Random) -> dict[str, list[str]]:
    """Captions of a face with things on, in all languages in which they have names."""
    found: dict[str, list[str]] = {}
    for language in sorted(set.intersection(*(set(thing.said) for thing in (face, *worn)))):
        base = language if language in WEARING or language in COLOURS else language.partition("-")[0]
        own = [thing.said[language] for thing in worn]
        if colour:
            if base not in COLOURS:
                continue
            bare = -1 if base == "en" else 0  # the article comes below
            own[0] = RELATIONS[base][Relation.COLOUR][bare].format(n=own[0], c=COLOURS[base][colour])
        own = [article(name, language) for name in own]
        listed = " and ".join(own) if base == "en" else ", ".join(own)
        name = face.said[language]
        texts = [
            template.format(n=name, a=article(name, language), b=listed)
            for template in WEARING.get(base, WEARING_PLAIN)
            if not (base == "en" and " with " in name and " with " in template)
        ]
        found[language] = texts if language == "en" else [random.choice(texts)]
    return found
