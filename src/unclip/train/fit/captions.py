"""The captions of a folder: words that all have in common, and those that are held out to judge by."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from unclip.data.splits import share
from unclip.languages import WORDS

WORD = re.compile(r"\w+")
COMMON = 0.9  # of the captions say words that count as common to all
LEAST_CAPTIONS = 3  # of fewer nothing can be told
LONGEST_RUN = 6  # words
HELD_OUT, MOST_HELD_OUT = 0.1, 32  # share of the pictures, and pictures
LEAST_TO_HOLD_OUT = 6  # pictures: of fewer all are needed to learn from
STOP_WORDS = frozenset(word for words in WORDS.values() for word in words)


def common_words(captions: Sequence[str]) -> str:
    """The longest run of words that nearly all captions have, in lower case; empty where there is none.

    A name that was made up for a thing is one ("sks cup"), or what all pictures are said to be
    ("watercolour"). Articles and the like at its ends do not belong to it.
    """
    if len(captions) < LEAST_CAPTIONS:
        return ""
    counts = Counter[tuple[str, ...]]()
    for caption in captions:
        words = WORD.findall(caption.casefold())
        runs = {
            tuple(words[first : first + length])
            for length in range(1, LONGEST_RUN + 1)
            for first in range(len(words) - length + 1)
        }
        counts.update(run for run in runs if run[0] not in STOP_WORDS and run[-1] not in STOP_WORDS)
    found = [run for run, count in counts.items() if count >= COMMON * len(captions)]
    longest = sorted(found, key=lambda run: (len(run), counts[run], run), reverse=True)[:1]
    return " ".join(word for run in longest for word in run)


def held_out(keys: Sequence[str], concepts: Sequence[str]) -> set[int]:
    """Positions of the pictures that are not learned from, a tenth of them, always the same ones.

    Pictures of one concept are held out together, but for a concept that most pictures show: of that single
    ones are.
    """
    if len(keys) < LEAST_TO_HOLD_OUT:
        return set()
    wanted = min(MOST_HELD_OUT, max(1, math.ceil(HELD_OUT * len(keys))))
    members: dict[str, list[int]] = {}
    for position, concept in enumerate(concepts):
        members.setdefault(concept, []).append(position)
    chosen: set[int] = set()
    for concept in sorted(members, key=lambda concept: share("fit", concept)):
        if len(chosen) + len(members[concept]) <= wanted + 1:
            chosen |= {*members[concept]}
        if len(chosen) >= wanted:
            return chosen
    for position in sorted(range(len(keys)), key=lambda position: share("fit", keys[position])):
        if len(chosen) >= wanted:
            break
        chosen.add(position)
    return chosen
