"""`unclip fit` looks, says what it will do, asks in a terminal, and does it; the documents' commands run."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from support.toy_fit import draw_captioned, few_steps
from unclip import bundle
from unclip.cli import main
from unclip.train.fit import anew, fitting
from unclip.train.fit.plan import Plan

PLAN = Plan(
    40,
    4,
    "",
    "pictograms",
    "a laptop",
    {"prior": 600, "decoder": 600},
    {"prior": 400.0, "decoder": 1500.0},
    {"prior": 50, "decoder": 50},
    240,
    0.5,
    0.9,
    200.0,
)
PAGE = Path(__file__).parents[2] / "docs" / "own-pictures.md"


class Recorder:
    """Stands where a fit does, and keeps what was done."""

    given: ClassVar[dict[str, Any]]
    did: ClassVar[list[str]]
    done = False

    def __init__(self, sources: list[Path], out: Path, **settings: Any) -> None:
        Recorder.given, Recorder.did = {"sources": sources, "out": out, **settings}, []

    def plan(self) -> Generator[tuple[str, int, int], None, Plan]:
        yield "measuring", 1, 1
        return PLAN

    def left(self, plan: Plan) -> float:
        return 600.0

    def gather(self, plan: Plan) -> Generator[tuple[str, int, int], None, None]:
        yield "drawing", 1, 1
        Recorder.did.append("gather")

    def train(self, plan: Plan) -> None:
        Recorder.did.append("train")

    def finish(self, plan: Plan) -> Generator[tuple[str, int, int], None, None]:
        yield "writing", 1, 1
        Recorder.did.append("finish")


@pytest.fixture
def _recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "Fit", Recorder)


@pytest.mark.usefixtures("_recorded")
def test_the_plan_alone_is_a_result_and_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "drawings", "--plan", "--hours", "0.5", "--from", "mine"]) == 0
    assert capsys.readouterr().out.startswith(
        "40 pictures: decoder and prior fine-tuned, CLIP kept, 35 minutes\n"
    )
    assert Recorder.did == []
    assert (Recorder.given["base"], Recorder.given["hours"]) == ("mine", 0.5)
    assert Recorder.given["out"] == Path("drawings-fit")


@pytest.mark.usefixtures("_recorded")
def test_its_folder_is_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "a", "b", "-o", "mine", "--language", "de", "--style", "ink"]) == 0
    out, err = capsys.readouterr()
    assert out == "mine\n"
    assert err.startswith("measuring")
    assert "unclip generate" in err
    assert Recorder.did == ["gather", "train", "finish"]
    assert Recorder.given["sources"] == [Path("a"), Path("b")]
    assert (Recorder.given["defaults"].language, Recorder.given["defaults"].style) == ("de", "ink")
    assert Recorder.given["command"] == "unclip fit a b -o mine --language de --style ink"


@pytest.mark.usefixtures("_recorded")
def test_in_a_terminal_it_asks_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def confirm(text: str, **_: Any) -> None:
        asked.append(text)
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.confirm", confirm)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert main(["fit", "drawings"]) == 130
    assert (asked, Recorder.did) == (["Go ahead?"], [])
    assert main(["fit", "drawings", "--yes"]) == 0
    assert (asked, Recorder.did) == (["Go ahead?"], ["gather", "train", "finish"])
    capsys.readouterr()


def test_to_begin_with_nothing_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_captioned(tmp_path / "drawings")
    assert main(["fit", "drawings", "--from", "none"]) == 2
    told = capsys.readouterr().err
    assert "--from none cannot work with 12 pictures" in told
    assert "unclip fit drawings" in told
    monkeypatch.setattr(anew, "LEAST_ANEW", 12)
    assert main(["fit", "drawings", "--from", "none"]) == 2
    assert (
        "unclip train pictograms --data drawings-fit/pictures --out drawings-fit/run"
        in capsys.readouterr().err
    )


def documented() -> list[list[str]]:
    """The commands of the chapter on fitting, in order."""
    chapter = PAGE.read_text(encoding="utf-8").partition("\n## A model of your own\n")[2]
    blocks = chapter.split("```")[1::2]
    lines = [line for block in blocks if block.startswith("sh") for line in block.splitlines()[1:]]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("unclip ")]


def test_the_documents_commands_take_a_folder_to_pictures(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = tmp_path / "shipped"
    shutil.copytree(tiny_bundle, shipped / "pictograms")
    manifest = json.loads((shipped / "pictograms" / "bundle.json").read_text())
    (shipped / "pictograms" / "bundle.json").write_text(json.dumps({**manifest, "name": "pictograms"}))
    monkeypatch.setattr(bundle, "SHIPPED", shipped)
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    draw_captioned(here / "holiday-drawings")
    commands = documented()
    assert [words[1] for words in commands[:2]] == ["fit", "generate"]  # two are enough
    with few_steps():
        for _, *words in commands:
            assert main(words) == 0, words
    assert list(here.glob("*.png"))
    assert (here / "holiday-drawings-fit" / "report" / "index.html").is_file()
    capsys.readouterr()
