"""The promise that the examples run as they are, in an empty folder, and write the pictures they name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
BY_A_SERVER = {"serve_client.py"}  # which tools/openai_clients.py runs, in environments with OpenAI's client
WRITTEN = {
    "draw.py": ["sheet.png", "apple-3.png"],
    "stream.py": ["rocket.png", "decoder-08-0.png"],
    "edit_photo.py": ["edited-0.png", "edited-1.png"],
    "blend_film.py": ["film.webp"],
    "search.py": ["pictures/a-cat.png"],
}
SECONDS = 900


def run(words: list[str | Path], folder: Path) -> str:
    """The output of a program that ends well."""
    source = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, **source},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run_by_a_test_and_named_by_the_list_of_them() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(WRITTEN) | BY_A_SERVER
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or f"({path.name})" in listed


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_an_example_runs_in_an_empty_folder(name: str, tmp_path: Path) -> None:
    run([EXAMPLES / name], tmp_path)
    assert not [file for file in WRITTEN[name] if not (tmp_path / file).is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_a_notebook_runs_and_has_its_outputs(name: str, tmp_path: Path) -> None:
    assert '"image/png"' in (EXAMPLES / name).read_text(encoding="utf-8")
    shutil.copy(EXAMPLES / name, tmp_path)
    run(["-m", "pytest", "--nbmake", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", name], tmp_path)
