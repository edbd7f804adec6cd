"""Promises of a picture's record: the picture is drawn again by it, or it is said why it cannot be."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import unclip
from support.pictures import same, speckled
from unclip.drawing import Picture
from unclip.errors import InputError, UnclipWarning
from unclip.model import Model
from unclip.record import Record


@pytest.fixture(scope="module")
def model(two_priors_bundle: Path) -> Model:
    return unclip.load(two_priors_bundle, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def picture(model: Model) -> Picture:
    settings = {"prior_guidance": 4.0, "candidates": 2, "sampler": "ddim", "steps": 5, "guidance": 3.0}
    return model.generate("a red apple", n=2, seed=7, size=64, **settings)[1]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_file_of_any_format_is_drawn_again(
    model: Model, picture: Picture, tmp_path: Path, suffix: str
) -> None:
    path = picture.save(tmp_path / f"apple.{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (again,) = model.like(path)
    assert same(again, picture)
    assert again.metadata == picture.metadata
    assert same(model.like(picture)[0], picture)  # without a file, too


@pytest.mark.parametrize("settings", [{"prior": "ar"}, {"prior": "none"}, {"rerank": 6}, {"steps": "fast27"}])
def test_whatever_it_was_asked_for_with_is_drawn_again(model: Model, settings: dict[str, object]) -> None:
    (drawn,) = model.generate("a red apple", size=64, seed=3, **settings)
    (again,) = model.like(drawn)
    assert same(again, drawn)


def test_what_is_given_besides_is_changed_alone(model: Model, picture: Picture) -> None:
    changed = model.like(picture, "a cat", size=256, guidance=1.0, n=2)
    assert [(one.prompt, one.seed, one.index) for one in changed] == [("a cat", 7, 1), ("a cat", 7, 2)]
    expected = {**picture.settings, "size": "256", "guidance": "1"}
    assert changed[0].settings == expected
    assert model.like(picture, seed=8)[0].seed == 8
    with pytest.raises(InputError, match="guidance is 99"):
        model.like(picture, guidance=99.0)


def test_a_picture_of_another_bundle_is_drawn_with_a_warning(model: Model, picture: Picture) -> None:
    other = replace(picture, identity="0123456789ab", settings={**picture.settings, "temperature": "1"})
    with pytest.warns(UnclipWarning, match="with the weights 0123456789ab, and two-priors here has"):
        (again,) = model.like(other)
    assert same(again, picture)


def test_a_picture_that_was_computed_otherwise_is_drawn_with_a_warning(
    model: Model, picture: Picture
) -> None:
    other = replace(picture, settings={**picture.settings, "precision": "bfloat16"})
    with pytest.warns(UnclipWarning, match="was computed in bfloat16, and this model computes in float32"):
        model.like(other)
    exact = replace(picture, settings={**picture.settings, "exact": "an abacus"})
    with pytest.warns(UnclipWarning, match="was drawn exactly: exact of unclip.load"):
        model.like(exact)


def test_an_exact_picture_of_another_processor_is_drawn_with_a_warning(two_priors_bundle: Path) -> None:
    exact = unclip.load(two_priors_bundle, device="cpu", exact=True)
    (drawn,) = exact.generate("a red apple", size=64, seed=3)
    assert same(exact.like(drawn)[0], drawn)
    other = replace(drawn, settings={**drawn.settings, "exact": "an abacus"})
    with pytest.warns(UnclipWarning, match=r"drawn on an abacus, and this is .*off by 2 of 255"):
        exact.like(other)


def test_a_picture_begun_from_another_one_asks_for_it(model: Model) -> None:
    source = speckled(64)
    (drawn,) = model.generate("a red apple", size=64, seed=1, init=source, strength=0.5, fit="crop")
    with pytest.raises(InputError, match=r"was begun from another picture \(pixels:.*\): give that as init"):
        model.like(drawn)
    (again,) = model.like(drawn, init=source)
    assert same(again, drawn)
    with pytest.warns(UnclipWarning, match="was begun from another picture than the one given"):
        model.like(drawn, init=speckled(64, seed=1))


def test_an_edit_and_a_variation_say_that_they_need_their_source(model: Model) -> None:
    image = speckled(64)
    mask = Image.new("L", (64, 64), 255)
    (edited,) = model.edit(image, mask, "a red apple", size=64)
    (varied,) = model.vary(image, size=64, steps=2)
    for drawn, verb in ((edited, "edit"), (varied, "vary")):
        with pytest.raises(InputError, match=f"`unclip {verb}` of another picture .*pixels:"):
            model.like(drawn)


def test_what_says_nothing_of_itself_or_too_little_is_refused(
    model: Model, picture: Picture, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.png"
    picture.save(plain, metadata=False)
    with pytest.raises(InputError, match=r"plain\.png does not say how it was made"):
        Record.of(plain)
    with pytest.raises(InputError, match="does not say how it was made"):
        Record.of(replace(picture, seed="1; rm"))  # type: ignore[arg-type]
    long = replace(picture, prompt="a" * 9999)
    with pytest.raises(InputError, match="too long to be kept whole: give it, too"):
        model.like(long)
    with pytest.raises(InputError, match="no such file"):
        model.like(tmp_path / "nothing.png")
