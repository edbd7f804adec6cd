"""`unclip evaluate` prints tables or one JSON document, writes a report where told, and names wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from unclip.cli import main
from unclip.data.described import Defaults
from unclip.data.prepare.run import build_folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's own pictures: captions in French, no styles, nothing held out."""
    source = tmp_path_factory.mktemp("own")
    for k in range(24):
        Image.new("RGB", (64, 64), (10 * k, 255 - 10 * k, 99)).save(source / f"{k}.png")
        (source / f"{k}.txt").write_text(f"couleur {k}")
    folder = tmp_path_factory.mktemp("corpus") / "own"
    for _ in build_folder(source, folder, defaults=Defaults(language="fr")):
        pass
    return folder


def test_json_and_a_report_for_any_captioned_folder(
    tiny_bundle: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(tiny_bundle), "--data", str(corpus), "--only", "clip,prior", "--json"]
    assert main([*arguments, "--captions", "20", "--seed", "7", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["seed"] == 7
    assert {figure["language"] for figure in found["figures"]} == {"fr"}
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == found
    assert "clip retrieval" in said.err


def test_a_table_by_default(tiny_bundle: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_bundle), "--data", str(corpus), "--only", "clip"]) == 0
    assert "| R@10 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "clips"], "unknown part 'clips'"),
        (["--captions", "1"], "--captions"),
        (["--languages", "fi"], "no picture"),
        (["--text-decoder", "x.safetensors"], "ablation"),
        (["--judge", "nobody"], "no bundle 'nobody'"),
    ],
)
def test_wrong_usage_is_one_line(
    tiny_bundle: Path, corpus: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["evaluate", str(tiny_bundle), "--data", str(corpus), "--only", "clip"]
    assert main([*usual, *arguments]) != 0
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(error) == 1
    assert said in error[0]


def test_a_corpus_is_needed(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_bundle)]) == 2
    assert "--data" in capsys.readouterr().err
