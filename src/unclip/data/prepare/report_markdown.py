"""A report as Markdown, with sheets of pictures beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from unclip.data.prepare.report_content import (
    BINS,
    LONGEST,
    Columns,
    Content,
    Histogram,
    Shown,
    percent,
    told_findings,
)
from unclip.images import encode
from unclip.sheets import contact_sheet


def markdown(folder: Path, content: Content) -> list[str]:
    """A report as lines of Markdown; its sheets of pictures are written into `folder`."""
    steps, columns = content.steps, content.columns
    whole, kept = steps[0].left, steps[-1].left
    lines = [f"# {_plain(content.title)}", ""]
    lines += [f"{whole:,} in, {kept:,} kept ({percent(kept, whole)}), {whole - kept:,} dropped.", ""]
    lines += ["| rule | drops | dropped | left |", "|---|---|---:|---:|"]
    lines += [f"| {step.name} | {_plain(step.says)} | {step.dropped:,} | {step.left:,} |" for step in steps]
    if told := told_findings(content.findings):
        lines += ["", f"Captions, of pictures dropped and kept: {'; '.join(told)}."]
    if content.languages:
        said = ", ".join(f"{language} {count:,}" for language, count in content.languages.most_common(20))
        lines += ["", f"Languages of what is kept: {said}."]
    lines += ["", "## What the rules measured", ""]
    for one in content.histograms:
        lines += [f"{one.title}" + (f", threshold {one.threshold:g}" if one.threshold is not None else "")]
        lines += ["", "```", *_bars(one), "```", ""]
    lines += ["## On both sides of each rule", ""]
    for sheet in content.sheets:
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


def _sheet_file(folder: Path, name: str, pictures: Sequence[Shown], columns: Columns) -> str:
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
