"""Captions while training: names, tags, articles, style phrases and languages, different each time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from unclip.data.colours import coloured
from unclip.data.styles import phrases
from unclip.errors import InputError

if TYPE_CHECKING:  # who draws reads prompts with this file, and needs no pyarrow: 27 MB
    from unclip.data.records import Captions

OTHER = "other"
LANGUAGES: Mapping[str, float] = {"en": 0.55, "ko": 0.20, "de": 0.20, OTHER: 0.05}
JUDGED_LANGUAGES = ("en", "ko", "de")  # that figures are given for
# The kinds of caption and how often each comes; what a record does not have falls back to its name.
KINDS: Mapping[str, float] = {
    "name": 0.27,
    "article": 0.08,
    "style": 0.40,
    "tags": 0.13,
    "tags and style": 0.07,
    "tag": 0.05,
}
MOST_TAGS = 3
OWN_NAME_WEIGHT = 4  # the name counts as much as this many of the source's further names

TONE = re.compile(r"skin tone$")
RELATIONS = (
    "kiss",
    "couple with heart",
    "sich küssendes Paar",
    "Liebespaar",
)  # of those that follow, not "with" them
FLAG = {"en": "flag: ", "de": "Flagge: ", "ko": "깃발: "}
KEYCAP = {
    "en": ("keycap: ", "keycap {}", "number {} key"),
    "de": ("Taste: ", "Taste {}"),
    "ko": ("키 캡: ", "키캡 {}", "{} 버튼"),
}
WITH_ARTICLE = re.compile(
    r"^United |Islands?$|^(?:Netherlands|Philippines|Bahamas|Maldives|Seychelles|European Union|"
    r"Czech Republic|Central African Republic|Dominican Republic|Vatican City)$"
)
# Countries that German names with an article, in the genitive: "Flagge der Schweiz".
GENITIVE = {
    **{
        country: f"der {country}"
        for country in (
            *("Schweiz", "Türkei", "Ukraine", "Slowakei", "Mongolei", "Vatikanstadt", "Niederlande"),
            *("Philippinen", "Malediven", "Seychellen", "Bahamas", "Komoren"),
        )
    },
    "Vereinigte Staaten": "der Vereinigten Staaten",
    "Vereinigtes Königreich": "des Vereinigten Königreichs",
    "Vereinigte Arabische Emirate": "der Vereinigten Arabischen Emirate",
    "Vereinte Nationen": "der Vereinten Nationen",
    "Europäische Union": "der Europäischen Union",
    "Dominikanische Republik": "der Dominikanischen Republik",
    "Zentralafrikanische Republik": "der Zentralafrikanischen Republik",
}
# German endings after "mit": "helle Hautfarbe" -> "mit heller Hautfarbe", "rotes Haar" -> "mit rotem
# Haar".
DATIVE = ((re.compile(r"e Hautfarbe$"), "er Hautfarbe"), (re.compile(r"es Haar$"), "em Haar"))
# English names that take no article: plurals, masses, numbers, clock times, proper names, whole phrases.
NO_ARTICLE = re.compile(r"^(?:flag|keycap|number|an?|the|one|two|three|four|five|six|seven|eight|nine|ten|"
                        r"eleven|twelve|men|women|people|children)\b|[A-Z\d:!?]|"
                        r"(?:(?<![su’'])s|people|feet|teeth|money|food|sushi|rice|bread|cheese|water|music|ice|fire|fog|rain|snow|"
                        r"^hair|curry|tempura|sign language)$")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Described:
    """The material of captions. `names` are the source's own further names, in the `first` language."""

    captions: Captions
    style: str = ""
    names: Sequence[str] = ()
    _options: dict[str, tuple[list[str], list[str], tuple[str, ...]]] = field(
        default_factory=dict, repr=False
    )

    @property
    def first(self) -> str:
        """The language of `names`: English, or the record's first one."""
        return "en" if "en" in self.captions else next(iter(self.captions))

    def options(self, language: str) -> tuple[list[str], list[str], tuple[str, ...]]:
        """(names, tags, style phrases) in one language, worked out once."""
        if language not in self._options:
            own = names(self.captions, language)
            listed = {name.casefold() for name in (*own, self.captions[language][0])}
            tags = [tag for tag in self.captions[language][1:] if tag.casefold() not in listed]
            self._options[language] = own, tags, phrases(self.style, language)
        return self._options[language]


