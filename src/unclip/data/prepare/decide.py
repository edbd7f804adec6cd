"""The rules that need the whole corpus: what repeats, what is in an evaluation set, what does not fit."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unclip.data.emojibase import BORROWED_FLAGS
from unclip.data.filters import THUMB, duplicates
from unclip.data.prepare.neighbours import MOST, Metric, Pairs, close_pairs
from unclip.data.prepare.reweighting import reweighted
from unclip.data.prepare.rules import BY_NAME, BY_REASON, STANDING, Name, Rules
from unclip.data.records import LeftOut, dump_captions, load_captions

LEAST_QUALITY = 50  # of a PDQ hash, below which its authors say that it tells nothing (hashing.pdf)
HASH, TURNS = 32, 8  # bytes of a PDQ hash, and ways to turn and mirror a picture
PIXELS_HASH = 16  # bytes of the hash of a picture's pixels
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


class Facts:
    """The measures that a rule took, by position.

    Attributes:
        values: float32 (N,); NaN where it took none.
        twins: int32 (N,), the picture that this one is next to; -1 where there is none.
    """

    def __init__(self, count: int) -> None:
        self.values = np.full(count, np.nan, np.float32)
        self.twins = np.full(count, -1, np.int32)


@dataclass
class Decisions:
    """The outcome of all rules.

    Attributes:
        dropped: by position of a picture.
        captions: (captions as JSON, further names) of pictures of which some were taken away.
        facts: measures by rule.
        weights: float32 (N,), how much more or less a picture counts in training; None where all count 1.
    """

    dropped: dict[int, LeftOut] = field(default_factory=dict)
    captions: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    facts: dict[Name, Facts] = field(default_factory=dict)
    weights: np.ndarray | None = None


def decide(
    table: pa.Table,
    rules: Rules = STANDING,
    *,
    embedded: Embedded | None = None,
    evaluation: Evaluation | None = None,
    faced: Callable[[int], str] | None = None,
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
        faced: says that the picture at a position shows a face, "" where it shows none.
        refused: says why policy refuses the picture at a position, "" where it does not.
        settled: rows that were judged before: those that were kept then stay.
    """
    made = Decisions()
    told = _Told(table, made)
    unusable = np.flatnonzero(table["reason"].is_valid().to_numpy())
    why = rows_of(table, ["reason", "detail"], unusable).to_pylist()
    for index, row in zip(unusable.tolist(), why, strict=True):
        told.drop(index, row["reason"], row["detail"])
    told.settled = settled
    if Name.REPEATED in rules:
        _repeated(table, made, told, int(rules[Name.REPEATED]))
    if Name.DUPLICATE in rules or Name.NEAR_DUPLICATE in rules:
        _duplicates(table, made, told, rules)
    if Name.PERCEPTUAL in rules:
        _perceptual(table, made, told, rules[Name.PERCEPTUAL])
    if evaluation is not None and Name.EVALUATION in rules:
        _in_evaluation(table, made, told, rules, evaluation, embedded)
    if embedded is not None and Name.SEMANTIC in rules:
        _semantic(embedded.vectors, made, told, rules[Name.SEMANTIC])
    if embedded is not None and Name.SCORE in rules:
        facts = made.facts.setdefault(Name.SCORE, Facts(len(table)))
        left = told.left()
        facts.values[left] = embedded.scores[left]
        for index in left[embedded.scores[left] < rules[Name.SCORE]].tolist():
            score = facts.values[index]
            told.drop(index, BY_NAME[Name.SCORE].reasons[0], f"cosine {score:.3f}")
    if faced is not None and Name.FACES in rules:
        told.refuse(Name.FACES, faced)
    if refused is not None and Name.POLICY in rules:
        before = told.left()
        told.refuse(Name.POLICY, refused)
        if embedded is not None and Name.REWEIGHT in rules:
            kept = np.isin(before, told.left(), assume_unique=True)
            facts = made.facts.setdefault(Name.REWEIGHT, Facts(len(table)))
            weights = reweighted(embedded.vectors[before], kept, rules[Name.REWEIGHT])
            facts.values[before[kept]] = weights[kept]
            if not kept.all():
                made.weights = np.nan_to_num(facts.values)
    return made


