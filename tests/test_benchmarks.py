"""The promise that scripts of benchmarks/ still run: quickly, on little, with nothing measured."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from support.toy_fit import few_steps

SCRIPTS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)


def test_indexing_and_queries_are_measured(styled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = importlib.import_module("clip")
    assert script.main(["--quick", "--corpus", str(styled), "--count", "12", "--only", "index,query"]) == 0
    said = capsys.readouterr().out
    assert "files                    12" in said
    assert "embedded_unchanged       0" in said
    recall = next(line.split()[-1] for line in said.splitlines() if "recall_at_10" in line)
    assert float(recall) > 0.9


def test_the_sheet_has_a_row_a_query(
    styled: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("search_sheet")
    sheet = tmp_path / "sheet.png"
    before = script.RESULTS.read_bytes() if script.RESULTS.is_file() else None
    command = [str(styled), str(sheet), "--model", str(tiny_bundle), "--workers", "1", "--quick"]
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


def test_words_are_asked_for_in_each_language_and_found_or_not(
    styled: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("words")
    result = tmp_path / "words.json"
    command = [str(styled), str(tiny_bundle), "--named-in", "en", "--splits", "unseen-styles"]
    script.main([*command, "--result", str(result)])
    (row,) = json.loads(result.read_text())
    assert (row["language"], row["concepts"], row["pictures"]) == ("en", 12, 24)
    beside = next(value for key, value in row.items() if key.startswith("R@5"))
    assert 0 <= row["R@1"]["low"] <= row["R@1"]["value"] <= row["R@1"]["high"] <= 1
    assert 0 <= beside["value"] <= 1
    assert "unseen-styles" in capsys.readouterr().out


def test_a_chart_has_every_point_and_name() -> None:
    script = importlib.import_module("chart")
    series = [
        script.Series("a < b", [script.Place(1, 0.5, "first"), script.Place(2, 1.0, "second")]),
        script.Series("alone", [script.Place(1, 0.25, "third")], line=False),
    ]
    root = ElementTree.fromstring(script.chart(series, "seconds", "share", highest=1.0))
    tags = [element.tag.split("}")[1] for element in root.iter()]
    said = {element.text for element in root.iter() if element.text}
    assert (tags.count("circle"), tags.count("polyline")) == (3, 1)
    assert {"a < b", "alone", "first", "second", "third", "seconds", "share", "1.00", "2.16"} <= said


def test_the_frontier_has_what_no_quicker_one_beats() -> None:
    script = importlib.import_module("pareto")
    values = {
        "own": (2.0, 0.8),
        "quick": (1.0, 0.5),
        "worse": (1.5, 0.4),
        "slow": (3.0, 0.9),
        "as good": (4.0, 0.9),
    }
    points = [
        {"name": name, "seconds": seconds, "recall_over_real": {"value": value}}
        for name, (seconds, value) in values.items()
    ]
    assert [point["name"] for point in script.frontier(points)] == ["quick", "own", "slow"]
    assert "slow" in script.figure(points)


def test_no_setting_is_drawn_twice() -> None:
    script = importlib.import_module("pareto")
    chosen = list(script.settings())
    assert len({setting.name for setting in chosen}) == len(chosen)
    assert len({repr((setting.decoder, setting.prior)) for setting in chosen}) == len(chosen)


def test_evaluations_become_a_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = importlib.import_module("curve")
    arguments = []
    for name, pictures, value in (("early", 1000, 0.4), ("late", 5000, 0.7)):
        figure = {"name": script.RATIO, "split": "unseen-pairs", "variant": "", "value": value}
        figure |= {"low": value - 0.1, "high": value + 0.1, "count": 200, "interval": "bootstrap"}
        report = {"judge": "j", "seed": 0, "captions": 200, "styles_in_prompts": True, "bundle": name}
        (tmp_path / name).mkdir()
        (tmp_path / name / "evaluation.json").write_text(json.dumps({**report, "figures": [figure]}))
        arguments.append(f"{name}:{pictures}:{tmp_path / name}")
    monkeypatch.setattr(script, "DISTANCES", script.SHARES)
    places = ["--out", str(tmp_path / "curve.json"), "--images", str(tmp_path)]
    script.main([*arguments, *places])
    stages = json.loads((tmp_path / "curve.json").read_text())["stages"]
    assert [one["figures"][script.SHARES[0][-1]]["value"] for one in stages] == [0.4, 0.7]
    drawing = (tmp_path / "curve.svg").read_text()
    assert drawing.count("<circle") == 2
    script.main([arguments[0], *places])
    script.main(["--more", arguments[1], *places])  # one after the other
    assert json.loads((tmp_path / "curve.json").read_text())["stages"] == stages
    assert (tmp_path / "curve.svg").read_text() == drawing
    with pytest.raises(SystemExit):
        script.main(["no-numbers", *places])


def test_the_fuzz_finds_nothing_in_a_few_tries(capsys: pytest.CaptureFixture[str]) -> None:
    script = importlib.import_module("fuzz")
    assert (
        script.main(["--quick", "--pictures", "60", "--options", "12", "--commands", "1", "--seed", "7"]) == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert sum(said["ends"]["picture"].values()) == 60
    assert {"read", "refused"} <= said["ends"]["picture"].keys()


def test_what_the_fuzz_counts_as_a_finding() -> None:
    script = importlib.import_module("fuzz")
    report = script.Report()
    report.add("picture", 0, "read", 1.0, 2**20)
    for end, seconds, peak in (("ValueError: x", 0, 0), ("read", 11, 0), ("refused", 0, 2**32)):
        report.add("picture", 1, end, seconds, peak)
    assert len(report.findings) == 3
    assert report.ends["picture"] == {"read": 1, "finding": 3}


@pytest.mark.slow
def test_settings_of_training_are_tried_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    """In one of the script's: here threads run that a fork would not have."""
    out = tmp_path / "found.json"
    command = [
        sys.executable,
        str(SCRIPTS / "settings_fuzz.py"),
        "--count",
        "2",
        "--seed",
        "5",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert (found["bad"], sum(found["ends"].values())) == ([], 2)
    assert found["settings"]["refused"]


def test_the_same_seed_tries_the_same_settings() -> None:
    script = importlib.import_module("settings_fuzz")
    known = {"clip.train.batch": 8, "clip.train.schedule": "wsd", "clip.task": {}}
    first, again = (script.settings(known, 40, seed) for seed in (3, 3))
    assert first == again != script.settings(known, 40, 4)
    assert sum(one.partition("=")[0] not in known for one in first) == 4


def test_the_memory_of_a_folder_of_pictures_is_measured() -> None:
    (row,) = importlib.import_module("folder_memory").main(["--quick"])
    assert row["said"].startswith("4 in, 4 kept")
    assert 50 < row["peak_mb"] < 1000


def test_the_watermark_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = importlib.import_module("watermark")
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "a.png")
    assert script.main(["survival", "--drawn", str(tmp_path), "--quick"]) == 0
    assert "as it is: 1 of 1" in capsys.readouterr().out
    with tarfile.open(tmp_path / "train-00000.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    folders = ["--corpus", str(tmp_path), "--photographs", str(tmp_path)]
    assert script.main(["unmarked", *folders, "--quick", "--workers", "1"]) == 0
    assert "4 pictures, 0 found" in capsys.readouterr().out


def test_the_tables_of_the_watermark_are_its_results() -> None:
    script = importlib.import_module("watermark")
    results = json.loads(script.RESULTS.read_text())
    page = (SCRIPTS.parent / "docs" / "provenance.md").read_text(encoding="utf-8")
    assert script.table(results) in page
    assert f"{results['unmarked']['pictures']:,} unmarked pictures" in page
    assert results["unmarked"]["found"] == 0


def test_signatures_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = importlib.import_module("provenance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "SIZES", (64,))
        assert script.main(["--times", "1", "--out", str(tmp_path / "result.json")]) == 0
    rows = json.loads((tmp_path / "result.json").read_text())
    assert {row["format"] for row in rows} == {"png", "jpeg", "webp"}
    assert all(2000 < row["added"] < 5000 for row in rows)
    assert "a gradient, 64 px | WEBP" in capsys.readouterr().out


def test_the_table_of_signatures_is_its_results() -> None:
    script = importlib.import_module("provenance")
    page = (SCRIPTS.parent / "docs" / "provenance.md").read_text(encoding="utf-8")
    assert "\n".join(script.table(json.loads(script.RESULT.read_text()))) in page


def test_preparation_is_measured(styled: Path) -> None:
    script = importlib.import_module("prepare")
    before = script.RESULT.read_bytes() if script.RESULT.is_file() else None
    found = script.main(["--quick", "--corpus", str(styled), "--only", "copies,recall,fetch"])
    assert found["copies"]["perceptual"]["recall"].keys() == script.COPIES.keys()
    assert found["recall"]["PDQ"]["clusterings: 5"]["pairs found"] == 1
    assert found["fetch"]["unclip"]["a second"] > 0
    assert (script.RESULT.read_bytes() if script.RESULT.is_file() else None) == before


@pytest.mark.parametrize("case", ["style", "thing"])
def test_a_fit_is_measured_against_its_bundle(
    case: str, styled: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("fit")
    result = tmp_path / "fit.json"
    command = [case, str(styled), str(tiny_bundle), str(tmp_path / "work"), "--from", str(tiny_bundle)]
    command += ["--style", "hair", "--pictures", "8", "--prompts", "4", "--result", str(result)]
    with few_steps():
        assert script.main(command) == 0
    (row,) = json.loads(result.read_text())
    figure = "in_style" if case == "style" else "right_thing"
    for one in ("base", "fitted"):
        assert 0 <= row[one]["known"]["value"] <= 1
        assert row[one][figure]["low"] <= row[one][figure]["value"] <= row[one][figure]["high"]
    assert row["hours"] > 0
    assert row["learned"] == (8 if case == "style" else 12)
    capsys.readouterr()
