"""The rules by which captioned pictures are dropped: one table, a row each, and what of it is switched on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from unclip.data.filters import NEAR_RMS
from unclip.data.rasterise import ASPECT_LIMIT, LEAST_SIDE, Limits
from unclip.errors import InputError
from unclip.images import LONGEST_RESIZED


class Name(StrEnum):
    """The rules, in the order in which they judge."""

    LANGUAGE = "language"
    MOJIBAKE = "mojibake"
    SHORT = "short"
    BOILERPLATE = "boilerplate"
    DECODING = "decoding"
    ANIMATED = "animated"
    SIZE = "size"
    ASPECT = "aspect"
    REPEATED = "repeated"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"
    PERCEPTUAL = "perceptual"
    EVALUATION = "evaluation"
    SEMANTIC = "semantic"
    SCORE = "score"
    FACES = "faces"
    POLICY = "policy"
    REWEIGHT = "reweight"


class Needs(StrEnum):
    """The things that a rule cannot work without."""

    NOTHING = ""
    LIBRARIES = "prepare"  # the extra
    CLIP = "clip"
    EVALUATION = "evaluation"
    FACES = "faces"
    POLICY = "policy"
    CLIP_AND_POLICY = "clip and policy"


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        name: to switch it by.
        reasons: of what it drops, as they stand on the card and in `dropped.jsonl`.
        says: what it drops; "{}" is the threshold.
        threshold: from which on it drops; None for a rule that has none.
        least, most: the thresholds that mean something.
        needs: what has to be handed in.
        always: it also works where only a folder is read, without rules (`STANDING`).
        fixed: it cannot be switched off.
        unit: of the threshold.
    """

    name: Name
    reasons: tuple[str, ...]
    says: str
    threshold: float | None = None
    least: float = 0.0
    most: float = math.inf
    needs: Needs = Needs.NOTHING
    always: bool = False
    fixed: bool = False
    unit: str = ""


TABLE = (
    Rule(
        Name.LANGUAGE,
        ("other language",),
        "captions get the language that they are in, where that is more than {} certain;"
        " with --keep-languages those in others are dropped",
        0.5,
        most=1.0,
        needs=Needs.LIBRARIES,
        unit="certainty",
    ),
    Rule(
        Name.MOJIBAKE,
        ("mojibake",),
        "captions that were decoded wrongly are mended; what cannot be mended is dropped",
        needs=Needs.LIBRARIES,
    ),
    Rule(
        Name.SHORT,
        ("caption too short",),
        "captions of fewer than {} letters (a Chinese, Japanese or Korean one counts as two)",
        3,
        least=1,
        unit="letters",
    ),
    Rule(
        Name.BOILERPLATE,
        ("boilerplate caption",),
        "captions that say nothing of the picture: names of files, dates, addresses, 'stock photo'",
    ),
    Rule(
        Name.DECODING,
        ("broken", "too slow", "too large", "empty", "unusable caption", "HEIC"),
        "what cannot be decoded, takes too long, has more than 50 megapixels, is white on white",
        always=True,
        fixed=True,
    ),
    Rule(Name.ANIMATED, ("animated",), "what moves; off, its first frame is taken", always=True),
    Rule(
        Name.SIZE,
        ("too small",),
        "bitmaps whose longer side has fewer than {} pixels",
        LEAST_SIDE,
        least=1,
        always=True,
        unit="pixels",
    ),
    Rule(
        Name.ASPECT,
        ("extreme aspect",),
        "what is longer than {} to 1",
        ASPECT_LIMIT,
        least=1,
        most=LONGEST_RESIZED,
        always=True,
        unit="to 1",
    ),
    Rule(
        Name.REPEATED,
        ("repeated caption",),
        "captions that more than {} pictures have",
        1000,
        least=1,
        unit="pictures",
    ),
    Rule(Name.DUPLICATE, ("duplicate",), "the same pixels again", always=True),
    Rule(
        Name.NEAR_DUPLICATE,
        ("near-duplicate",),
        "reduced to 32 pixels, a difference of at most {} of 255",
        NEAR_RMS,
        most=NEAR_RMS,
        always=True,
        unit="of 255, root mean square",
    ),
    Rule(
        Name.PERCEPTUAL,
        ("perceptual duplicate",),
        "PDQ hashes that differ in at most {} of 256 bits, turned and mirrored too",
        31,  # "similar" by PDQ's authors (the ThreatExchange repository, hashing.pdf, section "Matching")
        most=127,
        needs=Needs.LIBRARIES,
        unit="bits",
    ),
    Rule(
        Name.EVALUATION,
        ("in an evaluation set",),
        "what is also in a set that models are measured on, by at most {} bits of PDQ or as `semantic`",
        31,
        most=127,
        needs=Needs.EVALUATION,
        unit="bits",
    ),
    Rule(
        Name.SEMANTIC,
        ("semantic duplicate",),
        "CLIP embeddings whose cosine is at least {}",
        0.96,
        least=-1,
        most=1,
        needs=Needs.CLIP,
        unit="cosine",
    ),
    Rule(
        Name.SCORE,
        ("caption and picture differ",),
        "pictures whose CLIP embedding has less than {} of cosine with that of every caption",
        0.2,  # drops 1 % of what our CLIP has not learned from (benchmarks/prepare.py: calibration)
        least=-1,
        most=1,
        needs=Needs.CLIP,
        unit="cosine",
    ),
    Rule(
        Name.FACES,
        ("face",),
        "pictures that show the face of a person; what is drawn is none",
        needs=Needs.FACES,
    ),
    Rule(
        Name.POLICY,
        ("policy",),
        "pictures of which a policy refuses to draw the like, or a caption",
        needs=Needs.POLICY,
    ),
    Rule(
        Name.REWEIGHT,
        (),
        "nothing: what is like that which `policy` dropped counts more in training, up to {} times",
        10,
        least=1,
        needs=Needs.CLIP_AND_POLICY,
        unit="times",
    ),
)
BY_NAME: Mapping[Name, Rule] = {rule.name: rule for rule in TABLE}
BY_REASON: Mapping[str, Rule] = {reason: rule for rule in TABLE for reason in rule.reasons}


