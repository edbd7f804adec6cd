"""The promise that the commands of README and docs run as they are written, in a fresh clone, in their order.

The word behind a block's language says why it is not run here: `network` (it fetches something), `hours` (it
trains), `serves` (it answers until it is stopped), `yours` (it needs files of one's own). The command line
has to know its commands all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from unclip.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {"README.md": ROOT / "README.md"} | {
    str(page.relative_to(DOCS)): page for page in sorted(DOCS.rglob("*.md"))
}
RUN = ("README.md", "draw.md", "editing.md", "search.md", "python.md", "ko/edit.md", "de/edit.md")
BLOCK = re.compile(r"^```(sh|python)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REASONS = ("network", "hours", "serves", "yours")
INDENTED = re.compile(r"^ {4,}(unclip|python|pip|make|model\.|import) ?", re.MULTILINE)
SECONDS = 900  # for a block


class Block(NamedTuple):
    language: str
    reason: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [
        Block(*(part or "" for part in found)) for found in BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a shell block, without what follows in a pipe."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [_first(line) for line in words if line]


def _first(words: list[str]) -> list[str]:
    """The first of several commands of a line."""
    ends = [place for place, word in enumerate(words) if word in ("|", "&&", ">", "&")]
    return words[: min(ends, default=len(words))]


COMMANDS = sorted(
    {
        shlex.join(command)
        for page in PAGES.values()
        for block in blocks(page)
        if block.language == "sh"
        for command in commands(block)
    }
)


def understood(command: Any, words: list[str], parent: Any = None) -> None:
    """Raises click's error for what the command line does not know; typer brings a click of its own."""
    with command.make_context(command.name, list(words), parent=parent) as context:
        if hasattr(command, "resolve_command"):
            _, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            understood(below, rest, context)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_docs_is_one_that_there_is(command: str) -> None:
    program, *rest = shlex.split(command)
    if program == "unclip" and not {"--help", "--version"} & {*rest}:
        understood(typer.main.get_command(app), rest)
    elif program.startswith("python") and rest[0].endswith(".py"):
        assert (ROOT / rest[0]).is_file()
    elif program == "make":
        (target,) = [word for word in rest if "=" not in word and not word.startswith("-")]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    "words", [["drow", "a cat"], ["generate", "a cat", "--sise", "64"], ["data", "photos"]]
)
def test_a_command_that_there_is_not_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match="No such|Got unexpected"):
        understood(typer.main.get_command(app), words)


@pytest.mark.parametrize("name", RUN)
def test_a_block_says_its_language_and_a_reason_that_there_is(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    assert {block.reason for block in blocks(PAGES[name])} <= {"", *REASONS}
    assert text.count("\n```") == 2 * len(blocks(PAGES[name])), "a block that no test runs"
    assert not INDENTED.search(text), "commands stand in fenced blocks"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What git has of this checkout, and an environment into which it is installed."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone")
    folder = tmp_path / "unclip"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in (("python", ""), ("unclip", "-m unclip")):
        script = f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs.parent / "installed").touch()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_every_block_of_a_page_runs_as_written_in_order(
    name: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setenv("HOME", str(clone.parent))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(clone / "src"))
    if name != "README.md":  # which says how
        monkeypatch.setenv("PATH", f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}")
    names: dict[str, Any] = {"__name__": "__main__"}
    activated = ""
    for block in blocks(PAGES[name]):
        if block.reason:
            continue
        if block.language == "python":
            exec(compile(block.text, name, "exec"), names)
            continue
        # the line that activates holds for the rest of the terminal's life
        script = activated + block.text
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        activated += "".join(re.findall(r"^source .*\n", block.text, re.MULTILINE))
