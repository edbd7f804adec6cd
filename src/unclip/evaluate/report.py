"""An evaluation on paper: one JSON document, a table to read, sheets of pictures."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import torch

from unclip import __version__
from unclip.evaluate import names
from unclip.evaluate.evaluation import Evaluation
from unclip.evaluate.figures import Figure
from unclip.evaluate.statistics import Method
from unclip.runtime import atomic_path

DOCUMENT, TABLE = "evaluation.json", "evaluation.md"
METHODS = {
    Method.WILSON: "w: Wilson's score interval, with concepts as trials",
    Method.BOOTSTRAP: "b: percentiles of 1,000 bootstrap resamples of the concepts",
    Method.HALVES: "h: percentiles of 40 random halvings of the captions",
}


def document(evaluation: Evaluation, command: str) -> dict[str, Any]:
    """Everything that was found, as JSON values; NaN is null."""
    settings, found = evaluation.settings, evaluation.findings
    return {
        "command": command,
        "seed": settings.seed,
        "captions": settings.captions,
        "styles_in_prompts": settings.style,
        "bundle": {"name": evaluation.bundle.name, "weights": evaluation.bundle.identity},
        "judge": {
            "name": evaluation.judge.name,
            "weights": evaluation.judge.weights,
            "independent": evaluation.encoder is None
            or evaluation.judge.weights != evaluation.encoder.weights,
        },
        "device": evaluation.device.type,
        "precision": settings.precision or str(evaluation.precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "version": __version__,
        "seconds": {name: round(value, 1) for name, value in evaluation.seconds.items()},
        "confidence": 0.95,
        "intervals": dict(METHODS),
        "figures": [_row(figure) for figure in found.figures],
        "verdicts": list(found.verdicts),
        "skipped": dict(found.skipped),
    }


def table(evaluation: Evaluation, command: str) -> str:
    """The same as Markdown: a table a section."""
    settings, found = evaluation.settings, evaluation.findings
    lines = [
        f"# Evaluation of {evaluation.bundle.name}",
        "",
        f"`{command}`",
        "",
        f"Weights {evaluation.bundle.identity}, judge {evaluation.judge.name} ({evaluation.judge.weights}), "
        f"seed {settings.seed}, at most {settings.captions:,} captions of a split, "
        f"{evaluation.device.type}, unclip {__version__}.",
        "",
    ]
    for section, seconds in evaluation.seconds.items():
        lines += [f"## {section} ({seconds:.0f} s)", ""]
        if reason := found.skipped.get(section):
            lines += [f"Skipped: {reason}.", ""]
            continue
        rows = [figure for figure in found.figures if figure.section == section]
        lines += _aligned(rows)
        lines.append("")
    lines += [*found.verdicts, ""] if found.verdicts else []
    used = {figure.estimate.method for figure in found.figures}
    lines.append(
        "Intervals of 95 %. " + "; ".join(METHODS[method] for method in Method if method in used) + "."
    )
    return "\n".join(lines)


def write(evaluation: Evaluation, command: str, folder: Path) -> list[Path]:
    """The document, the table and the sheets into a folder, each file whole or not at all."""
    text = json.dumps(document(evaluation, command), indent=1, ensure_ascii=False)
    files = {DOCUMENT: f"{text}\n".encode(), TABLE: f"{table(evaluation, command)}\n".encode()}
    for name, sheet in evaluation.findings.sheets.items():
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        files[f"{name}.png"] = buffer.getvalue()
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    written = [folder / name for name in files]
    if evaluation.named:
        bundle = evaluation.bundle
        about = {"bundle": f"{bundle.name} {bundle.identity}", "command": command}
        written += names.write_form(folder / names.SECTION, evaluation.named, about)
    return written


def _row(figure: Figure) -> dict[str, Any]:
    estimate = figure.estimate
    return {
        "section": figure.section,
        "name": figure.name,
        "split": figure.split,
        "language": figure.language,
        "variant": figure.variant,
        "among": figure.among,
        "value": _number(estimate.value),
        "low": _number(estimate.low),
        "high": _number(estimate.high),
        "count": estimate.count,
        "interval": estimate.method.value,
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _aligned(figures: list[Figure]) -> list[str]:
    """A Markdown table, a column a language, whose columns line up in a terminal too."""
    languages = list(dict.fromkeys(figure.language for figure in figures))
    together: dict[tuple[str, str, str], dict[str, Figure]] = {}
    for figure in figures:
        together.setdefault((figure.name, figure.variant, figure.split), {})[figure.language] = figure
    head = ("figure", "of", "split", *(language or "value" for language in languages), "n", "among")
    rows = [head, *((*key, *_cells(row, languages)) for key, row in together.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def _cells(row: dict[str, Figure], languages: list[str]) -> tuple[str, ...]:
    values = []
    for language in languages:
        estimate = row[language].estimate if language in row else None
        values.append(
            ""
            if estimate is None
            else f"{_short(estimate.value)} ({_short(estimate.low)}..{_short(estimate.high)})"
            f"{estimate.method.value[0]}"
        )
    counts = dict.fromkeys(f"{figure.estimate.count:,}" for figure in row.values())
    among = dict.fromkeys(f"{figure.among:,}" for figure in row.values() if figure.among is not None)
    return (*values, "/".join(counts), "/".join(among))


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
