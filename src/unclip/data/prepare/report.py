"""The report of a preparation: how many were dropped by which rule, and pictures on both sides of it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from unclip.data.prepare.decide import Decisions
from unclip.data.prepare.report_content import content_of
from unclip.data.prepare.report_html import page
from unclip.data.prepare.report_markdown import markdown
from unclip.data.prepare.rules import Rules
from unclip.data.records import LeftOut

PAGE, MARKDOWN = "index.html", "REPORT.md"


def write(
    folder: Path, title: str, table: pa.Table, made: Decisions, rules: Rules, left_out: Iterable[LeftOut]
) -> None:
    """Writes `index.html` and `REPORT.md`, with a sheet of pictures for each rule, into a new folder.

    Arguments but for `folder`, which is made anew, as of `report_content.content_of`.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    content = content_of(title, table, made, rules, left_out)
    (folder / PAGE).write_text(page(content), encoding="utf-8")
    (folder / MARKDOWN).write_text("\n".join(markdown(folder, content)), encoding="utf-8")
