"""The report of a preparation: how many were dropped by which rule, and pictures on both sides of it."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from unclip.data.prepare.decide import SHARD, Decisions, Facts
from unclip.data.prepare.rules import BY_REASON, TABLE, Name, Rule, Rules
from unclip.data.records import LeftOut, load_captions
from unclip.data.splits import share
from unclip.images import encode
from unclip.sheets import contact_sheet

PAGE, MARKDOWN = "index.html", "REPORT.md"
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


def write(
    folder: Path, title: str, table: pa.Table, made: Decisions, rules: Rules, left_out: Iterable[LeftOut]
) -> None:
    """Writes `index.html` and `REPORT.md`, with a sheet of pictures for each rule, into a new folder.

    Args:
        folder: is made anew.
        title: of the corpus.
        table: all pictures that were read, rows as of `draw_workers.STAGED`.
        made: what the rules decided.
        rules: those that were on.
        left_out: all that does not go into the corpus.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    counts = Counter(left.reason for left in left_out)
    told = {index: left.reason for index, left in made.dropped.items()}
    steps = funnel(len(table), counts, Counter(told.values()), rules)
    columns = _Columns(table)
    sheets = [
        sheet for rule in TABLE if rule.name in rules and (sheet := _sheet(rule, rules, columns, made, told))
    ]
    histograms = _histograms(columns, made, rules)
    languages = _languages(table, made)
    findings = _findings(table)
    page = _page(title, steps, sheets, histograms, languages, findings, columns, rules)
    (folder / PAGE).write_text(page, encoding="utf-8")
    lines = _markdown(folder, title, steps, sheets, histograms, languages, findings, columns)
    (folder / MARKDOWN).write_text("\n".join(lines), encoding="utf-8")


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
            steps.append(Step(rule.name, _says(rule, rules), dropped, left))
    others = {reason: count for reason, count in judged.items() if reason not in BY_REASON}
    if others:
        left -= sum(others.values())
        steps.append(Step("splits", ", ".join(others), sum(others.values()), left))
    return steps


def _says(rule: Rule, rules: Rules) -> str:
    threshold = rules.on[rule.name]
    said = rule.says.format(f"{threshold:g}" if threshold is not None else "")
    if rule.name is Name.LANGUAGE and rules.languages:
        said = said.replace(
            "with --keep-languages those in others", f"those not in {', '.join(rules.languages)}"
        )
    return said


class _Columns:
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


