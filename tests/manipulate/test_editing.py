"""Promises of editing: what is not masked stays bit for bit, the rest changes, bad masks are refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.pictures import holed, speckled, wide_profile
from unclip.errors import InputError, UnclipWarning
from unclip.images import photograph, to_tensor
from unclip.manipulate.editing import edit
from unclip.model import Model

STEPS = 4


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, device="cpu", precision="float32")


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
def test_what_is_not_masked_stays_bit_for_bit_and_the_rest_changes(model: Model, size: int) -> None:
    picture = speckled(size)
    box = (size // 4 + 3, size // 4, size // 2, size // 2 + 5)
    (edited,) = model.edit(picture, holed(size, size, box), "a red apple", seed=1, steps=STEPS)
    before, after = np.asarray(picture), np.asarray(edited.image)
    assert after.shape == before.shape
    inside = np.zeros((size, size), dtype=bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    assert np.array_equal(after[~inside], before[~inside])
    assert (after[inside] != before[inside]).any(axis=1).mean() > 0.9


def test_upsamplers_are_held_to_what_is_known(model: Model) -> None:
    """What they draw then meets it: the kept pixels are not only pasted over it at the end."""
    picture = speckled(256)
    events = edit(model, picture, holed(256, 256, (0, 0, 256, 128)), "a red apple", seed=1, steps=STEPS)
    estimates = [event.estimate for event in events if event.stage == "upsampler-256"]
    assert len(estimates) == 3
    for estimate in estimates:
        assert estimate is not None
        assert torch.equal(estimate[0, :, 128:], to_tensor(picture)[:, 128:])


def test_an_edit_depends_on_seed_and_prompt_and_not_on_what_is_redrawn(model: Model) -> None:
    picture, mask = speckled(64), holed(64, 64, (16, 16, 48, 48))
    other = picture.copy()
    other.paste((0, 0, 0), (16, 16, 48, 48))

    def drawn(image: Image.Image, prompt: str, seed: int) -> bytes:
        (edited,) = model.edit(image, mask, prompt, seed=seed, steps=STEPS)
        return edited.image.tobytes()

    first = drawn(picture, "a red apple", 1)
    assert drawn(picture, "a red apple", 1) == first
    assert drawn(other, "a red apple", 1) == first
    assert drawn(picture, "a red apple", 2) != first
    assert drawn(picture, "빨간 사과", 1) != first


def test_a_pictures_own_transparency_is_its_mask(model: Model) -> None:
    picture = speckled(64).convert("RGBA")
    picture.putalpha(holed(64, 64, (0, 0, 64, 32)).getchannel("A"))
    edited = model.edit(picture, None, "a red apple", n=2, seed=1, steps=STEPS)
    for one in edited:
        assert np.array_equal(np.asarray(one.image)[32:], np.asarray(picture)[32:])
        assert one.image.getchannel("A").getextrema() == (255, 255)
    assert edited[0].image.tobytes() != edited[1].image.tobytes()


def test_what_a_picture_that_is_not_square_leaves_free_is_drawn_in(model: Model) -> None:
    picture = speckled(64, 32)
    (edited,) = model.edit(picture, None, "a red apple", seed=1, steps=STEPS)  # its longer side can be drawn
    after = np.asarray(edited.image)
    assert np.array_equal(after[16:48], np.asarray(picture))
    assert (after[:16] != 255).any()
    assert (after[48:] != 255).any()


@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("feather", [None, 4])
def test_an_edit_tells_which_pixels_it_kept_and_they_are_the_same_bits(
    model: Model, size: int | None, feather: int | None
) -> None:
    picture, mask = speckled(64), holed(64, 64, (8, 8, 40, 40))
    (edited,) = model.edit(picture, mask, "a red apple", seed=1, steps=STEPS, size=size, feather=feather)
    assert edited.kept is not None
    kept = np.asarray(edited.kept) == 255
    assert np.array_equal(np.asarray(edited.image)[kept], np.asarray(picture)[kept])
    assert kept[50:].all()
    assert not kept[10:38, 10:38].any()


def test_picture_and_mask_are_fitted_alike(model: Model) -> None:
    picture, mask = speckled(128, 64), holed(128, 64, (40, 0, 64, 64))
    (middle,) = model.edit(picture, mask, "a red apple", seed=1, steps=STEPS, fit="crop")
    after, before = np.asarray(middle.image), np.asarray(picture)[:, 32:96]
    assert np.array_equal(after[:, 32:], before[:, 32:])
    assert (after[:, 8:32] != before[:, 8:32]).any(axis=2).mean() > 0.9
    assert middle.metadata["fit"] == "crop"
    (pulled,) = model.edit(picture, mask, "a red apple", size=64, seed=1, steps=STEPS, fit="stretch")
    kept = np.asarray(picture.resize((64, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(np.asarray(pulled.image)[:, 32:], kept[:, 32:])


def test_metadata_say_what_was_done_to_what(model: Model, tmp_path: Path) -> None:
    speckled(64).save(tmp_path / "a.png")
    (edited,) = model.edit(
        tmp_path / "a.png", holed(64, 64, (0, 0, 9, 9)), "a red apple", seed=1, steps=STEPS, rounds=2
    )
    found = edited.metadata
    assert (found["operation"], found["prompt"], found["rounds"]) == ("edit", "a red apple", "2")
    assert found["source"].startswith("sha256:")
    assert found["mask"].startswith("pixels:")
    assert float(found["seam_across"]) > 0


@pytest.mark.parametrize(
    ("mask", "settings", "message"),
    [
        (holed(32, 64, (0, 0, 9, 9)), {}, "mask has 32 x 64 pixels, the picture 64 x 64"),
        (Image.new("RGB", (64, 64)), {}, "the mask is opaque everywhere"),
        (Image.new("RGBA", (64, 64), (0, 0, 0, 1)), {}, "the mask is opaque everywhere"),  # alpha is not 0
        (None, {}, "the picture is opaque everywhere"),
        (holed(64, 64, (0, 0, 9, 9)), {"size": 100}, "size 100"),
        (holed(64, 64, (0, 0, 9, 9)), {"size": 0}, "size 0"),
        (holed(64, 64, (0, 0, 9, 9)), {"rounds": 0}, "rounds is 0"),
        (holed(64, 64, (0, 0, 9, 9)), {"fit": "tile"}, "unknown fit 'tile'"),
        (holed(64, 64, (0, 0, 9, 9)), {"prompt": " "}, "prompt is empty"),
        (holed(64, 64, (0, 0, 9, 9)), {"n": 101}, "n is 101"),
    ],
)
def test_what_cannot_be_edited_is_refused(
    model: Model, mask: Image.Image | None, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.edit(speckled(64), mask, **{"prompt": "a red apple", **settings})


@pytest.mark.parametrize("prior", ["diffusion", "ar", "none"])
def test_the_embedding_is_drawn_by_the_prior_that_is_asked_for(two_priors_bundle: Path, prior: str) -> None:
    model = Model.load(two_priors_bundle, device="cpu", precision="float32")
    mask = holed(64, 64, (0, 0, 64, 64))
    (edited,) = model.edit(speckled(64), mask, "a red apple", seed=1, steps=STEPS, prior=prior)
    (drawn,) = model.outpaint(speckled(64), "a red apple", left=9, seed=1, steps=STEPS, prior=prior)
    assert edited.metadata["prior"] == drawn.metadata["prior"] == prior
    (plain,) = model.edit(speckled(64), mask, "a red apple", seed=1, steps=STEPS)
    assert (edited.image.tobytes() == plain.image.tobytes()) == (prior == "diffusion")


def test_a_mask_that_shows_nothing_of_the_middle_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match="opaque everywhere in the middle"):
        model.edit(speckled(128, 64), holed(128, 64, (0, 0, 9, 9)), "a red apple", fit="crop")


def test_other_pictures_are_drawn_as_before(model: Model) -> None:
    """Filling in is of a copy: the model itself draws whole pictures."""
    before = model.generate("a red apple", size=64, seed=1)[0].image.tobytes()
    model.edit(speckled(64), holed(64, 64, (0, 0, 9, 9)), "a red apple", seed=1, steps=STEPS)
    assert model.generate("a red apple", size=64, seed=1)[0].image.tobytes() == before


def test_a_photo_comes_back_at_its_size_and_all_but_the_hole_bit_for_bit(model: Model) -> None:
    picture, box = speckled(150, 100), (90, 40, 120, 60)
    (edited,) = model.edit(picture, holed(150, 100, box), "a red apple", seed=1, steps=STEPS)
    before, after = np.asarray(picture), np.asarray(edited.image)
    assert after.shape == before.shape
    inside = np.zeros((100, 150), dtype=bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    assert np.array_equal(after[~inside], before[~inside])
    assert (after[inside] != before[inside]).any(axis=1).mean() > 0.9
    assert edited.metadata["size"] == "150 x 100"
    (square,) = model.edit(picture, holed(150, 100, box), "a red apple", size=64, seed=1, steps=STEPS)
    assert square.image.size == (64, 64)


@pytest.mark.parametrize("box", [(0, 0, 150, 40), (0, 0, 9, 100), (149, 99, 150, 100), (0, 0, 150, 100)])
def test_holes_at_the_edge_and_as_large_as_the_photo_are_drawn(
    model: Model, box: tuple[int, int, int, int]
) -> None:
    picture = speckled(150, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnclipWarning)
        (edited,) = model.edit(picture, holed(150, 100, box), "a red apple", seed=1, steps=STEPS)
    before, after = np.asarray(picture), np.asarray(edited.image)
    inside = np.zeros((100, 150), dtype=bool)
    inside[box[1] : box[3], box[0] : box[2]] = True
    assert np.array_equal(after[~inside], before[~inside])
    assert (after[inside] != before[inside]).any()


def test_transparency_stays_where_nothing_is_drawn(model: Model) -> None:
    picture = speckled(150, 100).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 20, 20))
    (edited,) = model.edit(picture, holed(150, 100, (90, 40, 120, 60)), "a", seed=1, steps=STEPS)
    alpha = np.asarray(edited.image.getchannel("A"))
    assert (alpha[:20, :20] == 0).all()
    assert (alpha[40:60, 90:120] == 255).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_white_is_drawn_anew_in_a_mask_without_transparency(model: Model, mode: str) -> None:
    picture, mask = speckled(64, 64), Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 64, 32))
    (edited,) = model.edit(picture, mask.convert(mode), "a red apple", seed=1, steps=STEPS)
    (same,) = model.edit(picture, holed(64, 64, (0, 0, 64, 32)), "a red apple", seed=1, steps=STEPS)
    assert edited.image.tobytes() == same.image.tobytes()


def test_a_mask_that_leaves_nearly_everything_warns(model: Model) -> None:
    with pytest.warns(UnclipWarning, match="leaves 99.99% of the picture as it is"):
        model.edit(speckled(150, 100), holed(150, 100, (0, 0, 1, 1)), "a red apple", seed=1, steps=STEPS)


def test_the_photo_keeps_its_colour_profile_and_what_is_drawn_is_converted_into_it(model: Model) -> None:
    picture, mask = Image.new("RGB", (150, 100), (200, 40, 40)), holed(150, 100, (60, 30, 90, 60))
    picture.info["icc_profile"] = wide_profile()
    (edited,) = model.edit(picture, mask, "a red apple", seed=1, steps=STEPS)
    assert edited.image.info["icc_profile"] == wide_profile()
    assert edited.image.getpixel((5, 5)) == (200, 40, 40)
    shown = picture.copy()
    shown.info.clear()
    shown.paste((233, 35, 35), (0, 0, 150, 100))  # as the picture looks, in sRGB
    (plain,) = model.edit(shown, mask, "a red apple", seed=1, steps=STEPS)
    hole = np.asarray(photograph(edited)[0].image)[30:60, 60:90].astype(int)
    assert np.abs(hole - np.asarray(plain.image)[30:60, 60:90]).mean() < 3
    (square,) = model.edit(picture, mask, "a red apple", size=64, seed=1, steps=STEPS)
    assert "icc_profile" not in square.image.info
    assert square.image.getpixel((32, 50)) == (233, 35, 35)


def test_a_feather_truly_blends_outside_of_the_hole(model: Model) -> None:
    picture, mask = speckled(150, 100), holed(150, 100, (60, 30, 90, 60))
    (soft,) = model.edit(picture, mask, "a red apple", seed=1, steps=STEPS, feather=12)
    before, after = np.asarray(picture, dtype=int), np.asarray(soft.image, dtype=int)
    assert np.array_equal(after[:17], before[:17])
    near, far = (np.abs(after[row, 60:90] - before[row, 60:90]).mean() for row in (28, 19))
    assert near > 2 * far > 0
    assert soft.metadata["feather"] == "12"


def test_an_empty_prompt_removes_what_is_masked(model: Model) -> None:
    picture, mask = Image.new("RGB", (150, 100), (90, 160, 220)), holed(150, 100, (60, 30, 90, 60))
    picture.paste((0, 0, 0), (62, 32, 88, 58))
    first, second = model.edit(picture, mask, "", n=2, seed=1)
    assert np.array_equal(np.asarray(first.image), np.asarray(Image.new("RGB", (150, 100), (90, 160, 220))))
    assert (first.metadata["operation"], first.metadata["size"]) == ("remove", "150 x 100")
    assert (first.index, second.index) == (0, 1)
    with pytest.raises(InputError, match="guidance means nothing where a thing is removed"):
        model.edit(picture, mask, "", guidance=2.0)
    (square,) = model.edit(picture, mask, "", size=64, seed=1)
    assert square.image.size == (64, 64)
