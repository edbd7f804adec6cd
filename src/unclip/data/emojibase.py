"""Names and tags of emoji in the 30 locales of npm `emojibase-data`, found by code point or by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unclip.data.archives import members
from unclip.data.wording import slug, squashed

TONES = {0x1F3FB: 1, 0x1F3FC: 2, 0x1F3FD: 3, 0x1F3FE: 4, 0x1F3FF: 5}
TONE_NAMES = {"light": 1, "medium-light": 2, "medium": 3, "medium-dark": 4, "dark": 5}
JOINER, VARIATION, END_OF_TAGS = 0x200D, 0xFE0F, 0xE007F
GENDER_SIGNS = {0x2640, 0x2642}
# Characters that differ by gender alone, and the one that stands for all of them.
NEUTRAL = {
    0x1F468: 0x1F9D1, 0x1F469: 0x1F9D1,  # man, woman: person
    0x1F466: 0x1F9D2, 0x1F467: 0x1F9D2,  # boy, girl: child
    0x1F474: 0x1F9D3, 0x1F475: 0x1F9D3,  # old man, old woman: older person
    0x1F934: 0x1FAC5, 0x1F478: 0x1FAC5,  # prince, princess: person with crown
    0x1F936: 0x1F385,  # Mrs. Claus: Santa Claus
    0x1F57A: 0x1F483,  # man dancing: woman dancing
}  # fmt: skip
# Territories that fly the flag of a country: of pictures that are the same, the country's is to stay.
BORROWED_FLAGS = frozenset(
    f"u{0x1F1E6 + ord(first) - ord('A'):x}-{0x1F1E6 + ord(second) - ord('A'):x}"
    for first, second in (
        "BV",
        "SJ",
        "HM",
        "CP",
        "MF",
        "GP",
        "GF",
        "RE",
        "PM",
        "YT",
        "WF",
        "BL",
        "DG",
        "EA",
        "UM",
    )
)
PERSON, KISS_MARK, HEART, HANDSHAKE = 0x1F9D1, 0x1F48B, 0x2764, 0x1F91D
KISS, COUPLE = 0x1F48F, 0x1F491
PAIRS = {0x1F46B, 0x1F46C, 0x1F46D}  # woman and man, two men, two women holding hands
HANDS = (0x1FAF1, 0x1FAF2)  # the right and left hand of a handshake in two tones


def code_key(code: str) -> tuple[int, ...]:
    """A code point sequence such as `1f1ef-1f1f5` or `0031-FE0F-20E3` without variation selectors."""
    return tuple(point for part in re.split(r"[-_ ]", code) if (point := int(part, 16)) != VARIATION)


def tones(key: Iterable[int]) -> list[int]:
    """The skin tones in a sequence, 1 (light) .. 5 (dark)."""
    return [TONES[point] for point in key if point in TONES]


def concept_of(key: tuple[int, ...]) -> str:
    """The concept that all skin-tone and gender variants of a sequence share, as `u1f9d1-200d-1f680`."""
    if len(key) == 1 and key[0] in TONES:
        return f"u{key[0]:x}"
    points = [NEUTRAL.get(point, point) for point in key if point not in TONES]
    parts: list[list[int]] = [[]]
    for point in points:
        if point == JOINER:
            parts.append([])
        else:
            parts[-1].append(point)
    kept = [tuple(part) for part in parts if part and not (len(part) == 1 and part[0] in GENDER_SIGNS)]
    if not kept:  # the sign of a gender itself
        return "u" + "-".join(f"{point:x}" for point in key)
    flat = {point for part in kept for point in part}
    people = sum(part == (PERSON,) for part in kept)
    if people == 2 and KISS_MARK in flat:
        return f"u{KISS:x}"
    if people == 2 and HEART in flat:
        return f"u{COUPLE:x}"
    if flat == set(HANDS):
        return f"u{HANDSHAKE:x}"
    if len(kept) == 1 and kept[0][0] in PAIRS:
        kept = [(PERSON,), (HANDSHAKE,), (PERSON,)]
    return "u" + "-200d-".join("-".join(f"{point:x}" for point in part) for part in kept)


@dataclass(frozen=True)
class Emoji:
    """One emoji: its key and, for each locale, the name and then the tags."""

    key: tuple[int, ...]
    captions: dict[str, list[str]]

    @property
    def concept(self) -> str:
        """The concept that all variants of it share."""
        return concept_of(self.key)

    @property
    def tone(self) -> int:
        """0, or the first skin tone in it."""
        return next(iter(tones(self.key)), 0)


class EmojiNames:
    """All emoji of one `emojibase-data`, with a table of their names that sources may add to."""

    def __init__(self, emoji: Iterable[Emoji]) -> None:
        self.by_key: dict[tuple[int, ...], Emoji] = {}
        self._by_name: dict[str, tuple[int, ...]] = {}
        for one in emoji:
            self.by_key[one.key] = one
        self.groups: dict[str, tuple[str, str]] = {}  # concept -> group and subgroup
        self._by_label: dict[str, tuple[int, ...]] = {}
        self._by_foreign: dict[str, tuple[int, ...]] = {}
        self._words: set[str] = set()
        for one in self.by_key.values():
            self.add_name(one.captions["en"][0], one.key)
            self._by_label.setdefault(slug(one.captions["en"][0]), one.key)
            for text in one.captions["en"]:
                self.add_words(text)
            for locale in ("it", "fr"):
                if (
                    locale in one.captions and ":" not in one.captions["en"][0]
                ):  # a keycap is no "tasto" for all
                    self._by_foreign.setdefault(slug(one.captions[locale][0]), one.key)

    @classmethod
    def load(cls, archive: Path) -> EmojiNames:
        """Reads `emojibase-data-*.tgz`."""
        locales: dict[str, list[dict[str, Any]]] = {}
        shortcodes: list[dict[str, str | list[str]]] = []
        groups: dict[str, dict[str, str]] = {}
        for name, content in members(archive, lambda name: name.endswith(".json")):
            parts = name.split("/")
            if len(parts) == 3 and parts[2] == "data.json" and parts[1] not in {"meta", "versions"}:
                locales[parts[1]] = json.loads(content)
            elif len(parts) == 4 and parts[1] == "en" and parts[2] == "shortcodes":
                shortcodes.append(json.loads(content))
            elif parts[1:] == ["meta", "groups.json"]:
                groups = json.loads(content)
        captions: dict[tuple[int, ...], dict[str, list[str]]] = {}
        for locale, entries in sorted(locales.items()):
            for code, label, tags in _walk(entries):
                captions.setdefault(code_key(code), {})[locale] = [
                    label,
                    *(tag for tag in tags if tag != label),
                ]
        names = cls(Emoji(key, texts) for key, texts in captions.items() if "en" in texts)
        for entry in locales.get("en", ()):
            if "group" in entry:  # parts of emoji have none
                named = groups["groups"][str(entry["group"])], groups["subgroups"][str(entry["subgroup"])]
                names.groups.setdefault(concept_of(code_key(entry["hexcode"])), named)
        for table in shortcodes:
            for code, short in table.items():
                for name in [short] if isinstance(short, str) else short:
                    if len(name) > 3:  # `tm`, `rs`: too short to be a name
                        names.add_name(name, code_key(code))
        return names

    def add_name(self, name: str, key: tuple[int, ...]) -> None:
        """Adds a further English name; the first to claim a name keeps it."""
        if key in self.by_key:
            self._by_name.setdefault(slug(name), key)
            self._by_name.setdefault(squashed(name), key)

    def find_code(self, code: str) -> Emoji | None:
        """The emoji of a code point sequence, with or without variation selectors."""
        key = code_key(code)
        return self.by_key.get(key) or self.by_key.get((*key, END_OF_TAGS))  # some files leave the end out

    def find_label(self, name: str) -> Emoji | None:
        """The emoji whose English Unicode name is `name`, and no other."""
        key = self._by_label.get(slug(name))
        return None if key is None else self.by_key[key]

    def find_foreign(self, name: str) -> Emoji | None:
        """The emoji whose Italian or French name is `name`, if no English word is written so."""
        key = self._by_foreign.get(slug(name))
        return None if key is None or slug(name) in self._words else self.by_key[key]

    def vocabulary(self) -> frozenset[str]:
        """All words in English names and tags, and those that `add_words` added."""
        return frozenset(self._words)

    def add_words(self, text: str) -> None:
        """Adds the words of an English text to the vocabulary."""
        self._words.update(word for word in slug(text).split("-") if word)

    def find_name(self, name: str) -> Emoji | None:
        """The emoji of an English name; `-medium-dark`, `-dark-skin-tone` and `-tone4` at its end are
        understood.
        """
        for candidate in (slug(name), slug(name).removeprefix("flag-for-")):
            if candidate in self._by_name:
                return self.by_key[self._by_name[candidate]]
        toned = re.fullmatch(
            r"(.+?)-(?:(medium-light|medium-dark|medium|light|dark)(?:-skin-tone)?|tone([1-5]))", slug(name)
        )
        if toned is None or (base := self.find_name(toned[1])) is None or tones(base.key):
            return None
        tone = TONE_NAMES[toned[2]] if toned[2] else int(toned[3])
        point = next(point for point, value in TONES.items() if value == tone)
        return self.by_key.get((base.key[0], point, *base.key[1:]))


def _walk(entries: list[dict[str, Any]]) -> Iterator[tuple[str, str, list[str]]]:
    for entry in entries:
        yield entry["hexcode"], entry["label"], entry.get("tags", [])
        for skin in entry.get("skins", []):
            yield skin["hexcode"], skin["label"], entry.get("tags", [])