class _Told:
    """The pictures' names, for messages; it notes what is dropped."""

    def __init__(self, table: pa.Table, made: Decisions) -> None:
        self._sources, self._keys = table["source"], table["key"]
        self._dropped = made.dropped
        self.settled = 0

    def left(self) -> np.ndarray:
        """int64 (M,): the positions of what is not dropped."""
        left = np.ones(len(self._keys), bool)
        left[[*self._dropped]] = False
        return np.flatnonzero(left)

    def key(self, index: int) -> str:
        """The key of one picture."""
        return str(self._keys[index].as_py())

    def drop(self, index: int, reason: str, detail: str) -> None:
        """Notes a picture as dropped, unless it was kept before."""
        if index < self.settled:
            return
        self._dropped[index] = LeftOut(self._sources[index].as_py(), self.key(index), reason, detail)

    def refuse(self, rule: Name, why: Callable[[int], str]) -> None:
        """Drops the pictures for which there is a reason."""
        for index in self.left().tolist():
            if index >= self.settled and (reason := why(index)):
                self.drop(index, BY_NAME[rule].reasons[0], reason)

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
    facts = made.facts.setdefault(Name.REPEATED, Facts(len(table)))
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
    usable = told.left()
    borrowed = pc.is_in(table["concept"].take(pa.array(usable)), pa.array([*BORROWED_FLAGS], pa.string()))
    usable = usable[
        np.argsort(borrowed.to_numpy(), kind="stable")
    ]  # the first of two that are the same stays
    columns = rows_of(table, ["source", "style"], usable)
    codes = [pc.dictionary_encode(columns[name].combine_chunks()) for name in ("source", "style")]
    source, style = (code.indices.to_numpy() for code in codes)
    groups = source.astype(np.int64) * len(codes[1].dictionary) + style
    hashes = np.frombuffer(b"".join(_stored(table, "hash", usable)), f"V{PIXELS_HASH}")
    found = duplicates(groups, hashes, Reduced(table, usable))
    for name in (Name.DUPLICATE, Name.NEAR_DUPLICATE):
        if name in rules:
            made.facts.setdefault(name, Facts(len(table)))
    for place, (reason, twin) in found.items():
        rule = BY_REASON[reason].name
        if rule in rules:
            index = int(usable[place])
            made.facts[rule].twins[index] = usable[twin]
            told.drop(index, reason, f"the same as {told.key(int(usable[twin]))}")


def _perceptual(table: pa.Table, made: Decisions, told: _Told, radius: float) -> None:
    """Pictures whose PDQ hash, turned and mirrored in any way, is like that of one before them."""
    rows = _hashed(table, told)
    hashes, colours = own_hashes(table, rows), _colours(table, rows)
    turned = _turned(table, rows)

    def near(left: np.ndarray, asked: np.ndarray, radius: float) -> Iterator[Pairs]:
        queries = turned if len(asked) == len(rows) else turned.reshape(-1, TURNS * HASH)[asked]
        parts = close_pairs(hashes[left], queries.reshape(-1, HASH), Metric.HAMMING, radius)
        for query, row, away in parts:
            one, other = asked[query // TURNS], left[row]
            same = np.abs(colours[one] - colours[other]).max(axis=1, initial=0) <= SAME_COLOUR
            yield one[same], other[same], away[same]

    facts = made.facts.setdefault(Name.PERCEPTUAL, Facts(len(table)))
    _first_stays(
        rows,
        near,
        radius,
        facts,
        lambda index, twin, bits: told.repeats(
            index, Name.PERCEPTUAL, twin, f"{bits:.0f} of 256 bits differ"
        ),
    )


def _semantic(vectors: np.ndarray, made: Decisions, told: _Told, cosine: float) -> None:
    """Pictures that a CLIP sees as one before them."""
    rows = told.left()

    def near(left: np.ndarray, asked: np.ndarray, radius: float) -> Iterator[Pairs]:
        parts = close_pairs(vectors[rows[left]], vectors[rows[asked]], Metric.COSINE, radius)
        for query, row, away in parts:
            yield asked[query], left[row], away

    facts = made.facts.setdefault(Name.SEMANTIC, Facts(len(vectors)))
    _first_stays(
        rows,
        near,
        1 - cosine,
        facts,
        lambda index, twin, away: told.repeats(index, Name.SEMANTIC, twin, f"cosine {1 - away:.3f}"),
    )
    facts.values = 1 - facts.values


def _stored(table: pa.Table, name: str, rows: np.ndarray) -> Iterator[bytes]:
    """One binary column of some rows, in parts."""
    for start in range(0, len(rows), SHARD):
        yield b"".join(rows_of(table, [name], rows[start : start + SHARD])[name].to_pylist())


def _hashed(table: pa.Table, told: _Told) -> np.ndarray:
    """The positions of pictures that are not dropped and whose PDQ hash tells something."""
    left = told.left()
    return left[table["quality"].to_numpy()[left] >= LEAST_QUALITY]


def own_hashes(table: pa.Table, rows: np.ndarray) -> np.ndarray:
    """PDQ hashes, uint8 (N, 32), of pictures as they are."""
    found = np.zeros((len(rows), HASH), np.uint8)
    for start, part in zip(range(0, len(rows), SHARD), _stored(table, "pdq", rows), strict=True):
        found[start : start + SHARD] = np.frombuffer(part, np.uint8).reshape(-1, TURNS, HASH)[:, 0]
    return found


def _turned(table: pa.Table, rows: np.ndarray) -> np.ndarray:
    """PDQ hashes, uint8 (8 x N, 32): of each picture as it is, then turned and mirrored. In a file that is
    mapped and has no name: of a million pictures it has a quarter of a gigabyte.
    """
    if not len(rows):
        return np.zeros((0, HASH), np.uint8)
    with tempfile.TemporaryFile() as file:
        for part in _stored(table, "pdq", rows):
            file.write(part)
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(TURNS * len(rows), HASH))


