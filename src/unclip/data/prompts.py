"""Styles in prompts: the one that a prompt names, and the text that adds one to a prompt which names none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from unclip.data.captions import fill
from unclip.data.styles import STYLE_PHRASES, phrases
from unclip.languages import LETTERS, WORD, WORDS

# Words that ordinary prompts have too ("a flat tyre"): they name a style only where a template has them.
ORDINARY = frozenset({"flat", "flach", "gradient", "farbverlauf", "icon", "symbol", "아이콘", "플랫", "사진"})
ARTICLES = re.compile(r"^(?:an?|the|eine?)\s+")
HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
GERMAN = WORDS["de"] | {"zwei", "drei", "vier", "neben", "über"}
ENDS = " \t\r\n.,;:"  # of a prompt, before a style is said behind it


def names_style(prompt: str, styles: Sequence[str] = ()) -> bool:
    """True where a prompt says a style, as the captions' templates do in any of their languages.

    Args:
        prompt: what to draw.
        styles: of the bundle; the name of one of them, said apart (", mosaic"), counts too.
    """
    text = " ".join(prompt.casefold().split()).strip(ENDS)
    if any(pattern.search(text) for pattern in _patterns()):
        return True
    parts = [part.strip() for part in text.split(",")][1:]
    return any(style.casefold() in parts for style in styles)


def says(prompt: str, words: Sequence[str]) -> bool:
    """True where a prompt says one of these names or phrases, in any case."""
    text = " ".join(prompt.casefold().split())
    patterns = (r"\W+".join(map(re.escape, said.casefold().split())) for said in words)
    return any(re.search(rf"(?<!\w){pattern}(?!\w)", text) for pattern in patterns)


def in_style(prompt: str, style: str) -> str:
    """A prompt with the plainest phrase for a style, in the prompt's language where that has one."""
    language = language_of(prompt)
    known = phrases(style, language) or phrases(style, "en")
    plain = [phrase for phrase in known if phrase.startswith("{n},")]
    behind = [phrase for phrase in known if phrase.startswith("{n}")]
    phrase = (plain or behind or list(known))[0]
    return fill(phrase, prompt.strip().rstrip(ENDS), language)


def language_of(prompt: str) -> str:
    """Korean, German or else English: the languages that styles are said in."""
    if HANGUL.search(prompt):
        return "ko"
    words = WORD.findall(prompt.casefold())
    german = sum(word in GERMAN for word in words) > sum(word in WORDS["en"] for word in words)
    return "de" if german or LETTERS["de"] & set(prompt.casefold() + prompt) else "en"


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Patterns of the words that templates add to a name; they find a style in a lower-case prompt."""
    found: dict[str, None] = {}
    for languages in STYLE_PHRASES.values():
        for language, templates in languages.items():
            for template in templates:
                found[_pattern(template.casefold(), language)] = None
    return tuple(re.compile(pattern) for pattern in found)


def _pattern(template: str, language: str) -> str:
    before, _, after = re.sub(r"\{[na]\}", "{}", template).partition("{}")
    said = ARTICLES.sub("", before.strip(" ,:")) or after.strip(" ,:")
    words = re.escape(said).replace(r"\ ", r"\s+")
    if said not in ORDINARY:  # anywhere; Korean words go on without a space
        return words if language == "ko" else rf"(?<!\w){words}(?!\w)"
    if before:
        return rf"^(?:an?\s+)?{words}\W+\w"
    comma = after.lstrip().startswith(",")
    return rf",\s*{words}(?:\s*,|$)" if comma else rf"\w\s+{words}$"
