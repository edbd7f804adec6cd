"""The part of the corpus that a picture belongs to: a stable hash of its concept and style, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from unclip.data.records import Split

UNSEEN_CONCEPTS = 0.02
UNSEEN_PAIRS = 0.03


def share(*parts: str) -> float:
    """A number in [0, 1) of `parts` alone: 8 bytes of BLAKE2b over them with NUL between."""
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def is_unseen_concept(concept: str) -> bool:
    """True where a concept is held out in all styles."""
    return share("concept", concept) < UNSEEN_CONCEPTS


def split_pairs(
    pairs: Iterable[tuple[str, str]], test_styles: Iterable[str] = ()
) -> dict[tuple[str, str], Split]:
    """Assigns every (concept, style) pair to a split.

    A pair is held out (`unseen-pairs`) by its own hash, but only while the concept keeps at least one
    other style in `train`; the style with the largest hash stays.
    """
    tests = frozenset(test_styles)
    styles: dict[str, set[str]] = {}
    splits: dict[tuple[str, str], Split] = {}
    for concept, style in pairs:
        if style in tests:
            splits[concept, style] = Split.UNSEEN_STYLES
        elif is_unseen_concept(concept):
            splits[concept, style] = Split.UNSEEN_CONCEPTS
        else:
            styles.setdefault(concept, set()).add(style)
    for concept, own in styles.items():
        shares = {style: share("pair", concept, style) for style in own}
        kept = max(own, key=lambda style: (shares[style], style))
        for style in own:
            held_out = shares[style] < UNSEEN_PAIRS and style != kept
            splits[concept, style] = Split.UNSEEN_PAIRS if held_out else Split.TRAIN
    return splits


def order(keys: Sequence[str]) -> list[int]:
    """The positions of `keys` in an order that looks random and is always the same."""
    return sorted(range(len(keys)), key=lambda index: (share("order", keys[index]), keys[index]))
