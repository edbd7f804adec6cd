"""Promises of variations: identity at zero strength, determinism, refusals before anything is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.pictures import ROUNDING, difference, holed, pixels, speckled
from unclip.errors import InputError
from unclip.given import Inversion
from unclip.images import fit_square
from unclip.manipulate.latents import Latents, mixed, slerp
from unclip.manipulate.variations import Start, plane
from unclip.model import Model
from unclip.runtime import sha256

STEPS = 6


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def shipped() -> Model:
    return Model.load(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def apple() -> Image.Image:
    image = Image.new("RGB", (96, 96), "white")
    image.paste((200, 30, 40), (24, 24, 72, 72))
    return image


def test_the_latents_of_a_picture_draw_it_again(shipped: Model, apple: Image.Image) -> None:
    latents = shipped.encode(apple)
    assert latents.x_T.shape == (3, 64, 64)
    again = pixels(shipped.decode(latents, size=64))
    error = np.mean((again - np.asarray(fit_square(apple, 64), dtype=int)) ** 2)
    assert 10 * np.log10(255**2 / error) > 28  # dB
    # the noise tells pictures of one embedding apart: other noise, another picture
    other = Latents(latents.z_i, torch.randn_like(latents.x_T), latents.inversion)
    assert np.abs(pixels(shipped.decode(other, size=64)) - again).mean() > 1


def test_at_zero_strength_a_picture_comes_back_as_the_decoder_draws_it(
    model: Model, apple: Image.Image
) -> None:
    pictures = model.vary(apple, n=2, strength=0, size=64, seed=3, steps=STEPS)
    whole = pixels(model.decode(model.encode(apple, Inversion(STEPS)), size=64))
    for picture in pictures:  # in a batch of two kernels round differently
        assert np.abs(pixels(picture) - whole).max() <= 1


def test_at_full_strength_only_the_embedding_is_kept(model: Model, apple: Image.Image) -> None:
    """Pictures that CLIP cannot tell apart then have the same variations."""
    speckled = apple.copy()
    speckled.putpixel((0, 0), (254, 255, 255))
    first, second = (model.vary(image, size=64, seed=3, steps=STEPS)[0] for image in (apple, speckled))
    assert difference(first, second) <= 1
    assert difference(first, model.vary(apple, size=64, seed=4, steps=STEPS)[0]) > 20


def test_a_seed_varies_the_same_way_again_and_says_of_what(model: Model, tmp_path: Path) -> None:
    file = tmp_path / "apple.png"
    Image.new("RGB", (40, 30), "red").save(file)
    settings: dict[str, Any] = {"n": 2, "strength": 0.5, "seed": 9, "steps": STEPS}
    first, second = model.vary(file, **settings), model.vary(file, **settings)
    assert [p.image.tobytes() for p in first] == [p.image.tobytes() for p in second]
    assert first[0].image.tobytes() != first[1].image.tobytes()
    assert first[0].image.size == (256, 256)
    found = first[0].metadata
    assert found["source"] == f"sha256:{sha256(file)}"
    assert (found["operation"], found["strength"], found["steps"]) == ("vary", "0.5", str(STEPS))


def test_a_picture_is_varied_as_it_is_fitted(model: Model, apple: Image.Image) -> None:
    wide = Image.new("RGB", (192, 96), "blue")
    wide.paste(apple, (48, 0))
    settings: dict[str, Any] = {"strength": 0, "size": 64, "seed": 3, "steps": STEPS}
    (middle,), (alone,) = model.vary(wide, fit="crop", **settings), model.vary(apple, **settings)
    assert difference(middle, alone) <= 1
    (whole,) = model.vary(wide, **settings)
    assert difference(middle, whole) > 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strength": 1.5}, "strength is 1.5: choose from 0 to 1"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"n": 0}, "n is 0"),
        ({"fit": "tile"}, "unknown fit 'tile'"),
        ({"size": 100}, "size 100 is not drawn"),
        ({"steps": 1}, "steps is 1"),
        ({"steps": 5000}, "5000 steps asked"),
        ({"guidance": 99.0}, "guidance is 99"),
    ],
)
def test_what_is_out_of_range_is_refused(
    model: Model, apple: Image.Image, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.vary(apple, **wrong)


# --- blends and text diffs ---


@pytest.fixture(scope="module")
def pear() -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    image.paste((120, 190, 40), (10, 20, 50, 60))
    return image


def test_the_ends_of_a_blend_are_its_pictures_as_the_decoder_draws_them(
    model: Model, apple: Image.Image, pear: Image.Image
) -> None:
    frames = model.blend(apple, pear, frames=5, size=256, seed=2, steps=STEPS)
    for picture, frame in ((apple, frames[0]), (pear, frames[-1])):
        alone = model.decode(model.encode(picture, Inversion(STEPS)), size=256, seed=2)
        assert difference(frame, alone) <= 2  # kernels round by the batch
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    again = model.blend(apple, pear, frames=5, size=256, seed=2, steps=STEPS)
    assert [frame.image.tobytes() for frame in frames] == [frame.image.tobytes() for frame in again]


def test_a_blend_of_three_passes_through_the_second(
    model: Model, apple: Image.Image, pear: Image.Image
) -> None:
    blue = Image.new("RGB", (64, 64), "blue")
    frames = model.blend(apple, pear, blue, frames=5, size=64, seed=2, steps=STEPS)
    alone = model.decode(model.encode(pear, Inversion(STEPS)), size=64, seed=2)
    assert difference(frames[2], alone) <= 1


def test_weights_draw_one_mixture(model: Model, apple: Image.Image, pear: Image.Image) -> None:
    (all_pear,) = model.blend(apple, pear, weights=[0, 2], size=64, seed=2, steps=STEPS)
    alone = model.decode(model.encode(pear, Inversion(STEPS)), size=64, seed=2)
    assert difference(all_pear, alone) <= 1
    (half,) = model.blend(apple, pear, weights=[1, 1], size=64, seed=2, steps=STEPS)
    middle = model.blend(apple, pear, frames=3, size=64, seed=2, steps=STEPS)[1]
    assert difference(half, middle) <= 1


def test_several_mixtures_are_a_frame_each(model: Model, apple: Image.Image, pear: Image.Image) -> None:
    both = model.blend(apple, pear, weights=[[1, 1], [0, 2]], size=64, seed=2, steps=STEPS)
    assert [picture.settings["weights"] for picture in both] == ["1, 1", "0, 2"]
    (half,) = model.blend(apple, pear, weights=[1, 1], size=64, seed=2, steps=STEPS)
    assert difference(both[0], half) <= ROUNDING
    with pytest.raises(InputError, match="1 weights for 2 pictures"):
        model.blend(apple, pear, weights=[[1, 1], [1]])
    with pytest.raises(InputError, match="at most 100"):
        model.blend(apple, pear, weights=[[1, 1]] * 101)


def test_a_plane_has_its_pictures_as_corners_and_mixes_between() -> None:
    four = plane(3, 4)
    assert [four[place] for place in (0, 2, 6, 8)] == [[float(a == b) for a in range(4)] for b in range(4)]
    assert four[4] == [0.25] * 4
    three = plane(3, 3)
    assert (three[0], three[2], three[7]) == ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    assert all(sum(weights) == pytest.approx(1) for weights in (*three, *four))
    for side, pictures in ((1, 4), (11, 4), (3, 2), (3, 5)):
        with pytest.raises(InputError):
            plane(side, pictures)


def test_a_fixed_start_is_the_seeds(model: Model, apple: Image.Image, pear: Image.Image) -> None:
    first, second = (
        model.blend(apple, pear, frames=2, start=Start.FIXED, size=64, seed=seed, steps=STEPS)
        for seed in (1, 2)
    )
    assert difference(first[0], second[0]) > 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 1}, "takes 2 or more"),
        ({"frames": 101}, "frames is 101"),
        ({"weights": [1.0]}, "1 weights for 2 pictures"),
        ({"weights": [0.0, 0.0]}, "not all 0"),
        ({"weights": [1.0, -1.0]}, "choose from 0 to"),
        ({"weights": [1.0, float("nan")]}, "choose from 0 to"),
    ],
)
def test_blends_that_cannot_be_are_refused(
    model: Model, apple: Image.Image, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.blend(apple, apple, **wrong)
    with pytest.raises(InputError, match="1 pictures to blend"):
        model.blend(apple)


def test_a_text_diff_moves_the_embedding_and_nothing_at_zero(shipped: Model, apple: Image.Image) -> None:
    settings: dict[str, Any] = {"size": 64, "seed": 2, "steps": 12}
    texts = ("a red square", "a blue square")
    back = pixels(shipped.decode(shipped.encode(apple, Inversion(12)), size=64, seed=2))
    assert np.abs(pixels(shipped.restyle(apple, *texts, amount=0, **settings)[0]) - back).max() <= 1
    frames = shipped.restyle(apple, *texts, frames=3, **settings)
    assert np.abs(pixels(frames[0]) - back).max() <= 2  # kernels round by the batch
    bluer = [
        pixels(frame)[24:40, 24:40, 2].mean() - pixels(frame)[24:40, 24:40, 0].mean() for frame in frames
    ]
    assert bluer[0] < bluer[1] < bluer[2]
    assert (frames[1].metadata["from"], frames[1].metadata["to"]) == texts


@pytest.mark.parametrize(
    ("texts", "wrong", "message"),
    [
        (("a cat", "a cat"), {}, "does not tell the two texts apart"),
        (("a cat", " "), {}, "is empty"),
        (("", "a cat"), {"amount": 2}, "amount is 2"),
        (("", "a cat"), {"frames": 0}, "frames is 0"),
    ],
)
def test_text_diffs_that_cannot_be_are_refused(
    model: Model, apple: Image.Image, texts: tuple[str, str], wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.restyle(apple, *texts, **wrong)


# --- the great circle ---


def test_slerp_keeps_to_the_great_circle_and_its_ends() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    assert slerp(a, b, 0.0) is a
    assert slerp(a, b, 1.0) is b
    torch.testing.assert_close(slerp(a, b, 0.5), torch.tensor([2**0.5, 2**0.5]))  # length 2 between 1 and 3
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(a, -a, 0.5), torch.zeros(2))


def test_mixtures_weigh_their_parts() -> None:
    parts = [torch.eye(3)[k] for k in range(3)]
    torch.testing.assert_close(mixed(parts, [0, 0, 5]), parts[2])
    torch.testing.assert_close(mixed(parts, [1, 1, 1]).norm(), torch.tensor(1.0))
    torch.testing.assert_close(mixed(parts[:2], [3, 1]), slerp(parts[0], parts[1], 0.25))


NO_NUMBERS = (None, "1", True, [1], float("nan"), float("inf"), 10**400, 1j)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: f"{value!s:.8}")
def test_what_is_no_number_gets_one_clear_line(model: Model, value: Any) -> None:
    picture = speckled(64)
    for draw in (
        lambda: model.vary(picture, strength=value),
        lambda: model.vary(picture, n=value),
        lambda: model.restyle(picture, "a dog", "a cat", amount=value),
        lambda: model.restyle(picture, "a dog", "a cat", frames=value),
        lambda: model.blend([picture, picture], frames=value),
        lambda: model.blend([picture, picture], weights=[1, value]),
        lambda: model.reconstruct(picture, [value]),
        lambda: model.outpaint(picture, "a cat", left=value),
        lambda: model.edit(picture, holed(64, 64, (0, 0, 9, 9)), "a cat", rounds=value or 0.5),
        lambda: model.generate("a cat", guidance=value or "0"),
    ):
        with pytest.raises(InputError) as caught:
            draw()
        assert len(str(caught.value)) < 200


def test_what_is_no_text_no_folder_and_no_name_gets_one_clear_line(model: Model) -> None:
    picture = speckled(64)
    with pytest.raises(InputError, match="a text is None: give a text"):
        model.restyle(picture, None, "a cat")
    with pytest.raises(InputError, match=r"basis is 0\.5: give a folder"):
        model.reconstruct(picture, basis=0.5)
    with pytest.raises(InputError, match="unknown start 'sler': choose slerp, fixed"):
        model.blend([picture, picture], start="sler")
    with pytest.raises(InputError, match=r"steps is \{\}"):
        model.vary(picture, steps={})
    with pytest.raises(InputError, match="1 pictures to blend"):
        model.blend(picture)
