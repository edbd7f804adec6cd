"""The promise that the documentation builds as a site, with no broken link, and fetches nothing elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FETCHED = re.compile(r'<(?:script|img|link|iframe)[^>]*\s(?:src|href)="?(?:https?:)?//')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; broken links and pages that the navigation leaves out are errors (`strict`)."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("index.html", "Start in three minutes"),
        ("ko/draw.html", "그리기"),
        ("de/edit.html", "Bearbeiten"),
        ("api.html", 'id="unclip.model.Model.generate"'),
        ("contributing.html", "Add a sampler"),
        ("model-card.html", "Licence"),
        ("changes.html", "unreleased"),
    ],
)
def test_a_page_is_there(site: Path, page: str, said: str) -> None:
    assert said in (site / page).read_text(encoding="utf-8")


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    fetching = {page.name for page in pages if FETCHED.search(page.read_text(encoding="utf-8"))}
    assert not fetching


def test_every_question_of_the_first_page_has_its_answer_behind_one_link(site: Path) -> None:
    """Where to serve with keys, add a sampler, find a paper's equation, see what the model cannot do."""
    first = (site / "index.html").read_text(encoding="utf-8")
    for target in ("serving.html#who-may-ask", "contributing.html#add-a-sampler", "architecture.html#papers"):
        assert f'href="{target}"' in first
        page, _, anchor = target.partition("#")
        assert f'id="{anchor}"' in (site / page).read_text(encoding="utf-8")
