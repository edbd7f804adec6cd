"""Promises of forms: blank and shuffled, read strictly, counted with intervals and agreement."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unclip
from unclip.cli import main
from unclip.errors import InputError
from unclip.evaluate import forms, names
from unclip.evaluate.names import COMPOSED, Name, frozen, write_form
from unclip.evaluate.prefer import prefer
from unclip.model import Model

PROMPTS = ("cat", "two dogs", "a red box")


def filled(folder: Path, name: str, rows: dict[int, tuple[str, ...]]) -> Path:
    """The blank form with some rows filled in."""
    with (folder / forms.FORM).open(newline="") as file:
        head, *blank = list(csv.reader(file))
    for row in blank:
        answer = rows.get(int(row[0]), ())
        row[1 : 1 + len(answer)] = answer
    path = folder / name
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *blank])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    items = [{"prompt": prompt, "group": "en" if k else "ko"} for k, prompt in enumerate(PROMPTS)]
    written = forms.write(tmp_path / "out", forms.NAMES, pictures, items, {"bundle": "tiny"})
    assert {path.name for path in written} == {"sheet-1.png", "form.csv", "key.json"}
    return tmp_path / "out"


def test_the_words_are_frozen() -> None:
    found, seed = frozen()
    groups = [name.group for name in found]
    assert seed == 1
    assert {group: groups.count(group) for group in groups} == {
        "en": 80,
        COMPOSED: 20,
        **dict.fromkeys(("ko", "de", "fr", "es", "ja"), 20),
    }
    english = [name.prompt for name in found if name.group == "en"]
    assert len(set(english)) == 80
    assert all(name.english in english for name in found if name.group != COMPOSED)


def test_the_form_is_blank_and_the_sheet_says_nothing(folder: Path) -> None:
    text = (folder / "form.csv").read_text()
    assert text == "number,name,right\n1,,\n2,,\n3,,\n"
    with pytest.raises(InputError, match="is blank: fill it in"):
        forms.score([folder / "form.csv"])


def test_names_are_compared_by_their_words_and_a_decision_beats_them(folder: Path) -> None:
    first = filled(folder, "a.csv", {1: ("a cat",), 2: ("dogs, two",), 3: ("crate", "yes")})
    found = forms.score([first])
    assert found.shares["all"].value == 1
    assert found.agreement is None
    assert [number for number, *_ in found.undecided] == [1, 2]
    second = filled(folder, "b.csv", {1: ("cat", "no"), 2: ("dog",), 3: ("",)})
    both = forms.score([first, second])
    assert both.readers["2: b.csv"].value == 0
    assert both.shares["all"].value == 0.5
    assert both.shares["ko"].count == 1
    assert both.agreement is not None
    assert both.agreement[0] == 0
    same = forms.score([first, first])
    assert same.agreement == (1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number,name,right\n9,cat,\n", "number '9', expected 1 to 3"),
        ("number,better\n1,left\n", "no column 'name'"),
        ("number,name,right\n1,cat,perhaps\n", "right is 'perhaps', expected yes, no or nothing"),
    ],
)
def test_a_form_that_means_nothing_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "wrong.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        forms.score([folder / "wrong.csv"])


def test_a_missing_key_is_named(folder: Path, tmp_path: Path) -> None:
    form = filled(folder, "a.csv", {1: ("cat",)})
    moved = tmp_path / "moved.csv"
    moved.write_text(form.read_text())
    with pytest.raises(InputError, match=r"key.json is missing: name the form's key by --key"):
        forms.score([moved])
    assert forms.score([moved], folder / "key.json").shares["all"].value == pytest.approx(1 / 3)


def test_the_names_are_shuffled_and_the_key_knows_them(tmp_path: Path) -> None:
    drawn = [(Name(f"word {k}", "en", f"word {k}"), np.full((8, 8, 3), k, np.uint8)) for k in range(70)]
    written = write_form(tmp_path, drawn, {})
    assert [path.name for path in written if path.suffix == ".png"] == ["sheet-1.png", "sheet-2.png"]
    prompts = [item["prompt"] for item in json.loads((tmp_path / "key.json").read_text())["items"]]
    assert sorted(prompts) == sorted(name.prompt for name, _ in drawn)
    assert prompts != [name.prompt for name, _ in drawn]


def test_a_bundle_is_preferred_where_its_side_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    model: Model = unclip.load(tiny_bundle)
    work = prefer(model, model, tmp_path / "pairs", ["a red apple"] * 8, seed=3)
    while True:
        try:
            next(work)
        except StopIteration:
            break
    items = json.loads((tmp_path / "pairs" / "key.json").read_text())["items"]
    assert sorted(item["left"] for item in items) == ["a"] * 4 + ["b"] * 4
    sides = {k: ("left" if item["left"] == "a" else "right",) for k, item in enumerate(items, 1)}
    assert forms.score([filled(tmp_path / "pairs", "a.csv", sides)]).shares["all"].value == 1
    sides[1], sides[2] = ("equal",), ("",)
    assert forms.score([filled(tmp_path / "pairs", "b.csv", sides)]).shares["all"].value == 7 / 8
    sides[1] = ("up",)
    with pytest.raises(InputError, match="better is 'up', expected left, right or equal"):
        forms.score([filled(tmp_path / "pairs", "c.csv", sides)])


def test_the_command_line_counts_and_pairs(
    folder: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    form = str(filled(folder, "a.csv", {1: ("cat",), 2: ("cow",)}))
    assert main(["evaluate", "score", form, form]) == 0
    said = capsys.readouterr().out
    assert "| all | 0.33 (0.06-0.79) | 3 |" in said
    assert "Cohen's kappa 1.00" in said
    assert "2: 'two dogs', named 'cow' / 'cow'" in said
    assert main(["evaluate", "score", form, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shares"]["all"]["value"] == pytest.approx(1 / 3)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red apple\n")
    pairs = ["evaluate", "prefer", str(tiny_bundle), str(tiny_bundle), "--out", str(tmp_path / "pairs")]
    assert main([*pairs, "--from-file", str(prompts)]) == 0
    assert "form.csv" in capsys.readouterr().out
    assert names.SHOWN_SIZE == 256
