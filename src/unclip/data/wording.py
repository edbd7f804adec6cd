"""Words in names of icons and files."""

from __future__ import annotations

import re

SHORT_WORDS = {"of", "on", "in", "up", "to", "ok", "no", "id", "tv", "cd", "at", "or"}


def plain_words(name: str) -> str:
    """A file's or icon's name as words, without numbering: `alarm-clock-02` -> `alarm clock`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    kept = [part for part in re.split(r"[\W_]+", apart.lower()) if part]
    while len(kept) > 1 and re.fullmatch(r"\d+", kept[-1]):
        kept.pop()
    if kept and re.fullmatch(r"abstract|\d+", kept[0]) and len(kept) == 1:
        return "" if kept[0] == "abstract" else kept[0]
    return " ".join(kept)


def slug(text: str) -> str:
    """Lower case words with hyphens, letters of all scripts kept: `Piñata!` -> `piñata`."""
    return re.sub(r"[\W_]+", "-", text.lower().replace("’", "").replace("'", "")).strip("-")


def squashed(text: str) -> str:
    """A slug without its hyphens, for sources that write `aerialtramway`."""
    return slug(text).replace("-", "")


def split_words(text: str, vocabulary: frozenset[str]) -> str:
    """Text without spaces as the fewest words that `vocabulary` allows; unchanged if it allows none."""
    fewest: list[tuple[int, list[str]] | None] = [(0, [])] + [None] * len(text)
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - 24), end):
            before, word = fewest[start], text[start:end]
            if before is None or word not in vocabulary or (len(word) < 3 and word not in SHORT_WORDS):
                continue
            if (here := fewest[end]) is None or before[0] + 1 < here[0]:
                fewest[end] = (before[0] + 1, [*before[1], word])
    best = fewest[-1]
    return " ".join(best[1]) if best else text
