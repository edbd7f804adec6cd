"""The promise that docs/cli.md says what the command line does."""

from __future__ import annotations

from pathlib import Path

from unclip.cli.docs import page

DOCUMENTED = Path(__file__).parent.parent.parent / "docs" / "cli.md"


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    assert DOCUMENTED.read_text(encoding="utf-8") == page(), "the command line has changed: run `make docs`"
