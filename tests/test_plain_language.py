"""The documents inside the code are in plain language, as far as a program can tell."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "unclip"
MOST_QUESTIONS = 15
QUESTIONS = ("What", "How", "Which", "Whether")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_docstrings_name_their_subject() -> None:
    """A first line such as "What is kept" leaves open what kind of thing it is: a path, a count, a tensor?"""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
            if text and text.split()[0].rstrip(",") in QUESTIONS:
                found.append(f"{path.relative_to(PACKAGE)}: {text.splitlines()[0]}")
    assert len(found) <= MOST_QUESTIONS, "\n".join(found)