def _sheet(
    rule: Rule, rules: Rules, columns: _Columns, made: Decisions, told: Mapping[int, str]
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


def _values(rule: Rule, columns: _Columns, facts: Facts, told: Mapping[int, str]) -> np.ndarray:
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


def _changed(rule: Rule, columns: _Columns) -> list[tuple[str, str]]:
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


def _findings(table: pa.Table) -> Counter[tuple[str, bool]]:
    """The number of captions that each rule took away or (True) changed."""
    counts = Counter[tuple[str, bool]]()
    for start in range(0, len(table), SHARD):
        for row in table["findings"].slice(start, SHARD).to_pylist():
            counts.update((one["rule"], bool(one["after"])) for one in row or ())
    return counts


def _languages(table: pa.Table, made: Decisions) -> Counter[str]:
    """Pictures by language of what is kept; one with captions in several counts in each."""
    counts = Counter[str]()
    for start in range(0, len(table), SHARD):
        for row, captions in enumerate(table["captions"].slice(start, SHARD).to_pylist()):
            if start + row not in made.dropped:
                counts.update(load_captions(captions).keys())
    return counts


def _histograms(columns: _Columns, made: Decisions, rules: Rules) -> list[Histogram]:
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


# --- HTML ---

STYLE = """
:root { --ink: #1b1f24; --soft: #5c6670; --line: #dfe3e8; --ground: #fff; --card: #f6f8fa;
  --kept: #2f6f9f; --gone: #d9822b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #9aa4ae; --line: #31373e; --ground: #14171a; --card: #1d2126;
    --kept: #6bb0e0; --gone: #f0a352; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 44px 0 10px; }
h3 { font-size: 16px; margin: 0; } p { margin: 4px 0 12px; } .soft { color: var(--soft); }
.big { font-size: 17px; } .big b { font-size: 21px; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
a { color: inherit; } td.n { text-align: right; padding-left: 14px; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
td.bar { width: 34%; vertical-align: middle; } tr.none { color: var(--soft); }
.track { display: flex; height: 14px; } .track i { display: block; height: 14px; }
.track i.kept, .key i.kept { background: var(--kept); border-radius: 2px 0 0 2px; }
.track i.gone, .key i.gone { background: var(--gone); min-width: 2px; border-radius: 0 2px 2px 0; }
.key i { display: inline-block; width: 11px; height: 11px; margin: 0 5px 0 14px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 18px; }
.hist { background: var(--card); border-radius: 8px; padding: 12px 14px; }
.hist svg { width: 100%; height: auto; display: block; }
.hist text { fill: var(--soft); font: 10px system-ui, sans-serif; }
section { border-top: 1px solid var(--line); padding-top: 18px; margin-top: 26px; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 12px;
  margin: 6px 0 16px; } .row.pairs { grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: 8px; overflow: hidden; }
.two { display: flex; gap: 6px; justify-content: center; align-items: center; }
.two img { max-width: calc(50% - 3px); }
figure img { display: block; margin: 0 auto; max-width: 100%; border-radius: 4px; }
figure .lost { height: 96px; display: grid; place-items: center; color: var(--soft); }
figcaption { font-size: 12px; line-height: 1.35; margin-top: 6px; overflow-wrap: anywhere; }
figcaption b { font-weight: 600; display: block; font-variant-numeric: tabular-nums; }
.side { font-weight: 600; margin: 12px 0 0; } .side.gone { color: var(--gone); }
.side.kept { color: var(--kept); } code { overflow-wrap: anywhere; }
@media (max-width: 640px) { td.bar, th:last-child { display: none; } body { padding: 20px 14px; } }
ul.changes { padding-left: 18px; margin: 6px 0; }
"""


def _page(
    title: str,
    steps: Sequence[Step],
    sheets: Sequence[Sheet],
    histograms: Sequence[Histogram],
    languages: Counter[str],
    findings: Counter[tuple[str, bool]],
    columns: _Columns,
    rules: Rules,
) -> str:
    whole, kept = steps[0].left, steps[-1].left
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p class='big'><b>{whole:,}</b> in, <b>{kept:,}</b> kept ({_percent(kept, whole)}), "
        f"<b>{whole - kept:,}</b> dropped.</p>",
        "<h2>From all to what is kept</h2>",
        "<p class='key soft'><i class='kept'></i>left after the step<i class='gone'></i>dropped by it</p>",
        "<table><thead><tr><th>rule<th>drops<th style='text-align:right'>dropped"
        "<th style='text-align:right'>left<th></tr></thead><tbody>",
    ]
    for step in steps:
        here = "" if step.dropped or step.name == READING else " class='none'"
        link = any(sheet.rule.name == step.name for sheet in sheets)
        name = f"<a href='#{step.name}'>{step.name}</a>" if link else escape(step.name)
        left, gone = (100 * count / max(whole, 1) for count in (step.left, step.dropped))
        gone_bar = f"<i class='gone' style='width:{gone:.2f}%'></i>" if step.dropped else ""
        bar = f"<span class='track'><i class='kept' style='width:{left:.2f}%'></i>{gone_bar}</span>"
        parts.append(
            f"<tr{here}><td>{name}<td>{escape(step.says)}<td class='n'>{step.dropped:,}"
            f"<td class='n'>{step.left:,}<td class='bar'>{bar}</tr>"
        )
    parts.append("</tbody></table>")
    off = [rule.name for rule in TABLE if rule.name not in rules]
    if off:
        parts.append(f"<p class='soft'>Off: {', '.join(off)}.</p>")
    if told := _told_findings(findings):
        parts.append(f"<p>Captions, of pictures dropped and kept: {escape('; '.join(told))}.</p>")
    if languages:
        said = ", ".join(f"{escape(language)} {count:,}" for language, count in languages.most_common(20))
        parts.append(f"<p>Languages of what is kept: {said}.</p>")
    parts.append("<h2>What the rules measured</h2><div class='grid'>")
    parts += [_drawn(histogram) for histogram in histograms]
    parts.append("</div><h2>On both sides of each rule</h2>")
    parts += [_section(sheet, columns, rules) for sheet in sheets]
    return "\n".join(parts)


