"""Promises of zero-shot classification: templates, ensembles, probabilities that compare the labels given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.colour_clip import PRIMARIES, MeanColours
from unclip.classify import (
    TEMPLATES,
    Classifier,
    check_labels,
    classify_files,
    find_templates,
    picture_files,
)
from unclip.embedding import ClipEmbedder
from unclip.errors import InputError
from unclip.manifest import Preprocessing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in PRIMARIES.items():
        Image.new("RGB", (9, 5), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    Image.new("RGB", (9, 5)).save(tmp_path / ".hidden" / "x.png")
    return tmp_path


def test_the_sets_are_those_of_the_paper() -> None:
    assert len(TEMPLATES["imagenet"]) == len(set(TEMPLATES["imagenet"])) == 80
    assert set(TEMPLATES["best7"]) < set(TEMPLATES["imagenet"])
    assert len(TEMPLATES["best7"]) == 7
    for templates in TEMPLATES.values():
        assert find_templates(templates) == templates


def test_the_likeliest_label_comes_first_and_probabilities_are_a_softmax() -> None:
    classifier = Classifier.of(MeanColours(), ["blue", " red "])
    (found,) = classifier.classify([Image.new("RGB", (8, 8), PRIMARIES["red"])])
    assert list(found) == ["red", "blue"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["blue"] == pytest.approx(1 / (1 + np.exp(10)), rel=0.2)


def test_an_ensemble_is_the_normalised_mean_and_its_texts_are_embedded_once() -> None:
    encoder = MeanColours()
    classifier = Classifier.of(encoder, ["red", "green"], ("a {}.", "a red {}."))
    assert encoder.texts == ["a red.", "a red red.", "a green.", "a red green."]
    one, other = encoder.embed_texts(["green", "red green"])
    expected = (one + other) / (one + other).norm()
    torch.testing.assert_close(classifier.weights[1], expected)
    count = len(encoder.texts)
    for _ in range(2):
        classifier.classify([Image.new("RGB", (8, 8))])
    assert len(encoder.texts) == count


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], "plain", "an empty label"),
        (["a", " "], "plain", "an empty label"),
        (["a", "b", "a "], "plain", "the label 'a' is given 2 times"),
        (["a"], "all", "unknown templates 'all': choose plain, photo, imagenet, best7, pictograms"),
        (["a"], ["a photo"], "template 'a photo': it must hold {} once"),
        (["a"], ["{} and {}"], "it must hold {} once"),
        (["a"], [], "no templates"),
    ],
)
def test_what_is_wrong_is_said(labels: list[str], templates: str | list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Classifier.of(MeanColours(), labels, templates)
    assert message in str(caught.value)


def test_a_label_may_hold_braces_and_any_script() -> None:
    assert check_labels(["{}", "사과", "Äpfel"]) == ("{}", "사과", "Äpfel")
    encoder = MeanColours()
    Classifier.of(encoder, ["{0}"], ["a {}!"])
    assert encoder.texts == ["a {0}!"]


def test_folders_are_searched_for_pictures_and_hidden_ones_left_out(folder: Path) -> None:
    assert [path.name for path in picture_files([folder])] == ["blue.png", "green.png", "red.png"]
    assert picture_files([folder / "notes.txt"]) == [folder / "notes.txt"]
    with pytest.raises(InputError, match="no such file: .*gone.png"):
        picture_files([folder / "gone.png"])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in .*empty"):
        picture_files([folder / "empty"])


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_files_come_in_order_in_any_batch_and_broken_ones_with_their_reason(folder: Path, batch: int) -> None:
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:40])
    classifier = Classifier.of(MeanColours(), list(PRIMARIES))
    paths = picture_files([folder])
    results = list(classify_files(classifier, paths, batch=batch))
    assert [result.path for result in results] == paths
    assert [next(iter(result.probabilities), "") for result in results] == ["blue", "", "green", "red"]
    assert "broken" in (results[1].reason or "")
    with pytest.raises(InputError, match=r"broken.png"):
        list(classify_files(classifier, paths, explicit={folder / "broken.png"}, batch=batch))


def test_a_bundle_classifies(tiny_bundle: Path, folder: Path) -> None:
    clip = ClipEmbedder.load(tiny_bundle, device="cpu", precision="float32")
    (found,) = clip.classify(Image.open(folder / "red.png"), ["red", "green"], "best7")
    assert set(found) == {"red", "green"}
    cosines = clip.similarity([folder / "red.png"], ["red", "green"])[0]
    (plain,) = clip.classify([folder / "red.png"], ["red", "green"])
    expected = (clip.scale * cosines).softmax(-1)
    assert plain["red"] == pytest.approx(float(expected[0]), abs=1e-6)


def test_the_identity_of_a_clip_is_that_of_its_files_and_preprocessing(tiny_bundle: Path) -> None:
    first = ClipEmbedder.load(tiny_bundle, device="cpu")
    assert first.identity == ClipEmbedder.load(tiny_bundle, device="cpu", precision="float32").identity
    assert len(first.identity) == 12
    assert first.name == "tiny"


def test_what_the_older_crop_made_is_known_by_the_preprocessings_identity() -> None:
    """It was "224 crop" for all that crop, and rounded down; other preparations have not changed."""
    assert Preprocessing(224, "crop").identity not in ("224 crop", Preprocessing(224, "crop-floor").identity)
    assert Preprocessing(224, "crop-floor").identity == "224 crop"
    assert (Preprocessing(64).identity, Preprocessing(64, "stretch").identity) == ("64 pad", "64 stretch")


def test_pipes_links_to_nowhere_and_a_line_of_fifty_million_pixels_are_passed_over_by_name(
    folder: Path,
) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to("gone.png")
    Image.new("1", (50_000_000, 1)).save(folder / "line.png")
    found = {
        result.path.name: result.reason
        for result in classify_files(Classifier.of(MeanColours(), list(PRIMARIES)), picture_files([folder]))
    }
    assert sum(reason is None for reason in found.values()) == 3
    assert "it is a pipe or a device" in str(found["pipe.png"])
    assert "No such file" in str(found["nowhere.png"])
    assert "50000000 x 1 pixels: a side of more than" in str(found["line.png"])
