"""A report as HTML."""

from __future__ import annotations

import base64
import math
from html import escape

import numpy as np
from PIL import Image

from unclip.data.prepare.report_content import (
    LONGEST,
    READING,
    Columns,
    Content,
    Histogram,
    Sheet,
    Shown,
    percent,
    says,
    told_findings,
)
from unclip.data.prepare.rules import TABLE, Rules
from unclip.images import encode

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


def page(content: Content) -> str:
    """A report as one page that needs nothing beside it."""
    title, steps, sheets, rules = content.title, content.steps, content.sheets, content.rules
    whole, kept = steps[0].left, steps[-1].left
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        f"<p class='big'><b>{whole:,}</b> in, <b>{kept:,}</b> kept ({percent(kept, whole)}), "
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
    if told := told_findings(content.findings):
        parts.append(f"<p>Captions, of pictures dropped and kept: {escape('; '.join(told))}.</p>")
    if content.languages:
        said = ", ".join(
            f"{escape(language)} {count:,}" for language, count in content.languages.most_common(20)
        )
        parts.append(f"<p>Languages of what is kept: {said}.</p>")
    parts.append("<h2>What the rules measured</h2><div class='grid'>")
    parts += [_drawn(histogram) for histogram in content.histograms]
    parts.append("</div><h2>On both sides of each rule</h2>")
    parts += [_section(sheet, content.columns, rules) for sheet in sheets]
    return "\n".join(parts)


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


def _section(sheet: Sheet, columns: Columns, rules: Rules) -> str:
    rule = sheet.rule
    parts = [f"<section id='{rule.name}'><h3>{rule.name}</h3><p class='soft'>{escape(says(rule, rules))}</p>"]
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


def _figure(one: Shown, columns: Columns) -> str:
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