def _told_findings(findings: Counter[tuple[str, bool]]) -> list[str]:
    said = {True: "changed", False: "taken away"}
    return [f"{rule} {count:,} {said[after]}" for (rule, after), count in sorted(findings.items())]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def _drawn(one: Histogram) -> str:
    """A histogram as SVG: kept below, dropped on top, the threshold a line."""
    width, height, below = 300, 110, 16
    most = max(1, int((one.kept + one.dropped).max()))
    step = width / len(one.kept)
    bars = []
    for place, (kept, gone) in enumerate(zip(one.kept.tolist(), one.dropped.tolist(), strict=True)):
        tall, over = height * kept / most, height * gone / most
        tall, over = (max(tall, 1.5) if kept else 0), (max(over, 1.5) if gone else 0)
        x, wide = place * step + 0.5, step - 1
        low, high = one.edges[place], one.edges[place + 1]
        bars.append(
            f"<g><title>{low:.4g} to {high:.4g}: {kept:,} kept, {gone:,} dropped</title>"
            f"<rect x='{x:.1f}' y='{height - tall:.1f}' width='{wide:.1f}' height='{tall:.1f}' "
            f"fill='var(--kept)'/><rect x='{x:.1f}' y='{height - tall - over:.1f}' width='{wide:.1f}' "
            f"height='{over:.1f}' fill='var(--gone)'/></g>"
        )
    mark = ""
    if one.threshold is not None:
        ends = np.log(one.edges[[0, -1]]) if one.log else one.edges[[0, -1]]
        place = (math.log(one.threshold) if one.log else one.threshold) - ends[0]
        x = min(width - 1.0, max(1.0, width * place / (ends[1] - ends[0])))
        mark = (
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='0' y2='{height}' stroke='var(--ink)' "
            f"stroke-dasharray='3 3'/>"
        )
    middle = one.edges[len(one.edges) // 2]
    axis = (
        f"<line x1='0' x2='{width}' y1='{height}' y2='{height}' stroke='var(--line)'/>"
        f"<text x='0' y='{height + 12}'>{one.edges[0]:.3g}</text>"
        f"<text x='{width / 2}' y='{height + 12}' text-anchor='middle'>{middle:.3g}</text>"
        f"<text x='{width}' y='{height + 12}' text-anchor='end'>{one.edges[-1]:.3g}</text>"
    )
    limit = f" <span class='soft'>threshold {one.threshold:g}</span>" if one.threshold is not None else ""
    return (
        f"<div class='hist'><h3>{escape(one.title)}</h3><p>{limit}</p>"
        f"<svg viewBox='0 -4 {width} {height + below + 4}' role='img' aria-label='{escape(one.title)}'>"
        f"{''.join(bars)}{axis}{mark}</svg></div>"
    )


def _section(sheet: Sheet, columns: _Columns, rules: Rules) -> str:
    rule = sheet.rule
    parts = [
        f"<section id='{rule.name}'><h3>{rule.name}</h3><p class='soft'>{escape(_says(rule, rules))}</p>"
    ]
    sides = (("gone", "Dropped", sheet.dropped), ("kept", "Kept, just beside the threshold", sheet.kept))
    for side, title, pictures in sides:
        if pictures:
            pairs = " pairs" if any(one.twin is not None for one in pictures) else ""
            figures = "".join(_figure(one, columns) for one in pictures)
            parts.append(f"<p class='side {side}'>{title}</p><div class='row{pairs}'>{figures}</div>")
    if sheet.changed:
        lines = "".join(
            f"<li><code>{escape(before[:LONGEST])}</code> "
            + (
                f"→ <code>{escape(after[:LONGEST])}</code>"
                if after
                else "<span class='soft'>taken away</span>"
            )
            for before, after in sheet.changed
        )
        parts.append(f"<p class='side'>Captions</p><ul class='changes'>{lines}</ul>")
    return "".join(parts) + "</section>"


def _figure(one: Shown, columns: _Columns) -> str:
    key = escape(columns.key(one.index))
    images = [_embedded(columns.image(one.index), key)]
    if one.twin is not None:
        twin = escape(columns.key(one.twin))
        images.append(_embedded(columns.image(one.twin), twin))
        key = f"{key} and {twin}"
    measure = f"<b>{escape(one.measure)}</b>" if one.measure else ""
    pair = f"<div class='two'>{''.join(images)}</div>" if len(images) > 1 else images[0]
    return (
        f"<figure>{pair}<figcaption>{measure}{escape(one.caption)}"
        f"<br><span class='soft'>{key}</span></figcaption></figure>"
    )


def _embedded(image: Image.Image | None, name: str) -> str:
    if image is None:
        return "<div class='lost'>not drawn</div>"
    content = base64.b64encode(encode(image, "jpeg", quality=80)).decode()
    return f"<img loading='lazy' alt='{name}' src='data:image/jpeg;base64,{content}'>"


# --- Markdown ---


def _markdown(
    folder: Path,
    title: str,
    steps: Sequence[Step],
    sheets: Sequence[Sheet],
    histograms: Sequence[Histogram],
    languages: Counter[str],
    findings: Counter[tuple[str, bool]],
    columns: _Columns,
) -> list[str]:
    whole, kept = steps[0].left, steps[-1].left
    lines = [f"# {_plain(title)}", ""]
    lines += [f"{whole:,} in, {kept:,} kept ({_percent(kept, whole)}), {whole - kept:,} dropped.", ""]
    lines += ["| rule | drops | dropped | left |", "|---|---|---:|---:|"]
    lines += [f"| {step.name} | {_plain(step.says)} | {step.dropped:,} | {step.left:,} |" for step in steps]
    if told := _told_findings(findings):
        lines += ["", f"Captions, of pictures dropped and kept: {'; '.join(told)}."]
    if languages:
        said = ", ".join(f"{language} {count:,}" for language, count in languages.most_common(20))
        lines += ["", f"Languages of what is kept: {said}."]
    lines += ["", "## What the rules measured", ""]
    for one in histograms:
        lines += [f"{one.title}" + (f", threshold {one.threshold:g}" if one.threshold is not None else "")]
        lines += ["", "```", *_bars(one), "```", ""]
    lines += ["## On both sides of each rule", ""]
    for sheet in sheets:
        lines += [f"### {sheet.rule.name}", ""]
        for side, pictures in (("dropped", sheet.dropped), ("kept", sheet.kept)):
            if name := _sheet_file(folder, f"{sheet.rule.name}-{side}.jpg", pictures, columns):
                beside = "Dropped" if side == "dropped" else "Kept, just beside the threshold"
                lines += [f"{beside}:", "", f"![{beside} by {sheet.rule.name}]({name})", ""]
        for before, after in sheet.changed:
            lines.append(
                f"- {_plain(before[:LONGEST])} "
                + (f"→ {_plain(after[:LONGEST])}" if after else "(taken away)")
            )
        lines.append("")
    return lines


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!" else letter for letter in text)


def _bars(one: Histogram) -> list[str]:
    """A histogram in half as many lines: `#` what is kept, `-` what is dropped."""
    most = max(1, int((one.kept + one.dropped).reshape(-1, 2).sum(axis=1).max()))
    lines = []
    for place in range(0, BINS, 2):
        kept, gone = (int(counts[place : place + 2].sum()) for counts in (one.kept, one.dropped))
        bar = "#" * math.ceil(50 * kept / most) + "-" * math.ceil(50 * gone / most)
        lines.append(f"{one.edges[place]:>9.4g}  {bar} {kept + gone:,}".rstrip())
    return lines


def _sheet_file(folder: Path, name: str, pictures: Sequence[Shown], columns: _Columns) -> str:
    images, captions = [], []
    for one in pictures:
        for index, said in ((one.index, one.measure or one.caption), (one.twin, "of")):
            if index is not None and (image := columns.image(index)) is not None:
                images.append(image)
                captions.append(said if said != "of" else columns.key(index))
    if not images:
        return ""
    sheet = contact_sheet(images, 6, captions)
    (folder / name).write_bytes(encode(sheet, "jpeg", quality=85))
    return name
