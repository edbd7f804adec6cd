"""The rules that need the whole corpus: what repeats, what is in an evaluation set, what does not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from unclip.data.emojibase import BORROWED_FLAGS
from unclip.data.filters import THUMB, duplicates
from unclip.data.prepare.neighbours import Metric, close_pairs
from unclip.data.prepare.rules import BY_NAME, BY_REASON, STANDING, Name, Rules
from unclip.data.records import LeftOut, dump_captions, load_captions

LEAST_QUALITY = 50  # of a PDQ hash, below which its authors say that it tells nothing (hashing.pdf)
HASH, TURNS = 32, 8  # bytes of a PDQ hash, and ways to turn and mirror a picture
# PDQ sees no colour. Of copies, the mean difference of red, and of blue, to green stays within so many of
# 255, however they are turned, packed or brightened; a drawing in another colour is another one.
SAME_COLOUR = 16
BESIDE = 2.0  # times a threshold: how far from it pictures are still "beside" it, for the report
SHARD = 1000  # rows that are looked at together


@dataclass(frozen=True)
class Embedded:
    """The pictures of a table as a CLIP sees them.

    Attributes:
        vectors: float16 (N, E), L2-normalised; zeros where there is no picture.
        scores: float32 (N,), the best cosine of a picture with one of its captions; NaN where there is none.
    """

    vectors: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """Pictures that models are measured on: none like them may be trained on.

    Attributes:
        keys: of the pictures, for messages.
        hashes: uint8 (N, 32), PDQ; only of those whose quality tells something.
        vectors: float16 (N, E), L2-normalised, or None without a CLIP.
    """

    keys: Sequence[str]
    hashes: np.ndarray
    hashed: Sequence[str]
    vectors: np.ndarray | None = None


@dataclass
class Facts:
    """The measures that a rule took, by position: the value, and the picture that this one is next to."""

    values: dict[int, float] = field(default_factory=dict)
    twins: dict[int, int] = field(default_factory=dict)


@dataclass
class Decisions:
    """The outcome of all rules.

    Attributes:
        dropped: by position of a picture.
        captions: (captions as JSON, further names) of pictures of which some were taken away.
        facts: measures by rule.
    """

    dropped: dict[int, LeftOut] = field(default_factory=dict)
    captions: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    facts: dict[Name, Facts] = field(default_factory=dict)


def decide(
    table: pa.Table,
    rules: Rules = STANDING,
    *,
    embedded: Embedded | None = None,
    evaluation: Evaluation | None = None,
    refused: Callable[[int], str] | None = None,
    settled: int = 0,
) -> Decisions:
    """Applies the rules of a corpus, in the order of their table, to pictures that were drawn.

    Of pictures that repeat each other the first stays.

    Args:
        table: rows as of `draw_workers.STAGED`.
        rules: those that are on.
        embedded: for `semantic` and `score`.
        evaluation: for `evaluation`.
        refused: says why policy refuses the picture at a position, "" where it does not.
        settled: rows that were judged before: those that were kept then stay.
    """
    made = Decisions()
    told = _Told(table, made)
    reasons, details = (table[name].to_pylist() for name in ("reason", "detail"))
    for index, reason in enumerate(reasons):
        if reason is not None:
            told.drop(index, reason, details[index])
    told.settled = settled
    if Name.REPEATED in rules:
        _repeated(table, made, told, int(rules[Name.REPEATED]))
    if Name.DUPLICATE in rules or Name.NEAR_DUPLICATE in rules:
        _duplicates(table, made, told, rules)
    if Name.PERCEPTUAL in rules:
        facts = made.facts.setdefault(Name.PERCEPTUAL, Facts())
        rows = _hashed(table, made.dropped)
        hashes, colours = own_hashes(table, rows), _colours(table, rows)

        def near(left: list[int], radius: float) -> Iterator[tuple[int, int, float]]:
            turned = _turned(table, [rows[place] for place in left])
            for query, row, away in close_pairs(hashes[left], turned, Metric.HAMMING, radius):
                one = left[query // TURNS]
                if np.abs(colours[one] - colours[left[row]]).max() <= SAME_COLOUR:
                    yield query // TURNS, row, away

        _first_stays(
            rows,
            near,
            rules[Name.PERCEPTUAL],
            facts,
            lambda index, twin, bits: told.repeats(
                index, Name.PERCEPTUAL, twin, f"{bits:.0f} of 256 bits differ"
            ),
        )
    if evaluation is not None and Name.EVALUATION in rules:
        _in_evaluation(table, made, told, rules, evaluation, embedded)
    if embedded is not None and Name.SEMANTIC in rules:
        rows = [index for index in range(len(table)) if index not in made.dropped]
        vectors = embedded.vectors[rows]
        facts = made.facts.setdefault(Name.SEMANTIC, Facts())
        _first_stays(
            rows,
            lambda left, radius: close_pairs(vectors[left], vectors[left], Metric.COSINE, radius),
            1 - rules[Name.SEMANTIC],
            facts,
            lambda index, twin, away: told.repeats(index, Name.SEMANTIC, twin, f"cosine {1 - away:.3f}"),
        )
        facts.values = {index: 1 - away for index, away in facts.values.items()}
    if embedded is not None and Name.SCORE in rules:
        facts = made.facts.setdefault(Name.SCORE, Facts())
        for index in range(len(table)):
            if index not in made.dropped:
                facts.values[index] = score = float(embedded.scores[index])
                if score < rules[Name.SCORE]:
                    told.drop(index, BY_NAME[Name.SCORE].reasons[0], f"cosine {score:.3f}")
    if refused is not None and Name.POLICY in rules:
        for index in range(len(table)):
            if index >= settled and index not in made.dropped and (why := refused(index)):
                told.drop(index, BY_NAME[Name.POLICY].reasons[0], why)
    return made


class _Told:
    """The pictures' names, for messages; it notes what is dropped."""

    def __init__(self, table: pa.Table, made: Decisions) -> None:
        self._sources, self._keys = table["source"], table["key"]
        self._dropped = made.dropped
        self.settled = 0

    def key(self, index: int) -> str:
        """The key of one picture."""
        return str(self._keys[index].as_py())

    def drop(self, index: int, reason: str, detail: str) -> None:
        """Notes a picture as dropped, unless it was kept before."""
        if index < self.settled:
            return
        self._dropped[index] = LeftOut(self._sources[index].as_py(), self.key(index), reason, detail)

    def repeats(self, index: int, rule: Name, twin: int, how: str) -> None:
        """Notes a picture as dropped for another one that stays."""
        self.drop(index, BY_NAME[rule].reasons[0], f"like {self.key(twin)}: {how}")


