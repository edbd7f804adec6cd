"""Makes a release: `tools/release.py [--tag TAG] [--notes FILE]`, a step of docs/releasing.md.

Checks that version, changelog, citation and addresses are those of a release and that nothing is uncommitted,
builds the source distribution and the wheel into dist/, uses the wheel in an empty environment, has twine
read both, and puts the tag, with the changelog's section as its message. Nothing is uploaded or pushed.

With --tag, which a workflow gives, the tag is there and has to be the right one. `make release` calls it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import wheel_test
from environments import REPOSITORY, environment

TWINE = "twine==7.*"
PLACEHOLDER = "OWNER"  # of the addresses in pyproject.toml, until the repository has one
HEADING = re.compile(r"^## (\S+) - (.+)$", re.MULTILINE)


def git(*arguments: str, folder: Path = REPOSITORY) -> str:
    """The output of a git command."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def version_of(folder: Path) -> str:
    """The version of the package."""
    found = re.search(
        r'^__version__ = "(.+)"$', (folder / "src/unclip/__init__.py").read_text(), re.MULTILINE
    )
    assert found is not None
    return found[1]


def section(changelog: str, version: str) -> tuple[str, str]:
    """The date and the text that a changelog has of a version; both are empty where there is none."""
    headings = list(HEADING.finditer(changelog))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading[1] == version:
            end = len(changelog) if following is None else following.start()
            return heading[2], changelog[heading.end() : end].strip()
    return "", ""


def faults(folder: Path, tag: str | None) -> list[str]:
    """The reasons why a checkout cannot be released, each with its remedy."""
    version = version_of(folder)
    found = []
    day, text = section((folder / "CHANGELOG.md").read_text(), version)
    if not text:
        found.append(f"CHANGELOG.md has no section `## {version} - DATE`: write it")
    elif not is_day(day):
        found.append(f"CHANGELOG.md says {version} is of {day!r}: put the date, as {date.today()}")
    cited = re.search(r"^version: (.+)$", (folder / "CITATION.cff").read_text(), re.MULTILINE)
    if cited is None or cited[1] != version:
        found.append(f"CITATION.cff is not of {version}: change its `version`")
    urls = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["urls"]
    if any(PLACEHOLDER in url for url in urls.values()):
        found.append(f"the addresses in pyproject.toml hold {PLACEHOLDER!r}: put who has the repository")
    if git("status", "--porcelain", folder=folder):
        found.append("there are changes that are not committed: commit or stash them")
    if tag is not None and tag != f"v{version}":
        found.append(f"the tag is {tag}, the version {version}: tag it v{version}")
    if tag is None and git("tag", "--list", f"v{version}", folder=folder):
        found.append(f"v{version} has been released: raise __version__ in src/unclip/__init__.py")
    return found


def is_day(text: str) -> bool:
    """Is this a date like 2026-11-30?"""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def release(
    folder: Path,
    tag: str | None,
    notes: Path | None,
    build: Callable[[Path], int],
    look: Callable[[Path], None],
) -> int:
    """Checks, builds and tags; returns the exit code.

    Args:
        folder: the checkout.
        tag: the tag that is there; None puts one.
        notes: a file that the changelog's section is written to.
        build: puts wheel and source distribution into a folder, and tests them.
        look: has somebody look at what is there.
    """
    found = faults(folder, tag)
    for fault in found:
        print(f"not released: {fault}", file=sys.stderr)
    if found:
        return 1
    version = version_of(folder)
    _, text = section((folder / "CHANGELOG.md").read_text(), version)
    if code := build(folder / "dist"):
        return code
    look(folder / "dist")
    if notes is not None:
        notes.write_text(f"{text}\n")
    if tag is None:
        git(
            "tag",
            "--annotate",
            f"v{version}",
            "--cleanup=verbatim",
            "--message",
            f"unclip {version}\n\n{text}",
            folder=folder,
        )
        print(f"tagged v{version}; dist/ has what to upload. To publish: git push origin v{version}")
    return 0


def twine(folder: Path) -> None:
    """Has twine read the metadata of what is in a folder. Raises CalledProcessError where it finds fault."""
    python = environment(REPOSITORY / "build" / "twine", TWINE)
    subprocess.run([python, "-m", "twine", "check", "--strict", *sorted(folder.iterdir())], check=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", help="the tag that is there already")
    parser.add_argument("--notes", type=Path, help="a file for the changelog's section")
    given = parser.parse_args(arguments)
    return release(REPOSITORY, given.tag, given.notes, lambda target: wheel_test.main([str(target)]), twine)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