def _colours(table: pa.Table, rows: np.ndarray) -> np.ndarray:
    """float32 (N, 2): red less green and blue less green of a picture on the whole."""
    found = np.zeros((len(rows), 2), np.float32)
    for start in range(0, len(rows), SHARD):
        part = Reduced(table, rows[start : start + SHARD])[:]
        mean = part.mean(axis=(1, 2), dtype=np.float32)  # (B, 3)
        found[start : start + SHARD] = mean[:, [0, 2]] - mean[:, [1]]
    return found


def _first_stays(
    rows: np.ndarray,
    pairs: Callable[[np.ndarray, np.ndarray, float], Iterable[Pairs]],
    radius: float,
    facts: Facts,
    drop: Callable[[int, int, float], None],
) -> None:
    """Drops what has one that stays before it within `radius`. Looks again at what was close to very many,
    because of those only some came, until nothing more is found.

    Args:
        rows: the positions of what `pairs` compares.
        pairs: of some (places in `rows`) and others that are asked for, the close ones.
        radius: from which on two are different.
        facts: gets of each the distance to the nearest before it, if that is not far beyond `radius`.
        drop: is told position, the one that stays, and their distance.
    """
    gone = np.zeros(len(rows), bool)
    beyond, beside = np.full(len(rows), np.inf, np.float32), np.full(len(rows), -1, np.int32)
    asked = np.arange(len(rows))
    while len(asked):
        close = _Close(len(rows))
        for one, other, away in pairs(np.flatnonzero(~gone), asked, BESIDE * radius):
            later, earlier = np.maximum(one, other), np.minimum(one, other)
            within = (later != earlier) & (away <= radius)
            close.add(later[within], earlier[within], away[within])
            further = (later != earlier) & (away > radius) & (away <= beyond[later])
            later, earlier, away = later[further], earlier[further], away[further]
            first = np.lexsort((-earlier, -away, later))  # of one place the nearest is written last
            beyond[later[first]], beside[later[first]] = away[first], earlier[first]
        found = 0
        for place, before, distance in close.nearest_first():
            if not gone[place] and not gone[before]:
                found += 1
                gone[place] = True
                index, twin = int(rows[place]), int(rows[before])
                facts.values[index], facts.twins[index] = distance, twin
                drop(index, twin, distance)
        if not found:
            break
        asked = close.crowded()
        asked = asked[~gone[asked]]
    known = np.flatnonzero(~gone & (beside >= 0))
    known = known[~gone[beside[known]]]
    facts.values[rows[known]], facts.twins[rows[known]] = beyond[known], rows[beside[known]]


