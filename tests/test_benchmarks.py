"""The promise that the scripts about search still run: quickly, on little, with nothing measured."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
from PIL import Image

from styled_corpus import build_styled

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_styled(tmp_path_factory.mktemp("corpus") / "styled")


def test_indexing_and_queries_are_measured(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = importlib.import_module("clip")
    assert script.main(["--quick", "--corpus", str(corpus), "--count", "12", "--only", "index,query"]) == 0
    said = capsys.readouterr().out
    assert "files                    12" in said
    assert "embedded_unchanged       0" in said
    recall = next(line.split()[-1] for line in said.splitlines() if "recall_at_10" in line)
    assert float(recall) > 0.9


def test_the_sheet_has_a_row_a_query(
    corpus: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("search_sheet")
    sheet = tmp_path / "sheet.png"
    before = script.RESULTS.read_bytes() if script.RESULTS.is_file() else None
    command = [str(corpus), str(sheet), "--model", str(tiny_bundle), "--workers", "1", "--quick"]
    script.main([*command, "--splits", "train,unseen-styles"])
    with Image.open(sheet) as drawn:
        width, height = drawn.size
    assert width == script.ACROSS * (script.SHOWN + 8) + 8
    assert height > len(script.QUERIES) * script.SHOWN
    assert (script.RESULTS.read_bytes() if script.RESULTS.is_file() else None) == before
    said = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert (said["files"], said["embedded_again"]) == (24, 0)
    hits = sum(row["hits"] for row in said["calibration"])
    assert 12 < hits <= 12 * script.LOOKED_AT
    assert all(row["from"] <= row["said"] <= row["to"] for row in said["calibration"])
