"""Promises of `make release`: it refuses what is not ready, and tags what is, with the changelog's words."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import release

CHANGELOG = """\
# Changes

## 0.2.0 - 2026-12-01

- A sampler.
- A fish, redrawn.

## 0.1.0 - 2026-11-30

- The first version.
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that is ready to be released."""
    folder = tmp_path / "checkout"
    (folder / "src" / "unclip").mkdir(parents=True)
    (folder / "src" / "unclip" / "__init__.py").write_text('__version__ = "0.2.0"\n')
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    (folder / "CITATION.cff").write_text("version: 0.2.0\n")
    (folder / "pyproject.toml").write_text('[project]\nurls = {Source = "https://example.org/unclip"}\n')
    (folder / ".gitignore").write_text("/dist/\n")
    release.git("init", "--quiet", folder=folder)
    release.git("config", "user.name", "a", folder=folder)
    release.git("config", "user.email", "a@example.org", folder=folder)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    release.git("add", "--all", folder=folder)
    release.git("commit", "--quiet", "--message", "x", folder=folder)


def tried(folder: Path, code: int = 0, tag: str | None = None, notes: Path | None = None) -> int:
    """The exit code of a release whose distributions are built and tested with this code."""
    return release.release(folder, tag, notes, lambda target: code, lambda target: None)


def test_what_is_ready_gets_a_tag_with_the_section_of_the_changelog(checkout: Path) -> None:
    assert tried(checkout) == 0
    said = release.git("tag", "--list", "v0.2.0", "--format=%(contents)", folder=checkout)
    assert said == "unclip 0.2.0\n\n- A sampler.\n- A fish, redrawn."


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("CHANGELOG.md", "0.2.0 - 2026-12-01", "0.2.0 - unreleased", "put the date"),
        ("CHANGELOG.md", "## 0.2.0", "## 0.3.0", "no section `## 0.2.0"),
        ("CITATION.cff", "0.2.0", "0.1.0", "CITATION.cff is not of 0.2.0"),
        ("pyproject.toml", "example.org", "github.com/OWNER", "hold 'OWNER'"),
    ],
)
def test_what_was_forgotten_is_refused_with_what_to_do(
    checkout: Path, file: str, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkout / file
    path.write_text(path.read_text().replace(old, new))
    commit(checkout)
    assert tried(checkout) == 1
    assert said in capsys.readouterr().err
    assert release.git("tag", folder=checkout) == ""


def test_what_is_not_committed_is_not_released(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "new").touch()
    assert tried(checkout) == 1
    assert "not committed" in capsys.readouterr().err


def test_a_version_is_released_once(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tried(checkout) == 0
    assert tried(checkout) == 1
    assert "raise __version__" in capsys.readouterr().err


def test_a_wheel_that_fails_its_test_is_not_tagged(checkout: Path) -> None:
    assert tried(checkout, code=1) == 1
    assert release.git("tag", folder=checkout) == ""


def test_what_twine_refuses_is_not_tagged(checkout: Path) -> None:
    def refuse(target: Path) -> None:
        raise subprocess.CalledProcessError(1, "twine")

    with pytest.raises(subprocess.CalledProcessError):
        release.release(checkout, None, None, lambda target: 0, refuse)
    assert release.git("tag", folder=checkout) == ""


def test_a_workflow_gets_the_notes_of_its_tag_and_of_no_other(checkout: Path, tmp_path: Path) -> None:
    assert tried(checkout, tag="v0.1.0") == 1
    assert tried(checkout, tag="v0.2.0", notes=tmp_path / "notes") == 0
    assert (tmp_path / "notes").read_text() == "- A sampler.\n- A fish, redrawn.\n"
    assert release.git("tag", folder=checkout) == ""  # it is there where the workflow runs


def test_the_version_of_this_checkout_has_a_section() -> None:
    day, text = release.section(
        (release.REPOSITORY / "CHANGELOG.md").read_text(), release.version_of(release.REPOSITORY)
    )
    assert day == "unreleased" or release.is_day(day)
    assert text