class _Close:
    """Pairs (later, earlier) of places that are close: each once, after all were added."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, later: np.ndarray, earlier: np.ndarray, away: np.ndarray) -> None:
        """Adds pairs that may be there already."""
        if len(later):
            numbers, first = np.unique(later * np.int64(self._count) + earlier, return_index=True)
            self._parts.append((numbers, away[first].astype(np.float32)))

    def _once(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if len(self._parts) > 1:
            numbers, away = (np.concatenate(part) for part in zip(*self._parts, strict=True))
            order = np.lexsort((away, numbers))
            numbers, first = np.unique(numbers[order], return_index=True)
            self._parts = [(numbers, away[order][first])]
        if not self._parts:
            return (*np.zeros((2, 0), np.int64), np.zeros(0, np.float32))
        numbers, away = self._parts[0]
        return numbers // self._count, numbers % self._count, away

    def nearest_first(self) -> Iterator[tuple[int, int, float]]:
        """(later, earlier, distance), by later, then by distance."""
        later, earlier, away = self._once()
        order = np.lexsort((earlier, away, later))
        yield from zip(later[order].tolist(), earlier[order].tolist(), away[order].tolist(), strict=True)

    def crowded(self) -> np.ndarray:
        """The places that are close to so many others that some may not have come."""
        later, earlier, _ = self._once()
        counts = np.bincount(later, minlength=self._count) + np.bincount(earlier, minlength=self._count)
        return np.flatnonzero(counts >= MOST // 2)


def _in_evaluation(
    table: pa.Table,
    made: Decisions,
    told: _Told,
    rules: Rules,
    evaluation: Evaluation,
    embedded: Embedded | None,
) -> None:
    facts = made.facts.setdefault(Name.EVALUATION, Facts(len(table)))
    reason, bits = BY_NAME[Name.EVALUATION].reasons[0], rules[Name.EVALUATION]
    rows = _hashed(table, told)
    for parts in close_pairs(evaluation.hashes, _turned(table, rows), Metric.HAMMING, BESIDE * bits):
        for query, row, away in zip(*(part.tolist() for part in parts), strict=True):
            index = int(rows[query // TURNS])
            if not away >= facts.values[index]:
                facts.values[index] = away
                if away <= bits:
                    told.drop(index, reason, f"like {evaluation.hashed[row]}: {away:.0f} of 256 bits differ")
    if embedded is None or evaluation.vectors is None or Name.SEMANTIC not in rules:
        return
    rows = told.left()
    radius = 1 - rules[Name.SEMANTIC]
    for parts in close_pairs(evaluation.vectors, embedded.vectors[rows], Metric.COSINE, radius):
        for query, row, away in zip(*(part.tolist() for part in parts), strict=True):
            told.drop(int(rows[query]), reason, f"like {evaluation.keys[row]}: cosine {1 - away:.3f}")


def rows_of(table: pa.Table, names: list[str], indices: Sequence[int] | np.ndarray) -> pa.Table:
    """Some columns of some rows. Only those are copied: `Table.take` would first put whole columns, of all
    files, together in memory.
    """
    wanted = np.asarray(indices, np.int64)
    if not len(wanted):
        return table.select(names).slice(0, 0)
    batches = table.select(names).to_batches()
    ends = np.cumsum([batch.num_rows for batch in batches])
    which = np.searchsorted(ends, wanted, side="right")
    order = np.argsort(which, kind="stable")
    parts = []
    for own in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        batch = batches[which[own[0]]]
        parts.append(batch.take(pa.array(wanted[own] - (ends[which[own[0]]] - batch.num_rows))))
    places = np.empty(len(wanted), np.int64)
    places[order] = np.arange(len(wanted))
    return pa.Table.from_batches(parts).take(pa.array(places))


class Reduced:
    """The reduced pictures of some rows, uint8 (N, 32, 32, 3), read when they are asked for."""

    def __init__(self, table: pa.Table, rows: Sequence[int] | np.ndarray) -> None:
        self._table = table
        self._rows = np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        chosen = rows_of(self._table, ["thumb"], np.atleast_1d(self._rows[rows]))["thumb"].to_pylist()
        return np.frombuffer(b"".join(chosen), np.uint8).reshape(-1, THUMB, THUMB, 3)
