"""Promises of probabilities: what they depend on, what not, and that the script fits their numbers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from unclip.search.background import BACKGROUND
from unclip.search.probability import FEW, SMALLEST, TEXT, Calibration, likeness, standing_out

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
SCALE = 30.0


def normalised(rows: np.ndarray) -> np.ndarray:
    """(N, E), L2-normalised."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def background(random: np.random.Generator) -> np.ndarray:
    return normalised(random.standard_normal((200, 32)))


def test_the_background_is_of_many_different_things() -> None:
    assert len(set(BACKGROUND)) == len(BACKGROUND) > 600
    assert all(text == text.strip() and text for text in BACKGROUND)


def test_a_picture_of_the_text_stands_out_and_others_do_not(
    random: np.random.Generator, background: np.ndarray
) -> None:
    text = normalised(random.standard_normal(32))
    pictures = normalised(np.stack([text + 0.1 * random.standard_normal(32), background[0], background[1]]))
    found = standing_out(pictures, text, background, SCALE)
    assert found[0] > 10 > 0 > found[1:].max()
    probability = TEXT.probability(found, 1000)
    assert probability[0] > 0.5 > 0.01 > probability[1:].max()


def test_what_says_the_same_does_not_compete_and_the_number_of_texts_does_not_count(
    random: np.random.Generator, background: np.ndarray
) -> None:
    text = normalised(random.standard_normal(32))
    pictures = normalised(text + 0.2 * random.standard_normal((20, 32)))
    alone = standing_out(pictures, text, background, SCALE)
    translation = normalised(text + 0.02 * random.standard_normal(32))
    assert standing_out(pictures, text, np.stack([*background, translation]), SCALE) == pytest.approx(alone)
    assert standing_out(pictures, text, np.concatenate([background] * 3), SCALE) == pytest.approx(alone)


def test_a_background_of_one_text_is_kept() -> None:
    text, other = np.eye(4)[:2]
    assert standing_out(text[None], text, other[None], SCALE) == pytest.approx([SCALE])


def test_likeness_is_beyond_what_all_pictures_have_in_common(random: np.random.Generator) -> None:
    common = 3 * normalised(random.standard_normal(64))
    sample = normalised(common + 0.3 * random.standard_normal((300, 64)))
    assert (sample @ sample[0]).min() > 0.2  # all are alike by the cosine alone
    found = likeness(sample[:20], sample[0], sample)
    assert found[0] > 4
    assert np.abs(found[1:]).max() < 0.5
    # of a sample of one nothing is known to be common: a picture is still like itself
    assert likeness(sample[:1], sample[0], sample[:1])[0] > 4
    assert FEW > 0


def test_what_is_asked_for_is_rarer_in_a_larger_folder() -> None:
    evidence = np.linspace(-20, 30, 11)
    small, large = (TEXT.probability(evidence, count) for count in (1000, 4000))
    assert np.all(np.diff(small) > 0)
    assert 0 < small.min() < small.max() < 1
    odds = [found / (1 - found) for found in (small, large)]
    assert odds[0] / odds[1] == pytest.approx(np.full(11, 2.0), rel=1e-3)  # the root of 4
    assert TEXT.probability(evidence, 1) == pytest.approx(TEXT.probability(evidence, SMALLEST))


def test_the_script_fits_the_numbers_that_hits_were_made_by(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("search_calibration")
    true, believed = Calibration(0.8, -4.0), Calibration(0.5, -3.0)
    parts = []
    for size in (100, 1000, 10_000):
        evidence = 6 * random.standard_normal(20_000)
        right = random.random(len(evidence)) < true.probability(evidence, size)
        parts.append(script.Hits(size, believed.probability(evidence, size), right))
    fitted = script.fit(parts, believed)
    assert fitted == pytest.approx({"slope": 0.8, "offset": -4.0, "rarer": 0.5}, abs=0.1)
    before = script.measured(parts[1])["error"]
    after = script.measured(script.refitted(parts[1], believed, fitted))
    assert after["error"] < 0.01 < before
    assert sum(row["hits"] for row in after["bins"]) == 20_000
    half = next(row for row in after["thresholds"] if row["threshold"] == 0.5)
    assert half["right"] > 0.8
    assert half["kept"] > 0.7


def test_the_script_measures_by_text_and_by_picture(
    styled: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("search_calibration")
    monkeypatch.setattr(script, "RESULTS", tmp_path / "benchmarks" / "results" / "found.json")
    monkeypatch.setattr(script, "MOST", 8)
    script.RESULTS.parent.mkdir(parents=True)
    script.main([str(styled), "--model", str(tiny_bundle), "--quick"])
    assert not script.RESULTS.exists()
    script.main([str(styled), "--model", str(tiny_bundle)])
    report = json.loads(script.RESULTS.read_text())
    for kind in ("text", "picture"):
        indexes = report[kind]["indexes"]
        assert indexes["unseen-styles"]["pictures"] == 8
        assert indexes["together"]["hits"] > 8
        assert all(0 <= row["error"] <= 1 for row in indexes.values())
        assert report[kind]["now"]["rarer"] == 0.5
    assert "of all right ones" in capsys.readouterr().out
