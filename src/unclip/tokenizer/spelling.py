"""Emoji in words: a text encoder that learned from captions knows an apple's name and not its code point."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Where emoji and their marks are; few other letters are there, and the table of names takes a while to read.
MAYBE_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u20e3\u2122-\u21aa\u2300-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
FLAG = re.compile("[\U0001f1e6-\U0001f1ff]|\U0001f3f4\U000e0067")  # countries by two letters, regions by tags
SKIN_TONE = re.compile(r" (?=(?:medium-)?(?:light|medium|dark) skin tone)")


def spell_out(text: str) -> str:
    """A text with each emoji as its English name, set off by spaces.

    "🍎" is " red apple ", "🇰🇷" is " flag: South Korea ", "👩🏿‍🚀" is " woman astronaut with dark skin tone ".
    """
    if not MAYBE_EMOJI.search(text):
        return text
    import emoji

    return emoji.replace_emoji(text, _name)


def _name(letters: str, entry: Mapping[str, Any]) -> str:
    words = SKIN_TONE.sub(" with ", entry["en"].strip(":").replace("_", " "), count=1)
    return f" flag: {words} " if FLAG.match(letters) else f" {words} "
