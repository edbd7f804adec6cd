"""Letters that phones, word processors and PDFs write, as OpenAI's CLIP reads them: the repairs of `ftfy`.

Of ftfy 6.3 those that concern letters alone, without its guesses at wrongly decoded text: curly quotes become
straight, ligatures and full-width forms plain letters, C1 controls the letters of Windows-1252; terminal
escapes, byte order marks and other controls go. Dashes stay, as there: the vocabulary has them.
"""

from __future__ import annotations

import html
import re
import unicodedata

TERMINAL_ESCAPE = re.compile(r"\x1b\[[\d;]*[a-zA-Z]")
QUOTES = dict.fromkeys([0x2BC, *range(0x2018, 0x201C)], "'") | dict.fromkeys(range(0x201C, 0x2020), '"')
LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in map(ord, "ĲĳǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ")}
LIGATURES |= {ord("ŉ"): "'n", ord("ﬅ"): "ſt"}
WIDE = {0x3000: " "} | {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFF0)}
WINDOWS = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
MISREAD = {code: letter.translate(QUOTES) for code, letter in WINDOWS.items() if letter}  # all but five
CONTROLS = dict.fromkeys(
    [*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD)]
)
LETTERS: dict[int, str | None] = QUOTES | LIGATURES | WIDE | MISREAD | CONTROLS


def repaired(text: str) -> str:
    """A text without HTML entities, its letters repaired, as OpenAI's `basic_clean` gives it."""
    if "<" not in text:  # else ftfy takes it for HTML and leaves entities alone
        text = html.unescape(text)
    text = TERMINAL_ESCAPE.sub("", text).translate(LETTERS)
    return html.unescape(html.unescape(text))
