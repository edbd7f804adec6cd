"""Prompt rules: lists of terms by category and language, with the contexts in which they are harmless.

The lists are `terms/*.toml`. A term is a word or a phrase with its usual endings; what an allowed context
covers is none. `find` tells the category alone: nobody learns from a refusal what stands in a list.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from unclip.languages import WORDS
from unclip.policy.normalise import plain, views

FOLDER = Path(__file__).parent / "terms"
LANGUAGES = ("en", "ko", "de")  # those that have rules
CATEGORIES = {  # as a refusal names them
    "minors": "sexual content with minors",
    "sexual": "sexual content",
    "gore": "gore and violence against people",
    "hate": "hatred of groups of people",
    "persons": "a real person by name",
    "news": "faked news or evidence",
}
# Endings that a term may have; what is left of a word must stand in the list.
ENDINGS = {
    "en": (
        *((end, "") for end in ("ness", "ism", "ist", "ly", "al", "ic", "able", "like", "ful", "ment")),
        *((end, instead) for end in ("ing", "ed", "er", "or", "ation", "ion") for instead in ("", "e")),
        ("ies", "y"),
        ("ied", "y"),
        ("es", ""),
        ("s", ""),
        ("d", ""),
        ("men", "man"),
        ("isation", "ize"),
        ("ization", "ize"),
        ("ised", "ize"),
        ("ising", "ize"),
        ("ise", "ize"),
        ("ie", "y"),  # one word in several spellings
        ("ey", "y"),
        ("our", "or"),
        ("ae", "e"),
    ),
    "de": tuple((end, "") for end in ("innen", "ern", "en", "er", "es", "em", "in", "e", "n", "s")),
    "ko": (),
}
ROUNDS = {"en": 2, "de": 1, "ko": 0}  # endings that a word may have one behind the other
LONGEST_PIECE, OVERLAP = 400, 80  # characters that are compared at once
SHORTEST = 3  # letters that are left of a word without its ending
DOUBLED = re.compile(r"([bdgklmnprt])\1$")
PARTICLES = frozenset(
    (
        "von",
        "van",
        "de",
        "der",
        "den",
        "del",
        "di",
        "da",
        "du",
        "la",
        "le",
        "bin",
        "ibn",
        "ben",
        "al",
        "el",
        "zu",
        "of",
    )
)
MOST_PARTICLES = 2  # between a name and a surname
# Initials and a surname, but for those of countries and cities: T. S. Eliot, J B S Haldane
INITIALS = re.compile(
    r"(?<![A-Z][. ])(?<![A-Z]\. )\b(?!U\. ?[SKN]\.|D\. ?C\.|U [SKN] |D C )"
    r"(?:(?:[A-Z]\. ?)+|(?:[A-Z] ){2,})[A-Z]\w+"
)
SURNAMES = (  # of Koreans
    "김이박최정강조윤장임한오서신권황안송전홍유고문양손배백허남심노하곽성차주우구민류나진지엄채"
    "원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모탁국어은편용"
)
KOREAN_NAME = rf"[{SURNAMES}][가-힣]{{1,2}}"


@dataclass(frozen=True)
class Terms:
    """The terms of a category in a language, all as `plain` writes them.

    Attributes:
        words: that may have endings.
        exact: that have none.
        phrases: of several words, by the first.
        parts: stand within words.
        pairs: of each, a word from both sides must be there.
        beside: with these and a term of the category sexual, it is of this one.
        allowed: what these cover is harmless.
    """

    words: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
    phrases: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    parts: re.Pattern[str] | None = None
    pairs: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()
    beside: frozenset[str] = frozenset()
    allowed: re.Pattern[str] | None = None


@dataclass(frozen=True)
class Rules:
    """The rules of a language.

    Attributes:
        code: of the language.
        terms: by category.
        cues: words that ask for a likeness.
        given: names that persons are given.
        titled: a name and a title, in languages that write the title behind the name.
        fictional: names of nobody.
    """

    code: str
    terms: Mapping[str, Terms]
    cues: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    titled: re.Pattern[str] | None = None
    fictional: re.Pattern[str] | None = None


@cache
def rules(code: str) -> Rules:
    """The rules of a language, read once."""
    with (FOLDER / f"{code}.toml").open("rb") as file:
        table = tomllib.load(file)
    persons: Mapping[str, Any] = table["persons"]
    titles = "|".join(_listed(persons.get("titles", "")))
    fictional = "|".join(map(re.escape, _listed(persons.get("fictional", ""))))
    return Rules(
        code,
        {name: _terms(table[name], code) for name in CATEGORIES if name in table},
        frozenset(_listed(persons.get("cues", ""))),
        frozenset(_listed(persons.get("given", ""))),
        re.compile(rf"(?<![가-힣]){KOREAN_NAME}\s?(?:{titles})") if titles else None,
        re.compile(rf"\b(?:{fictional})\b") if fictional else None,
    )


def _listed(text: str) -> list[str]:
    """Entries between semicolons, as `plain` writes them; "=" before one is kept."""
    entries = (entry.strip() for entry in text.replace("\n", " ").split(";"))
    return ["=" * entry.startswith("=") + plain(entry.removeprefix("=")) for entry in entries if entry]


def _terms(table: Mapping[str, Any], code: str) -> Terms:
    words, exact, phrases = set(), set(), dict[str, list[tuple[str, ...]]]()
    for entry in _listed(table.get("words", "")):
        parts = tuple(entry.removeprefix("=").split())
        if len(parts) > 1:
            phrases.setdefault(parts[0], []).append(parts)
            if len(parts) == 2 and code == "en":  # halfcaste
                words.add("".join(parts))
        elif entry.startswith("="):
            exact.add(parts[0])
        else:
            words.add(parts[0])
    within = "|".join(map(re.escape, _listed(table.get("parts", ""))))
    allowed = "|".join(f"(?:{_folded(one)})" for one in table.get("allowed", ()))
    edge = r"(?<!\w)" if code != "ko" else ""
    return Terms(
        frozenset(words),
        frozenset(exact),
        {first: tuple(found) for first, found in phrases.items()},
        re.compile(within) if within else None,
        tuple((frozenset(_listed(one)), frozenset(_listed(other))) for one, other in table.get("pairs", ())),
        frozenset(_listed(table.get("beside", ""))),
        re.compile(f"{edge}(?:{allowed}){edge.replace('<', '')}") if allowed else None,
    )


def _folded(pattern: str) -> str:
    """A regular expression with umlauts as `plain` writes them."""
    for umlaut, letters in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        pattern = pattern.replace(umlaut, letters)
    return pattern


def find(text: str, categories: Iterable[str], allowed: Sequence[re.Pattern[str]] = ()) -> str | None:
    """The category of which a text is; None where it is of none of them.

    Args:
        text: a prompt, in whatever language; the rules of all languages that it may be in look at it.
        categories: keys of `CATEGORIES`, in the order in which they count.
        allowed: more contexts in which terms are harmless.
    """
    asked = tuple(categories)
    found = {_found(piece, asked, allowed) for piece in pieces(text)}
    return next((category for category in asked if category in found), None)


def pieces(text: str) -> tuple[str, ...]:
    """A text, or of a long one overlapping pieces: what expressions take grows with the square of it."""
    if len(text) <= LONGEST_PIECE:
        return (text,)
    starts = range(0, len(text) - OVERLAP, LONGEST_PIECE - OVERLAP)
    return tuple(dict.fromkeys(text[start : start + LONGEST_PIECE] for start in starts))


def _found(text: str, asked: Sequence[str], allowed: Sequence[re.Pattern[str]]) -> str | None:
    seen = views(text)
    for category in asked:
        if any(_holds(view, category, rules(code), allowed) for view in seen for code in _codes(view)):
            return category
    if "persons" in asked and _named(text, allowed):
        return "persons"
    return None


def _codes(view: str) -> Iterator[str]:
    """The languages whose rules look at a text: those of its script, but for one that it surely is not in."""
    if re.search("[가-힣ㄱ-ㅣ]", view):
        yield "ko"
    if re.search("[a-z]", view):
        words = set(view.replace(",", "").split())
        english, german = len(words & WORDS["en"] - WORDS["de"]), len(words & WORDS["de"] - WORDS["en"])
        if english >= german:
            yield "en"
        if german >= english:
            yield "de"


def _holds(view: str, category: str, rules: Rules, allowed: Sequence[re.Pattern[str]]) -> bool:
    terms = rules.terms.get(category)
    if terms is None:
        return False
    if terms.beside and _has(view, terms.beside, rules) and _holds(view, "sexual", rules, allowed):
        return True
    return _contains(view, terms, rules, (*_allowed(category), *allowed))


def _contains(view: str, terms: Terms, rules: Rules, allowed: Sequence[re.Pattern[str]]) -> bool:
    """True where a term stands outside of the allowed contexts."""
    for pattern in allowed:
        view = pattern.sub(",", view)
    if terms.parts is not None and terms.parts.search(view):
        return True
    if rules.code == "ko":
        return _korean(view, terms)
    for clause in view.split(","):
        words = clause.split()
        for i, word in enumerate(words):
            if word in terms.exact or any(form in terms.words for form in _forms(word, rules.code)):
                return True
            for form in _forms(word, rules.code):
                for phrase in terms.phrases.get(form, ()):
                    rest = words[i + 1 : i + len(phrase)]
                    if len(rest) == len(phrase) - 1 and all(
                        wanted in _forms(had, rules.code)
                        for wanted, had in zip(phrase[1:], rest, strict=True)
                    ):
                        return True
    return any(_has(view, one, rules) and _has(view, other, rules) for one, other in terms.pairs)


@cache
def _allowed(category: str) -> tuple[re.Pattern[str], ...]:
    """The allowed contexts of all languages: what is one in a language is not forbidden in another."""
    found = (rules(code).terms.get(category) for code in LANGUAGES)
    return tuple(terms.allowed for terms in found if terms is not None and terms.allowed is not None)


def _korean(view: str, terms: Terms) -> bool:
    """Words that begin with a term, for endings and particles follow."""
    words = view.replace(",", " ").split()
    if any(word.startswith(term) for word in words for term in terms.words):
        return True
    padded = f" {' '.join(words)}"
    if any(f" {' '.join(phrase)}" in padded for some in terms.phrases.values() for phrase in some):
        return True
    return any(
        all(any(word.startswith(term) for word in words for term in side) for side in pair)
        for pair in terms.pairs
    )


def _has(view: str, terms: frozenset[str], rules: Rules) -> bool:
    if rules.code == "ko":
        return any(term in view for term in terms)
    words = view.replace(",", " ").split()
    phrases = [term for term in terms if " " in term]
    return any(
        word in terms or any(form in terms for form in _forms(word, rules.code)) for word in words
    ) or any(f" {phrase} " in f" {' '.join(words)} " for phrase in phrases)


@lru_cache(2**16)
def _forms(word: str, code: str) -> frozenset[str]:
    """A word, and what it is without endings."""
    found = {word}
    for _ in range(ROUNDS[code]):  # fornicators, fornicator, fornicate
        found |= {form for one in found for form in _shorter(one, code)}
    return frozenset(found)


def _shorter(word: str, code: str) -> Iterator[str]:
    """The forms of a word without one of its endings, or with another ending."""
    for ending, instead in ENDINGS[code]:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= SHORTEST:
            yield stem + instead
            if code == "en" and not instead and DOUBLED.search(stem):
                yield stem[:-1]  # stabbed


def _named(text: str, allowed: Sequence[re.Pattern[str]]) -> bool:
    """True for a likeness that is asked for of somebody who has a name and a surname, in any language."""
    view, every = plain(text), [rules(code) for code in LANGUAGES]
    if not any(_has(view, one.cues, one) for one in every):
        return False
    fictional = [one.fictional for one in every if one.fictional is not None]
    for pattern in (*_allowed("persons"), *fictional, *allowed):
        view = pattern.sub(",", view)
    if any(one.titled.search(view) for one in every if one.titled is not None):
        return True
    # names and surnames in Latin letters are written with capitals
    capitals = {plain(word) for word in re.findall(r"\b[A-ZÄÖÜ]\w*", text)}
    left = [clause.split() for clause in view.split(",")]
    written = {word for words in left for word in words}
    if any(plain(match[0]).split()[-1] in written for match in INITIALS.finditer(text)):
        return True
    given = _given().union(*(one.given for one in every))
    return any(
        words[i] in given and {words[i], _surname(words[i + 1 :])} <= capitals
        for words in left
        for i in range(len(words) - 1)
    )


def _surname(words: Sequence[str]) -> str:
    """The first of the words behind a name that is no particle."""
    behind = next((i for i, word in enumerate(words) if word not in PARTICLES or i == MOST_PARTICLES), 0)
    return words[behind]


@cache
def _given() -> frozenset[str]:
    """Names that persons are given, of many languages."""
    lines = (FOLDER / "given.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def find_own(
    text: str, refused: Mapping[str, Sequence[str]], allowed: Sequence[re.Pattern[str]] = ()
) -> str | None:
    """The name of the first own list of which a text holds a word or phrase; None where it holds none."""
    for name, entries in refused.items():
        terms = _terms({"words": ";".join(entries)}, "en")
        for view in dict.fromkeys(view for piece in pieces(text) for view in views(piece)):
            if any(_contains(view, terms, Rules(code, {}), allowed) for code in _codes(view)):
                return name
    return None