def _repeated(table: pa.Table, made: Decisions, told: _Told, most: int) -> None:
    """Takes away captions that more than `most` pictures have, and pictures that have no other."""

    def rows() -> Iterator[tuple[int, dict[str, list[str]], list[str]]]:
        for start in range(0, len(table), SHARD):
            part = table.slice(start, SHARD).select(["captions", "names"]).to_pydict()
            for row, (captions, names) in enumerate(zip(part["captions"], part["names"], strict=True)):
                if start + row not in made.dropped:
                    yield start + row, load_captions(captions), names

    def said(captions: Mapping[str, Sequence[str]], names: Sequence[str]) -> Iterator[str]:
        yield from (texts[0] for texts in captions.values())
        yield from names

    def number(text: str) -> int:
        plain = " ".join(text.casefold().split())
        return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "big")

    every = (number(text) for _, captions, names in rows() for text in {*said(captions, names)})
    numbers, counts = np.unique(np.fromiter(every, np.uint64), return_counts=True)
    often = dict(zip(numbers[counts > most].tolist(), counts[counts > most].tolist(), strict=True))
    facts = made.facts.setdefault(Name.REPEATED, Facts())
    if not often:
        return
    for index, captions, names in rows():
        counted = {text: often.get(number(text), 0) for text in said(captions, names)}
        if index < told.settled or not any(counted.values()):
            continue
        facts.values[index] = max(counted.values())
        left = [text for text in names if not counted[text]]
        kept: dict[str, list[str]] = {}
        first = "en" if "en" in captions else next(iter(captions))
        for language, (text, *tags) in captions.items():
            name = text if not counted[text] else left.pop(0) if language == first and left else ""
            if name:
                kept[language] = [name, *tags]
        if kept:
            made.captions[index] = dump_captions(kept), left if first in kept else []
        else:
            text = max(counted, key=lambda text: counted[text])
            told.drop(index, "repeated caption", f"{counted[text]:,} pictures are called {text}")


def _duplicates(table: pa.Table, made: Decisions, told: _Told, rules: Rules) -> None:
    """Equal and nearly equal pictures of one source and style."""
    sources, styles, concepts = (table[name].to_pylist() for name in ("source", "style", "concept"))
    usable = [index for index in range(len(table)) if index not in made.dropped]
    usable.sort(
        key=lambda index: concepts[index] in BORROWED_FLAGS
    )  # the first of two that are the same stays
    groups = [f"{sources[index]}\0{styles[index]}" for index in usable]
    hashes = rows_of(table, ["hash"], usable)["hash"].to_pylist()
    found = duplicates(groups, hashes, Reduced(table, usable))
    for place, (reason, twin) in found.items():
        rule = BY_REASON[reason].name
        if rule in rules:
            index = usable[place]
            made.facts.setdefault(rule, Facts()).twins[index] = usable[twin]
            told.drop(index, reason, f"the same as {told.key(usable[twin])}")


