"""The content of a report: the funnel, the measures, and pictures on both sides of each rule."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from unclip.data.prepare.decide import SHARD, Decisions, Facts
from unclip.data.prepare.rules import BY_REASON, TABLE, Name, Rule, Rules
from unclip.data.records import LeftOut, load_captions
from unclip.data.splits import share

SHOWN = 12  # pictures of a rule, on each side of its threshold
SIDE = 128  # pixels
BINS = 24
LONGEST = 90  # characters of a caption that are shown
READING = "reading"  # the first step: what the sources hold and nobody can use


@dataclass(frozen=True)
class Step:
    """One step of the funnel: what is dropped and how many are left after it."""

    name: str
    says: str
    dropped: int
    left: int


@dataclass(frozen=True)
class Shown:
    """A picture of a sheet: its caption, the measure that a rule took, and the one that it repeats."""

    index: int
    caption: str
    measure: str = ""
    twin: int | None = None


@dataclass(frozen=True)
class Sheet:
    """The pictures of one rule: what it dropped, the most doubtful first, and what it just kept."""

    rule: Rule
    dropped: Sequence[Shown]
    kept: Sequence[Shown]
    changed: Sequence[tuple[str, str]]  # captions before and after


@dataclass(frozen=True)
class Histogram:
    """A measure's values: `kept` and `dropped` (B,) are counts between the `edges` (B + 1,)."""

    title: str
    edges: np.ndarray
    kept: np.ndarray
    dropped: np.ndarray
    threshold: float | None
    log: bool = False


@dataclass(frozen=True)
class Content:
    """All that a report says: see `content_of`."""

    title: str
    steps: Sequence[Step]
    sheets: Sequence[Sheet]
    histograms: Sequence[Histogram]
    languages: Counter[str]
    findings: Counter[tuple[str, bool]]
    columns: Columns
    rules: Rules


def content_of(
    title: str, table: pa.Table, made: Decisions, rules: Rules, left_out: Iterable[LeftOut]
) -> Content:
    """Gathers what a report says.

    Args:
        title: of the corpus.
        table: all pictures that were read, rows as of `draw_workers.STAGED`.
        made: what the rules decided.
        rules: those that were on.
        left_out: all that does not go into the corpus.
    """
    counts = Counter(left.reason for left in left_out)
    told = {index: left.reason for index, left in made.dropped.items()}
    columns = Columns(table)
    on = (rule for rule in TABLE if rule.name in rules)
    return Content(
        title=title,
        steps=funnel(len(table), counts, Counter(told.values()), rules),
        sheets=[sheet for rule in on if (sheet := sheet_of(rule, rules, columns, made, told))],
        histograms=histograms_of(columns, made, rules),
        languages=languages_of(table, made),
        findings=findings_of(table),
        columns=columns,
        rules=rules,
    )


def funnel(read: int, counts: Counter[str], judged: Counter[str], rules: Rules) -> list[Step]:
    """The steps from all that the sources hold to what is kept.

    Args:
        read: pictures that were read.
        counts: reasons of all that does not go into the corpus.
        judged: those among them of pictures that were read.
        rules: those that were on.
    """
    unread = counts - judged
    left = read + unread.total()
    steps = [Step(READING, "everything that the sources hold", 0, left)]
    if unread:
        left -= unread.total()
        said = ", ".join(f"{count:,} {reason}" for reason, count in unread.most_common())
        steps.append(Step("unreadable", said, unread.total(), left))
    for rule in TABLE:
        if rule.name in rules:
            dropped = sum(judged[reason] for reason in rule.reasons)
            left -= dropped
            steps.append(Step(rule.name, says(rule, rules), dropped, left))
    others = {reason: count for reason, count in judged.items() if reason not in BY_REASON}
    if others:
        left -= sum(others.values())
        steps.append(Step("splits", ", ".join(others), sum(others.values()), left))
    return steps


def says(rule: Rule, rules: Rules) -> str:
    threshold = rules.on[rule.name]
    said = rule.says.format(f"{threshold:g}" if threshold is not None else "")
    if rule.name is Name.LANGUAGE and rules.languages:
        said = said.replace(
            "with --keep-languages those in others", f"those not in {', '.join(rules.languages)}"
        )
    return said


