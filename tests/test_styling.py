"""Promises of styles: added where a prompt names none, by the seed, never elsewhere, and said apart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unclip
from support.tiny_bundles import unclip_parts
from unclip.bundle import Bundle, save_bundle
from unclip.drawing import Job, Options
from unclip.errors import BundleError, InputError
from unclip.manifest import Styles
from unclip.model import Model
from unclip.styling import chosen, styled

CLEAR = ("flat", "noto", "mosaic")
STYLES = Styles((*CLEAR, "3d"), CLEAR)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("bundles") / "styled"
    save_bundle(folder, name="styled", parts=unclip_parts(context=64), card="", styles=STYLES)
    return unclip.load(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("bundles") / "plain"
    save_bundle(folder, name="plain", parts=unclip_parts(context=64), card="")
    return unclip.load(folder)


def pixels(picture: unclip.Picture) -> bytes:
    return picture.image.tobytes()


def test_a_prompt_without_a_style_is_drawn_in_a_clear_one(model: Model) -> None:
    pictures = model.generate("a red apple", n=6, size=64, seed=1)
    styles = [picture.settings["style"] for picture in pictures]
    assert set(styles[:3]) == set(styles[3:]) == set(CLEAR)
    assert {picture.prompt for picture in pictures} == {"a red apple"}
    assert all(picture.metadata["style"] == picture.settings["style"] for picture in pictures)


def test_it_is_drawn_as_if_the_style_had_been_typed(model: Model) -> None:
    for picture in model.generate("a red apple", n=3, size=64, seed=1):
        said = {"noto": "Noto emoji"}.get(picture.settings["style"], picture.settings["style"])
        job = Job(f"a red apple, {said}", 1, picture.index)
        (same,) = [p for event in model.draw([job], Options(size=64)) for p in event.pictures]
        assert "style" not in same.settings
        assert np.abs(np.asarray(same.image, int) - np.asarray(picture.image, int)).max() <= 1


def test_the_style_of_a_picture_is_the_same_alone_and_in_company(model: Model) -> None:
    many = model.generate("a red apple", n=7, size=64, seed=5)
    for k in (0, 4):
        (alone,) = [
            p for event in model.draw([Job("a red apple", 5, k)], Options(size=64)) for p in event.pictures
        ]
        assert alone.settings["style"] == many[k].settings["style"] == chosen(CLEAR, 5, k)
        assert np.abs(np.asarray(alone.image, int) - np.asarray(many[k].image, int)).max() <= 1


def test_any_style_draws_as_a_bundle_without_styles_does_to_the_bit(model: Model, plain: Model) -> None:
    ours = model.generate("a red apple", n=2, size=64, seed=1, style="any")
    theirs = plain.generate("a red apple", n=2, size=64, seed=1)
    assert [pixels(picture) for picture in ours] == [pixels(picture) for picture in theirs]
    assert all("style" not in picture.settings for picture in theirs)
    assert {picture.settings["style"] for picture in ours} == {"any"}  # so that they can be drawn again
    plain.generate("a red apple", size=64, seed=1, style="any")  # as true there


def test_a_style_that_is_asked_for_is_drawn(model: Model) -> None:
    for picture in model.generate("빨간 사과", n=2, size=64, seed=1, style="3d"):
        assert picture.settings["style"] == "3d"


@pytest.mark.parametrize(
    "prompt",
    [
        "a red apple, 3D",
        "line icon of an apple",
        "빨간 사과, 플랫",
        "Strichzeichnung: Apfel",
        "apple, mosaic",
    ],
)
def test_a_prompt_that_names_a_style_gets_no_other(model: Model, plain: Model, prompt: str) -> None:
    (ours,), (theirs,) = (one.generate(prompt, size=64, seed=1) for one in (model, plain))
    assert "style" not in ours.settings
    assert pixels(ours) == pixels(theirs)
    with pytest.raises(InputError, match="names a style itself"):
        model.generate(prompt, size=64, seed=1, style="flat")


def test_a_prompt_with_words_of_a_look_of_their_own_gets_no_style(model: Model) -> None:
    named = Styles(STYLES.known, CLEAR, words=("sks cup",))
    job, others = Job("the SKS  cup on a table", 1, 0), Job("a cup", 1, 0)

    def fits(texts: Sequence[str]) -> Sequence[str | None]:
        return [None for _ in texts]

    assert styled([job], None, named, fits) == [job]
    assert styled([others], None, named, fits)[0].text != "a cup"
    assert styled([job], "flat", named, fits)[0].text == "the SKS  cup on a table, flat"


def test_what_a_picture_is_given_with_gets_no_style(model: Model, plain: Model) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    mask = Image.new("L", (64, 64), 255)
    mask.paste(0, (16, 16, 48, 48))
    for draw in (
        lambda one: one.generate("a red apple", size=64, seed=1, init=photo),
        lambda one: one.vary(photo, size=64, seed=1, steps=2),
        lambda one: one.edit(photo, mask, "a red apple", size=64, seed=1, steps=2, rounds=1),
        lambda one: one.restyle(photo, "a red apple", "a green apple", size=64, seed=1, steps=2),
        lambda one: one.outpaint(photo, "a red apple", left=16, seed=1, steps=2, rounds=1),
    ):
        ours, theirs = draw(model), draw(plain)
        assert [pixels(picture) for picture in ours] == [pixels(picture) for picture in theirs]
        assert all("style" not in picture.settings for picture in ours)
    with pytest.raises(InputError, match="has a style of its own"):
        model.generate("a red apple", size=64, init=photo, style="flat")


def test_an_unknown_style_is_an_error_that_lists_those_there_are(model: Model, plain: Model) -> None:
    with pytest.raises(InputError, match="did you mean 'flat'.*flat, noto, mosaic, 3d, any"):
        model.generate("a red apple", style="flta")
    with pytest.raises(InputError, match="plain lists no styles"):
        plain.generate("a red apple", style="flat")
    with pytest.raises(InputError, match="style is 3: give the name"):
        Options(style=3)  # type: ignore[arg-type]


def test_a_prompt_that_is_too_long_for_a_style_is_drawn_as_it_is(model: Model) -> None:
    prompt = "a red apple " * 20
    fitting = model.family.truncated([prompt.strip()])[0] is None
    while not fitting:
        prompt = prompt[:-1]
        fitting = model.family.truncated([prompt.strip()])[0] is None
    (picture,) = model.generate(prompt.strip(), size=64, seed=1)
    assert "style" not in picture.settings
    with pytest.raises(InputError, match="too long to be read with it"):
        model.generate(prompt.strip(), size=64, seed=1, style="noto")


def test_a_picture_is_drawn_again_in_its_style(model: Model) -> None:
    for style in (None, "3d", "any"):
        picture = model.generate("a red apple", n=3, size=64, seed=1, style=style)[2]
        (again,) = model.like(picture)
        assert again.settings == picture.settings
        assert np.abs(np.asarray(again.image, int) - np.asarray(picture.image, int)).max() <= 1
        (other,) = model.like(picture, "a red apple, line art")
        assert "style" not in other.settings


def test_the_best_of_many_is_chosen_among_styles(model: Model) -> None:
    (best,) = model.generate("a red apple", n=1, rerank=6, size=64, seed=1)
    assert best.settings["style"] == chosen(CLEAR, 1, best.index)


def test_a_manifest_whose_clear_styles_are_unknown_is_refused(model: Model, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model.bundle.folder, tmp_path / "copy"))
    manifest = folder / "bundle.json"
    assert Bundle.load(folder).styles == STYLES
    text = re.sub(r'"clear": \[\s*"flat"', '"clear": ["dim"', manifest.read_text())
    manifest.write_text(text)
    with pytest.raises(BundleError, match="'dim' is not among styles.known"):
        Bundle.load(folder)