@dataclass(frozen=True)
class Rules:
    """The rules that are on, with their thresholds.

    Attributes:
        on: threshold by name; None for a rule without one.
        languages: codes of the languages that are kept, such as ("en", "de"); () keeps all.
    """

    on: Mapping[Name, float | None] = field(default_factory=dict)
    languages: tuple[str, ...] = ()

    def __contains__(self, name: Name) -> bool:
        return name in self.on

    def __getitem__(self, name: Name) -> float:
        """The threshold of a rule that is on and has one."""
        threshold = self.on[name]
        assert threshold is not None
        return threshold

    def get(self, name: Name) -> float | None:
        """The threshold of a rule, None where it is off or has none."""
        return self.on.get(name)

    def __repr__(self) -> str:
        """The same text for the same rules, in whatever order they were switched on."""
        on = ", ".join(f"{rule.name}={self.on[rule.name]}" for rule in TABLE if rule.name in self.on)
        return f"Rules({on}; {' '.join(self.languages)})"

    @property
    def judges_captions(self) -> bool:
        """Any of the rules of captions is on."""
        return any(name in self for name in (Name.LANGUAGE, Name.MOJIBAKE, Name.SHORT, Name.BOILERPLATE))

    @property
    def limits(self) -> Limits:
        """The limits that a picture is drawn within."""
        return Limits(
            aspect=self.get(Name.ASPECT) or LONGEST_RESIZED,
            least_side=int(self.get(Name.SIZE) or 1),
            animated=Name.ANIMATED not in self,
            perceptual=Name.PERCEPTUAL in self or Name.EVALUATION in self,
        )


STANDING = Rules({rule.name: rule.threshold for rule in TABLE if rule.always})


def chosen(
    changed: Sequence[str] = (),
    off: Iterable[str] = (),
    *,
    languages: Sequence[str] = (),
    at_hand: Iterable[Needs] = (),
) -> Rules:
    """The rules of a table whose needs are at hand, changed as a command line says.

    Args:
        changed: "NAME=THRESHOLD".
        off: names of rules that are off.
        languages: codes of the languages that are kept; () keeps all.
        at_hand: what there is besides the libraries of the extra `prepare`.

    Raises:
        InputError: an unknown rule, a threshold that it cannot have, a rule that cannot be switched off or
            has not what it needs.
    """
    there = {Needs.NOTHING, Needs.LIBRARIES, *at_hand}
    if there >= {Needs.CLIP, Needs.POLICY}:
        there.add(Needs.CLIP_AND_POLICY)
    on = {rule.name: rule.threshold for rule in TABLE if rule.needs in there}
    for text in changed:
        name, equals, value = text.partition("=")
        rule = _rule(name)
        if rule.needs not in there:
            raise InputError(f"the rule {name} needs {_NEEDED[rule.needs]}")
        on[rule.name] = _threshold(rule, value) if equals else rule.threshold
    for name in off:
        rule = _rule(name)
        if rule.fixed:
            raise InputError(f"the rule {name} cannot be switched off: such pictures cannot be drawn")
        on.pop(rule.name, None)
    if languages and Name.LANGUAGE not in on:
        raise InputError("languages are kept by the rule language: leave it on")
    return Rules(on, tuple(languages))


_NEEDED = {
    Needs.CLIP: "a CLIP: name a bundle with --clip",
    Needs.EVALUATION: "evaluation pictures: name their folder with --against",
    Needs.FACES: "a detector of faces: ask for it with --drop-faces",
    Needs.POLICY: "a policy: name one with --policy",
    Needs.CLIP_AND_POLICY: "a CLIP and a policy: name them with --clip and --policy",
}


def _rule(name: str) -> Rule:
    if name not in list(Name):
        raise InputError(f"unknown rule {name!r}: choose {', '.join(Name)}")
    return BY_NAME[Name(name)]


def _threshold(rule: Rule, value: str) -> float:
    if rule.threshold is None:
        raise InputError(f"the rule {rule.name} has no threshold: leave {value!r} out")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not rule.least <= number <= rule.most:
        raise InputError(
            f"{rule.name}={value} is not allowed: give a number from {rule.least:g} to {rule.most:g}"
            f" ({rule.unit})"
        )
    return number


def listing(rules: Rules | None = None) -> list[str]:
    """The table as lines: name, threshold, what is dropped; those that are off in parentheses."""
    lines = []
    for rule in TABLE:
        on = rules is None or rule.name in rules
        threshold = rule.threshold if rules is None or not on else rules.on[rule.name]
        said = rule.says.format(f"{threshold:g}" if threshold is not None else "")
        lines.append(f"{rule.name:15} {said}{'' if on else ' (off)'}")
    return lines