def names(captions: Captions, language: str) -> list[str]:
    """Names of a thing in a language, the most natural one first; empty where it has none.

    The name of a code chart is said as people say it: "flag: Japan" gives "flag of Japan" and "Japan
    flag", "man: light skin tone" gives "man with light skin tone".
    """
    listed = captions.get(language, ())
    if not listed:
        return []
    found = _spoken(listed[0], language)
    if len(listed) > 1 and listed[1].lower().endswith(listed[0].lower()):
        found.append(listed[1])  # the phrase with its article: "eine Erdbeere"
    return list(dict.fromkeys(found))


def _spoken(name: str, language: str) -> list[str]:
    name = re.sub(r"\s+", " ", name).replace(" :", ":")  # French has a narrow space before a colon
    if (prefix := FLAG.get(language)) and name.startswith(prefix):
        return _flag(name.removeprefix(prefix), language)
    if language in KEYCAP and name.startswith(KEYCAP[language][0]):
        return [pattern.format(name.removeprefix(KEYCAP[language][0])) for pattern in KEYCAP[language][1:]]
    if language == "de" and name.endswith("(in)"):
        return [name.removesuffix("(in)"), name.replace("(in)", "in"), name]
    base, colon, rest = name.partition(": ")
    if not colon:
        return [name]
    parts = [part.strip() for part in re.split(r", | und " if language == "de" else ", ", rest)]
    if language == "en":
        return _english(base, parts, name)
    if language == "de":
        return _german(base, parts, name)
    if language == "ko":
        return [f"{rest} {base}", f"{base}, {rest}"]
    return [f"{base}, {rest}"]


def _flag(country: str, language: str) -> list[str]:
    if language == "en":
        article = "the " if WITH_ARTICLE.search(country) else ""
        return [f"flag of {article}{country}", f"{country} flag", f"flag: {country}"]
    if language == "de":
        owner = GENITIVE.get(country) or (
            f"der {country}" if country.endswith(("inseln", "Inseln")) else f"von {country}"
        )
        return [f"Flagge {owner}", f"Flagge: {country}"]
    return [f"{country} 국기", f"{country} 깃발"]


def _english(base: str, parts: list[str], name: str) -> list[str]:
    facing = [part for part in parts if part.startswith("facing")]
    others = [part for part in parts if part not in facing]
    tail = "".join(f" {part}" for part in facing)
    if not others:
        return [base + tail]
    if base in RELATIONS:
        return [f"{base}, {_listed(others, 'and')}", name]
    told = [f"{base}{tail} with {_listed(others, 'and')}"]
    if len(others) == 1 and TONE.search(others[0]):
        told.append(f"{others[0].removesuffix(' skin tone')}-skinned {base}{tail}")
    return [*told, name]


def _german(base: str, parts: list[str], name: str) -> list[str]:
    looking = [part for part in parts if part.startswith("nach ")]
    others = [part for part in parts if part not in looking]
    for pattern, ending in DATIVE:
        others = [pattern.sub(ending, part) for part in others]
    tail = "".join(f", {part}" for part in looking)
    if base in RELATIONS:
        return [f"{base}, {_listed(others, 'und')}", name]
    bases = [base.removesuffix("(in)"), base.replace("(in)", "in")] if base.endswith("(in)") else [base]
    return [*(f"{one} mit {_listed(others, 'und')}{tail}" if others else one + tail for one in bases), name]