class Columns:
    """The measures of all pictures as arrays, and single pictures and captions when they are asked for."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.width = table["width"].to_numpy()
        aspect = np.maximum(table["aspect"].to_numpy().astype(np.float64), 1e-9)
        self.known = aspect > 1e-6
        self.aspect = np.maximum(aspect, 1 / aspect)
        self.letters = table["letters"].to_numpy()
        self.vector = table["vector"].to_numpy()

    def __len__(self) -> int:
        return len(self._table)

    def key(self, index: int) -> str:
        """The name of a picture."""
        return str(self._table["key"][index].as_py())

    def caption(self, index: int) -> str:
        """The first caption of a picture."""
        captions = load_captions(self._table["captions"][index].as_py())
        text = next(iter(captions.values()))[0]
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

    def image(self, index: int) -> Image.Image | None:
        """A picture, small; None where it could not be drawn."""
        for name in ("png", "preview"):
            content = self._table[name][index].as_py()
            if content is not None:
                image = Image.open(io.BytesIO(content)).convert("RGB")
                image.thumbnail((SIDE, SIDE))
                return image
        return None


def sheet_of(
    rule: Rule, rules: Rules, columns: Columns, made: Decisions, told: Mapping[int, str]
) -> Sheet | None:
    dropped = [index for index, reason in told.items() if reason in rule.reasons]
    facts = made.facts.get(rule.name) or Facts(len(columns))
    values = _values(rule, columns, facts, told)
    threshold = rules.on[rule.name]
    away = np.full(len(values), np.inf) if threshold is None else np.abs(values - threshold)
    away[~np.isfinite(away)] = np.inf

    def seen(index: int) -> bool:
        return columns.image(index) is not None

    chosen = sorted(dropped, key=lambda index: (away[index], share("report", columns.key(index))))
    chosen = [*filter(seen, chosen[: 8 * SHOWN])][:SHOWN] or chosen[:SHOWN]
    away[[*told]] = np.inf
    nearest = np.argsort(away, kind="stable")[: 8 * SHOWN]
    beside = [index for index in nearest.tolist() if math.isfinite(away[index])]
    beside = sorted(beside, key=lambda index: (away[index], columns.key(index)))[:SHOWN]

    def shown(index: int) -> Shown:
        value = values[index]
        measure = "" if np.isnan(value) else f"{value:.4g} {rule.unit}"
        if np.isnan(value) and index in made.dropped:
            measure = made.dropped[index].detail
        twin = int(facts.twins[index])
        return Shown(index, columns.caption(index), measure, twin if twin >= 0 else None)

    changed = _changed(rule, columns)
    if not (chosen or beside or changed):
        return None
    return Sheet(rule, [*map(shown, chosen)], [*map(shown, beside)], changed)


def _values(rule: Rule, columns: Columns, facts: Facts, told: Mapping[int, str]) -> np.ndarray:
    """float64 (N,): the measure that a rule took of what came so far; NaN where it took none."""
    measured = {
        Name.SHORT: lambda: (columns.letters, columns.letters >= 0),
        Name.SIZE: lambda: (columns.width, columns.width > 0),
        Name.ASPECT: lambda: (columns.aspect, columns.known),
    }
    if rule.name not in measured:
        return facts.values.astype(np.float64)
    array, usable = measured[rule.name]()
    values = np.where(usable, array.astype(np.float64), np.nan)
    values[[index for index, reason in told.items() if reason not in rule.reasons]] = np.nan
    return values


def _changed(rule: Rule, columns: Columns) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if rule.name not in (Name.MOJIBAKE, Name.LANGUAGE, Name.SHORT, Name.BOILERPLATE):
        return found
    table = columns._table
    for start in range(0, len(table), SHARD):
        for row in table["findings"].slice(start, SHARD).to_pylist():
            found += [(one["caption"], one["after"]) for one in row or () if one["rule"] == rule.name]
        found = list(dict.fromkeys(found))
        if len(found) >= SHOWN:
            break
    return found[:SHOWN]


def findings_of(table: pa.Table) -> Counter[tuple[str, bool]]:
    """The number of captions that each rule took away or (True) changed."""
    counts = Counter[tuple[str, bool]]()
    for start in range(0, len(table), SHARD):
        for row in table["findings"].slice(start, SHARD).to_pylist():
            counts.update((one["rule"], bool(one["after"])) for one in row or ())
    return counts


def languages_of(table: pa.Table, made: Decisions) -> Counter[str]:
    """Pictures by language of what is kept; one with captions in several counts in each."""
    counts = Counter[str]()
    for start in range(0, len(table), SHARD):
        for row, captions in enumerate(table["captions"].slice(start, SHARD).to_pylist()):
            if start + row not in made.dropped:
                counts.update(load_captions(captions).keys())
    return counts


def histograms_of(columns: Columns, made: Decisions, rules: Rules) -> list[Histogram]:
    kept = np.ones(len(columns), bool)
    kept[[*made.dropped]] = False
    size, aspect, short = map(rules.get, (Name.SIZE, Name.ASPECT, Name.SHORT))
    found = [
        _histogram("Longer side, pixels", columns.width, kept, columns.width > 0, size, log=True),
        _histogram("Longer side over shorter", columns.aspect, kept, columns.known & ~columns.vector, aspect),
        _histogram(
            "Letters of the longest caption", columns.letters, kept, columns.letters > 0, short, log=True
        ),
    ]
    for name, title in (
        (Name.PERCEPTUAL, "Bits of PDQ to the nearest before it"),
        (Name.SEMANTIC, "CLIP cosine to the nearest before it"),
        (Name.SCORE, "CLIP cosine of picture and caption"),
        (Name.EVALUATION, "Bits of PDQ to the nearest evaluation picture"),
        (Name.REWEIGHT, "Weight of what is kept"),
    ):
        if name in rules and (facts := made.facts.get(name)):
            there = np.isfinite(facts.values)
            found.append(_histogram(title, facts.values, kept, there, rules[name]))
    return [one for one in found if one is not None]


def _histogram(
    title: str,
    values: np.ndarray,
    kept: np.ndarray,
    there: np.ndarray,
    threshold: float | None,
    log: bool = False,
) -> Histogram | None:
    values, kept = values[there].astype(np.float64), kept[there]
    if not len(values):
        return None
    low, high = float(values.min()), float(np.quantile(values, 0.999))
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    if high <= low:
        high = low + 1
    edges = np.geomspace(max(low, 1e-3), high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    inside, outside = (np.histogram(clipped[side], edges)[0] for side in (kept, ~kept))
    return Histogram(title, edges, inside, outside, threshold, log)


def told_findings(findings: Counter[tuple[str, bool]]) -> list[str]:
    said = {True: "changed", False: "taken away"}
    return [f"{rule} {count:,} {said[after]}" for (rule, after), count in sorted(findings.items())]


def percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"
