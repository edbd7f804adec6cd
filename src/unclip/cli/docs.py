"""Writes the page docs/cli.md from the command line itself: `python -m unclip.cli.docs > docs/cli.md`."""

from __future__ import annotations

import typer.main
from typer.cli import get_docs_for_click

from unclip.cli import app

HEAD = """\
<!-- Generated from the command line by `make docs`: change the help texts in src/unclip/cli instead. -->

# The command line

Results go to stdout; progress, warnings and errors to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 refused by policy, 130 interrupted.

"""


def page() -> str:
    """The whole page, Markdown."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="unclip", **command.context_settings)
    verbs = get_docs_for_click(obj=command, ctx=context, name="unclip", indent=1)
    return HEAD + "\n".join(line.rstrip() for line in verbs.strip().splitlines()) + "\n"


if __name__ == "__main__":
    print(page(), end="")
