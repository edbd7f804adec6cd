"""Promises of `unclip caption-complete`: captions begin as they are told to, and a seed writes them again."""

from __future__ import annotations

import json

import pytest

from unclip import cli


def test_captions_are_written_on_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["caption-complete", "a red", "--n", "3", "--seed", "1", "--dtype", "float32"]
    assert cli.main(command) == 0
    written = capsys.readouterr()
    lines = written.out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("a red") for line in lines)
    assert written.err == ""
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"seed": 1, "captions": lines}


def test_a_random_seed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["caption-complete", "a red"]) == 0
    assert capsys.readouterr().err.startswith("seed ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", "0"], "n is 0: choose from 1 to 100"),
        (["--temperature", "0"], "temperature is 0"),
        (["--model", "pictograms"], "does not write texts: choose a bundle of the family dalle1"),
    ],
)
def test_what_cannot_be_written_is_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["caption-complete", "a red", *options]) == 2
    assert message in capsys.readouterr().err
