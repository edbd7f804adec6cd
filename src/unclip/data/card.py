"""The data card of a corpus: counts by source, licence and split, and what was dropped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from unclip.data.records import CARD_FILE, LARGE_SIDE, LeftOut, Split
from unclip.errors import DataError


def write(title: str, manifest: pa.Table, found: Counter[str], dropped: Iterable[LeftOut]) -> str:
    """The card as Markdown; `found` is how much each source held."""
    sources, splits = manifest["source"].to_pylist(), manifest["split"].to_pylist()
    counts = Counter(zip(sources, splits, strict=True))
    licences = dict(zip(sources, manifest["licence"].to_pylist(), strict=True))
    styles: dict[str, set[str]] = {}
    for source, style in zip(sources, manifest["style"].to_pylist(), strict=True):
        styles.setdefault(source, set()).add(style)
    names = [split.value for split in Split]
    lines = [f"# {title}", "", f"{len(manifest):,} pictures.", "", "## Pictures", ""]
    lines += ["| source | styles | licence | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for source in found:
        if source in styles:
            row = [source, ", ".join(sorted(styles[source])), licences[source]]
            lines.append("| " + " | ".join(row + [f"{counts[source, name]:,}" for name in names]) + " |")
    totals = Counter(splits)
    lines.append("| all | | | " + " | ".join(f"{totals[name]:,}" for name in names) + " |")
    large = sum(manifest["large"].to_pylist())
    if large:
        lines += ["", f"{large:,} of the train split are there at {LARGE_SIDE} px too."]
    lines += ["", "## Dropped", ""]
    reasons = Counter((left.source, left.reason) for left in dropped)
    kinds = sorted({reason for _, reason in reasons})
    lines += ["| source | found | " + " | ".join(kinds) + " |", "|---" * (2 + len(kinds)) + "|"]
    for source, count in found.items():
        lines.append(
            f"| {source} | {count:,} | " + " | ".join(f"{reasons[source, kind]:,}" for kind in kinds) + " |"
        )
    lines += ["", f"Concepts: {len(set(manifest['concept'].to_pylist())):,}.", ""]
    return "\n".join(lines)


def read(folder: Path) -> str:
    """The card of a corpus.

    Raises:
        DataError: the folder has none.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise DataError(f"{folder} is no corpus: it has no {CARD_FILE}")
    return path.read_text(encoding="utf-8")
