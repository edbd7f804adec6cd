"""Promises of the verbs that measure CLIP on labelled pictures: figures with intervals, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from unclip.cli.default_verb import DefaultVerb
from unclip.cli.zero_shot import register
from unclip.errors import InputError

app = typer.Typer(cls=DefaultVerb.of("bundle"))
register(app)


@app.command("bundle")
def evaluate(name: str, data: str = "") -> None:
    typer.echo(f"{name} {data}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(5):
        for colour in ("red", "blue"):
            path = tmp_path / "data" / f"{colour} apple" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8 + number, 8), colour).save(path)
    return tmp_path / "data"


def test_zero_shot_says_accuracy_with_its_interval(tiny_bundle: Path, data: Path) -> None:
    command = ["zero-shot", "--data", str(data), "--model", str(tiny_bundle), "--templates", "plain"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    assert "top 1" in said.output
    assert "10 pictures" in said.output
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert document["model"]["name"] == "tiny"
    assert document["top1"]["count"] == 10
    assert set(document["classes"]) == {"red apple", "blue apple"}
    with pytest.raises(InputError, match="imagenet-r has 200 classes"):
        CliRunner().invoke(app, [*command, "--layout", "imagenet-r"], catch_exceptions=False)


def test_several_data_sets_make_one_table(tiny_bundle: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    shutil.rmtree(other / "blue apple")
    names = [tmp_path / f"{colour}.txt" for colour in ("red", "blue")]
    for path in names:
        path.write_text(f"{path.stem} apple\t{path.stem} apples\n")
    command = ["zero-shot", "--model", str(tiny_bundle), "--templates", "plain"]
    command += [word for path in (data, other) for word in ("--data", str(path))]
    command += [word for path in names for word in ("--names", str(path))]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    rows = [line for line in said.stdout.splitlines() if line.startswith(f"| {tmp_path}")]
    assert [row.split(" | ")[0] for row in rows] == [f"| {data}", f"| {other}"]
    assert [row.rsplit(" | ", 1)[1] for row in rows] == ["2 |", "1 |"]
    document = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [found["top1"]["count"] for found in document["data"].values()] == [10, 5]
    assert set(document["data"][str(data)]["classes"]) == {"red apples", "blue apples"}
    with pytest.raises(InputError, match="1 --layout for 2 --data"):
        CliRunner().invoke(app, [*command, "--layout", "imagenet"], catch_exceptions=False)


def test_a_linear_probe_says_accuracy_and_penalty(tiny_bundle: Path, data: Path) -> None:
    command = ["linear-probe", "--data", str(data), "--test", str(data), "--model", str(tiny_bundle)]
    said = CliRunner().invoke(app, [*command, "--json"])
    assert said.exit_code == 0, said.output
    document = json.loads(said.stdout)
    assert (document["trained"], document["tested"]) == (10, 10)
    assert str(document["penalty"]) in document["validation"]


@pytest.mark.parametrize(
    "arguments", [["tiny", "--data", "x"], ["--data", "x", "tiny"], ["bundle", "tiny", "--data", "x"]]
)
def test_a_group_may_have_a_verb_that_need_not_be_named(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).output == "tiny x\n"


def test_help_of_such_a_group_lists_all_its_verbs() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    assert all(verb in said for verb in ("bundle", "zero-shot", "linear-probe"))