def _hashed(table: pa.Table, dropped: Mapping[int, LeftOut]) -> list[int]:
    """The positions of pictures that are not dropped and whose PDQ hash tells something."""
    good = np.flatnonzero(table["quality"].to_numpy() >= LEAST_QUALITY).tolist()
    return [index for index in good if index not in dropped]


def own_hashes(table: pa.Table, rows: list[int]) -> np.ndarray:
    """PDQ hashes, uint8 (N, 32), of pictures as they are."""
    parts = [part[::TURNS] for part in _turned(table, rows)]
    return np.ascontiguousarray(np.concatenate(parts)) if parts else np.zeros((0, HASH), np.uint8)


def _turned(table: pa.Table, rows: list[int]) -> Iterator[np.ndarray]:
    """PDQ hashes, uint8 (8 x N, 32), in parts: of each picture as it is, then turned and mirrored."""
    for start in range(0, len(rows), SHARD):
        stored = rows_of(table, ["pdq"], rows[start : start + SHARD])["pdq"].to_pylist()
        yield np.frombuffer(b"".join(stored), np.uint8).reshape(-1, HASH)


def _colours(table: pa.Table, rows: list[int]) -> np.ndarray:
    """float32 (N, 2): red less green and blue less green of a picture on the whole."""
    found = np.zeros((len(rows), 2), np.float32)
    for start in range(0, len(rows), SHARD):
        part = Reduced(table, rows[start : start + SHARD])[:]
        mean = part.mean(axis=(1, 2), dtype=np.float32)  # (B, 3)
        found[start : start + SHARD] = mean[:, [0, 2]] - mean[:, [1]]
    return found


def _first_stays(
    rows: list[int],
    pairs: Callable[[list[int], float], Iterable[tuple[int, int, float]]],
    radius: float,
    facts: Facts,
    drop: Callable[[int, int, float], None],
) -> None:
    """Drops what has one that stays before it within `radius`; looks again until nothing more is found,
    because of many copies only some are each other's nearest.

    Args:
        rows: the positions of what `pairs` compares.
        pairs: of some of those (places in `rows`), the close ones.
        radius: from which on two are different.
        facts: gets of each the distance to the nearest before it, if that is not far beyond `radius`.
        drop: is told position, the one that stays, and their distance.
    """
    left = list(range(len(rows)))
    while left:
        near: dict[int, dict[int, float]] = {}
        for one, other, away in pairs(left, BESIDE * radius):
            if one != other:
                earlier = near.setdefault(max(one, other), {})
                earlier[min(one, other)] = min(away, earlier.get(min(one, other), away))
        gone = set[int]()
        for later in sorted(near):
            close = {earlier: away for earlier, away in near[later].items() if earlier not in gone}
            if not close:
                continue
            twin = min(close, key=lambda earlier: (close[earlier], earlier))
            index = rows[left[later]]
            facts.values[index], facts.twins[index] = close[twin], rows[left[twin]]
            if close[twin] <= radius:
                gone.add(later)
                drop(index, rows[left[twin]], close[twin])
        if not gone:
            return
        left = [place for later, place in enumerate(left) if later not in gone]


def _in_evaluation(
    table: pa.Table,
    made: Decisions,
    told: _Told,
    rules: Rules,
    evaluation: Evaluation,
    embedded: Embedded | None,
) -> None:
    facts = made.facts.setdefault(Name.EVALUATION, Facts())
    reason, bits = BY_NAME[Name.EVALUATION].reasons[0], rules[Name.EVALUATION]
    rows = _hashed(table, made.dropped)
    turned = _turned(table, rows)
    for query, row, away in close_pairs(evaluation.hashes, turned, Metric.HAMMING, BESIDE * bits):
        index = rows[query // TURNS]
        if away < facts.values.get(index, np.inf):
            facts.values[index] = away
            if away <= bits:
                told.drop(index, reason, f"like {evaluation.hashed[row]}: {away:.0f} of 256 bits differ")
    if embedded is None or evaluation.vectors is None or Name.SEMANTIC not in rules:
        return
    rows = [index for index in range(len(table)) if index not in made.dropped]
    radius = 1 - rules[Name.SEMANTIC]
    for query, row, away in close_pairs(evaluation.vectors, embedded.vectors[rows], Metric.COSINE, radius):
        told.drop(rows[query], reason, f"like {evaluation.keys[row]}: cosine {1 - away:.3f}")


def rows_of(table: pa.Table, names: list[str], indices: list[int]) -> pa.Table:
    """Some columns of some rows."""
    return table.select(names).take(pa.array(indices, pa.int64()))


class Reduced:
    """The reduced pictures of some rows, uint8 (N, 32, 32, 3), read when they are asked for."""

    def __init__(self, table: pa.Table, rows: Sequence[int]) -> None:
        self._column = table["thumb"]
        self._rows = np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = self._column.take(pa.array(self._rows[rows])).to_pylist()
        return np.frombuffer(b"".join(chosen), np.uint8).reshape(-1, THUMB, THUMB, 3)