def _listed(parts: list[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def with_article(name: str) -> str:
    """An English name with its article: `apple` -> `an apple`, but `scissors` -> `scissors`."""
    if NO_ARTICLE.search(name):
        return name
    vowel = re.match(r"[aeiou]|hour|honest", name) and not re.match(r"uni|eu|one|use|usu|ufo", name)
    return f"{'an' if vowel else 'a'} {name}"


def check_languages(languages: Mapping[str, float]) -> Mapping[str, float]:
    """Refuses shares of languages that are negative or all zero."""
    if not languages or min(languages.values()) < 0 or sum(languages.values()) <= 0:
        raise InputError(
            f"language shares {dict(languages)!r} are not usable: give numbers >= 0, one of them > 0"
        )
    return languages


def caption(
    record: Described,
    random: Random,
    languages: Mapping[str, float] = LANGUAGES,
    colour: str = "",
    tags_as_names: float = 0.0,
    temperature: float = 1.0,
) -> str:
    """One training caption.

    Args:
        record: what to caption.
        random: decides everything; the same state gives the same caption.
        languages: the share of each, "other" for all that are not named; what the record does not have
            gives its share to those that it has.
        colour: of the picture (`colours.colours`), said with a name that says none; empty is not said.
        tags_as_names: share of captions that call the thing by one of its tags, "a car" an automobile.
        temperature: every language's share is raised to one over it: above 1 rare ones come oftener.

    Raises:
        InputError: shares that are negative or all zero.
    """
    language = _choose_language(record.captions, random, check_languages(languages), temperature)
    own, tags, styled = record.options(language)
    (kind,) = random.choices(list(KINDS), list(KINDS.values()))
    name = own[0] if len(own) == 1 or random.random() < 0.6 else random.choice(own)
    if language == record.first and random.random() < len(record.names) / (
        len(record.names) + OWN_NAME_WEIGHT
    ):
        name = random.choice(record.names)
    if kind == "tag" and tags:
        return random.choice(tags)
    if kind == "article" and language != "en":
        name = random.choice(own)
    if tags_as_names and tags and random.random() < tags_as_names:
        name = random.choice(tags)
    if colour:
        name = coloured(name, colour, language, random)
    if kind == "article":
        return with_article(name) if language == "en" else name
    if kind.startswith("tags") and tags:
        chosen = random.sample(tags, min(len(tags), random.randint(1, MOST_TAGS)))
        name = ", ".join([name, *chosen])
        if kind == "tags":
            return name
        plain = [phrase for phrase in styled if phrase.startswith("{n},")]
        return fill(random.choice(plain), name, language) if plain else name
    if kind.endswith("style") and styled:
        return fill(random.choice(styled), name, language)
    return name


def fill(phrase: str, name: str, language: str) -> str:
    """A style phrase with a name in it."""
    return phrase.replace("{n}", name).replace("{a}", with_article(name) if language == "en" else name)


def language_shares(
    spoken: Iterable[str], languages: Mapping[str, float], temperature: float = 1.0
) -> dict[str, float]:
    """The share of each of the languages that are spoken, of any sum; those of share 0 are left out.

    Args:
        spoken: language codes, as often as they come.
        languages: the share of each, "other" for all that are not named, in equal parts.
        temperature: every language's share is raised to one over it.
    """
    codes = dict.fromkeys(spoken)
    shares = {language: share for language, share in languages.items() if language in codes and share > 0}
    others = [language for language in codes if language not in languages] if languages.get(OTHER) else []
    if temperature != 1:
        shares = {language: share ** (1 / temperature) for language, share in shares.items()}
    each = (languages[OTHER] / len(others)) ** (1 / temperature) if others else 0.0
    return shares | dict.fromkeys(others, each)


def _choose_language(
    captions: Captions, random: Random, languages: Mapping[str, float], temperature: float
) -> str:
    shares = language_shares(captions, languages, temperature)
    if not shares:
        return "en" if "en" in captions else next(iter(captions))
    others = [language for language in shares if language not in languages]
    named = {language: share for language, share in shares.items() if language in languages}
    if others:
        named[OTHER] = len(others) * shares[others[0]]
    (language,) = random.choices(list(named), list(named.values()))
    return random.choice(others) if language == OTHER else language
