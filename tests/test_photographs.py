"""Promises of photographs: a CLIP that knows pictograms says so when given them, and is quiet otherwise."""

from __future__ import annotations

import importlib
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from unclip import cli
from unclip.bundle import Bundle
from unclip.catalogue import KNOWS_PHOTOGRAPHS, PUBLISHED, Ability
from unclip.embedding import ClipEmbedder
from unclip.errors import BundleError, UnclipWarning
from unclip.manifest import Photographic
from unclip.photographs import Watch

PHOTOGRAPHS = Path(__file__).parent / "fixtures" / "photographs"
FETCH = f"unclip pull {KNOWS_PHOTOGRAPHS}"


class Clip:
    name = "mine"
    photographic: Photographic | None = Photographic((0.6, 0.8), 0.5)


@pytest.fixture(scope="module")
def clip() -> ClipEmbedder:
    return ClipEmbedder.load(device="cpu")


@pytest.fixture
def pictograms(tmp_path: Path) -> Path:
    folder = tmp_path / "pictograms"
    folder.mkdir()
    for name, box in [("a", (20, 20, 100, 100)), ("b", (50, 10, 70, 110)), ("c", (5, 40, 115, 80))]:
        image = Image.new("RGB", (120, 120), "white")
        ImageDraw.Draw(image).ellipse(box, fill="red", outline="black", width=3)
        image.save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(
    ("photographs", "all_", "told"), [(1, 1, True), (1, 5, False), (2, 5, True), (0, 3, False)]
)
def test_a_warning_comes_where_more_than_a_fifth_are_photographs(
    photographs: int, all_: int, told: bool
) -> None:
    watch = Watch(Clip())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        watch.see(torch.tensor([[1.0, 0.0]] * photographs))
        watch.see(np.array([[0.0, -1.0]] * (all_ - photographs), np.float32))
        watch.tell()
        watch.tell()  # nothing new was seen
    assert len(said) == told
    if told:
        assert f"{photographs} of {all_} pictures look like photographs, and the CLIP of mine" in str(
            said[0].message
        )


def test_a_clip_that_knows_photographs_says_nothing() -> None:
    knowing = Clip()
    knowing.photographic = None
    watch = Watch(knowing)
    watch.see(torch.tensor([[1.0, 0.0]]))
    watch.tell()


def test_the_clip_that_is_named_can_be_fetched_and_compares() -> None:
    assert Ability.COMPARE in PUBLISHED[KNOWS_PHOTOGRAPHS].abilities


def test_the_shipped_clip_notices_photographs_in_python(clip: ClipEmbedder, pictograms: Path) -> None:
    with pytest.warns(UnclipWarning, match=f"look like photographs, and the CLIP of pictograms .*{FETCH}"):
        clip.classify(sorted(PHOTOGRAPHS.glob("*.jpg")), ["a cat", "a rocket"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.classify(sorted(pictograms.iterdir()), ["a cat", "a rocket"])


def test_classify_index_and_search_say_so_once(
    pictograms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(PHOTOGRAPHS, folder)
    index = ("index", "--workers", "1")
    for arguments in (
        ("classify", "{}", "--labels", "cat,rocket"),
        (*index, "{}"),
        ("search", "a cat", "--index", "{}"),
    ):
        assert cli.main([argument.format(folder) for argument in arguments]) == 0
        assert capsys.readouterr().err.count(FETCH) == 1, arguments
        assert cli.main([argument.format(pictograms) for argument in arguments]) == 0
        assert FETCH not in capsys.readouterr().err, arguments
    assert cli.main(["search", str(folder / "coffee.jpg"), "--index", str(pictograms)]) == 0
    assert capsys.readouterr().err.count(FETCH) == 1


def test_a_bundle_keeps_the_direction_and_refuses_one_of_another_length(tmp_path: Path) -> None:
    shipped = Bundle.load()
    test = shipped.component("clip").photographic
    assert test is not None
    assert shipped.part("clip").photographic == test
    assert abs(np.linalg.norm(test.direction) - 1) < 1e-3
    copy = tmp_path / "copy"
    shutil.copytree(shipped.folder, copy)
    text = (copy / "bundle.json").read_text()
    (copy / "bundle.json").write_text(text.replace('"direction": [', '"direction": [ 0.5,'))
    with pytest.raises(BundleError, match="photographic: 257 numbers, the embedding has 256"):
        Bundle.load(copy)


def test_the_direction_tells_two_kinds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    script = importlib.import_module("photographs")
    rng = np.random.default_rng(0)
    ones, others = rng.normal(0, [1, 9, 1], (200, 3)), rng.normal([0, 0, 4], [1, 9, 1], (40, 3))
    found = script.direction(ones, others)
    assert abs(found[2]) > 0.98
    assert (others @ found > np.quantile(ones @ found, 0.99)).mean() > 0.9
    sides = {kind: shape.size for kind, shape in script.shapes(Image.new("RGB", (200, 100)))}
    assert (sides["whole"], sides["square"], sides["portrait"]) == ((200, 100), (100, 100), (70, 100))
