"""Promises of shell completion: it knows what there is, and answers at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unclip import cli, recipes
from unclip.catalogue import PUBLISHED
from unclip.cli import completion
from unclip.diffusion.samplers import SAMPLERS


def completed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """What bash is told of a line whose last word is begun."""
    monkeypatch.setenv("_UNCLIP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit, match="0"):
        cli.main([])
    return capsys.readouterr().out.split()


def test_models_are_those_on_disk_and_those_to_be_fetched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    own = tmp_path / "unclip" / "bundles" / "mine"
    own.mkdir(parents=True)
    (own / "bundle.json").touch()
    for verb in ("generate", "vary", "classify", "search", "bench"):
        found = completed(capsys, monkeypatch, f"unclip {verb} --model ")
        assert set(found) == {*PUBLISHED, "mine", "pictograms", "pictograms-dalle1"}
    assert completed(capsys, monkeypatch, "unclip generate --model pic") == [
        "pictograms",
        "pictograms-dalle1",
    ]
    assert completed(capsys, monkeypatch, "unclip generate --model runs/") == []  # the shell's own: folders
    assert completed(capsys, monkeypatch, "unclip pull kar") == [n for n in PUBLISHED if n.startswith("kar")]


def test_samplers_recipes_and_words_are_those_that_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(capsys, monkeypatch, "unclip generate --sampler ") == list(SAMPLERS)
    assert completed(capsys, monkeypatch, "unclip generate --prior d") == ["diffusion"]
    assert completed(capsys, monkeypatch, "unclip train ") == recipes.names()
    assert completed(capsys, monkeypatch, "unclip generate --format w") == ["webp"]
    assert {"flat", "any"} <= set(completed(capsys, monkeypatch, "unclip generate --style "))


def test_a_prompt_is_completed_with_the_styles_of_the_shipped_bundle() -> None:
    assert completion.prompts("a rocket") == []
    styles = dict(completion.prompts("a red, round rocket, "))
    assert styles["a red, round rocket, 3D style"] == "3d"
    assert [text for text, _ in completion.prompts("a rocket, Twe")] == ["a rocket, Twemoji"]


def test_an_answer_does_not_wait_for_torch() -> None:
    for line in ("unclip generate --model ", "unclip generate --sampler ", "unclip train "):
        environment = {**os.environ, "_UNCLIP_COMPLETE": "complete_bash", "COMP_WORDS": line}
        environment["COMP_CWORD"] = str(len(line.split(" ")) - 1)
        code = (
            "import sys; from unclip.cli import main\n"
            "try: main([])\n"
            "finally: assert 'torch' not in sys.modules"
        )
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout
