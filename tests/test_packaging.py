"""The promises that every dependency has a reason and a user, and that the package ships whole."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from site_hooks import PAGES

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"pillow": "PIL", "resvg-py": "resvg_py", "pyyaml": "yaml"}
# Imported by torch.utils.tensorboard, not by us.
THROUGH_TORCH = {"tensorboard"}


def bare_name(requirement: str) -> str:
    match = re.match(r"[\w-]+", requirement)
    assert match
    return match[0]


def imported() -> set[str]:
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", [bare_name(requirement) for requirement in PROJECT["dependencies"]])
def test_a_dependency_is_used_and_has_a_reason(name: str) -> None:
    assert f"| {name} |" in (ROOT / "docs" / "dependencies.md").read_text()
    assert name in THROUGH_TORCH or IMPORTED_AS.get(name, name) in imported()


def test_torch_is_pinned_below_the_next_untested_minor_release() -> None:
    assert "torch>=2.11,<2.14" in PROJECT["dependencies"]


def test_links_in_the_documentation_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())]
    broken = [
        f"{page.name}: {link}"
        for page, link in links
        if not link.startswith("http")
        and not (page.parent / link).exists()
        and not (page.parent == ROOT / "docs" and link in PAGES.values())  # `make site` puts them there
    ]
    assert not broken
