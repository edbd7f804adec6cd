"""Promises of extending: the picture stays bit for bit, the margins are drawn, tiles overlap."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.pictures import speckled
from unclip.errors import InputError
from unclip.manipulate.outpaint import Canvas, Margins, outpaint, tile_for
from unclip.model import Model
from unclip.runtime import sha256

STEPS = 3


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Model:
    return Model.load(tiny_bundle, device="cpu", precision="float32")


def test_what_was_there_stays_bit_for_bit_and_the_margins_are_drawn(model: Model, tmp_path: Path) -> None:
    speckled(70, 50).save(tmp_path / "a.png")
    settings: dict[str, Any] = {"left": 30, "right": 90, "bottom": 20, "seed": 1, "steps": STEPS}
    (whole,) = model.outpaint(tmp_path / "a.png", "a red apple", **settings)
    after = np.asarray(whole.image)
    assert after.shape == (70, 190, 3)
    assert np.array_equal(after[:50, 30:100], np.asarray(speckled(70, 50)))
    drawn = np.ones((70, 190), dtype=bool)
    drawn[:50, 30:100] = False
    assert (after[drawn] != 255).any(axis=1).mean() > 0.9
    found = whole.metadata
    assert found["source"] == f"sha256:{sha256(tmp_path / 'a.png')}"
    assert (found["operation"], found["size"], found["tile"], found["right"]) == (
        "outpaint",
        "190 x 70",
        "64",
        "90",
    )
    assert float(found["seam_across"]) > 0


def test_an_extended_picture_tells_which_pixels_it_kept(model: Model) -> None:
    picture = Image.new("RGB", (64, 64), "red")
    (wide,) = model.outpaint(picture, "a red apple", left=8, right=16, seed=1, steps=3)
    assert wide.kept is not None
    kept = np.asarray(wide.kept) == 255
    assert kept.shape == (64, 88)
    assert kept[:, 8:72].all()
    assert not kept[:, :8].any()
    assert not kept[:, 72:].any()


def test_a_seed_extends_the_same_way_again_and_pictures_differ(model: Model) -> None:
    def drawn(seed: int, n: int = 1) -> list[bytes]:
        pictures = model.outpaint(speckled(64), "a red apple", right=64, n=n, seed=seed, steps=STEPS)
        return [picture.image.tobytes() for picture in pictures]

    first = drawn(1, n=2)
    assert drawn(1) == first[:1]
    assert first[0] != first[1]
    assert drawn(2) != first[:1]


def test_a_tile_does_not_repeat_the_one_before(model: Model) -> None:
    """Their noise is of other streams, though all show what one embedding says."""
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    (whole,) = model.outpaint(grey, "a red apple", right=128, seed=1, steps=STEPS)
    levels = np.asarray(whole.image, dtype=int)
    assert np.abs(levels[:, 96:128] - levels[:, 64:96]).mean() > 5


def test_progress_is_of_all_tiles(model: Model) -> None:
    margins = Margins(right=96)
    events = list(outpaint(model, speckled(64), "a red apple", margins, n=2, seed=1, steps=STEPS))
    last = {event.stage: (event.step, event.total) for event in events}
    assert last["tiles"] == (6, 6)
    assert all(done == total for done, total in last.values())
    assert [picture.index for event in events for picture in event.pictures] == [0, 1]


def test_what_is_transparent_is_drawn_too(model: Model) -> None:
    picture = speckled(64).convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 16, 64))
    (whole,) = model.outpaint(picture, "a red apple", right=8, seed=1, steps=STEPS)
    after = np.asarray(whole.image)
    assert np.array_equal(after[:, 16:64], np.asarray(speckled(64))[:, 16:])
    assert (after[:, :16] != 255).any(axis=2).mean() > 0.9


@pytest.mark.parametrize(
    ("size", "margins"),
    [
        ((256, 256), Margins(right=300)),
        ((100, 300), Margins(10, 20, 30, 40)),
        ((40, 30), Margins(top=5)),
        ((700, 500), Margins(left=1)),
    ],
)
def test_tiles_cover_the_margins_and_each_sees_something(size: tuple[int, int], margins: Margins) -> None:
    side = 256
    canvas = Canvas.around(Image.new("RGB", size), margins, side)
    known = np.asarray(canvas.keep) > 0
    for x, y in canvas.tiles(side):
        window = known[y : y + side, x : x + side]
        assert window.shape == (side, side)
        assert window.any()
        assert not window.all()
        window[:] = True
    left, top, right, bottom = canvas.wanted
    assert known[top:bottom, left:right].all()
    assert (right - left, bottom - top) == (
        size[0] + margins.left + margins.right,
        size[1] + margins.top + margins.bottom,
    )


def test_tiles_are_planned_in_time_by_their_number_and_the_best_known_first() -> None:
    canvas = Canvas.around(Image.new("RGB", (64, 64)), Margins(right=2200, bottom=1000), 64)
    started = time.monotonic()
    tiles = canvas.tiles(64)
    assert time.monotonic() - started < 10  # a second, and nineteen when each looked at all others
    known = np.asarray(canvas.keep) > 0
    assert len(tiles) > 2000
    for x, y in tiles[:40]:
        around = [known[v : v + 64, u : u + 64] for u, v in tiles if max(abs(u - x), abs(v - y)) < 200]
        best = max((int(part.sum()) for part in around if not part.all()), default=0)
        assert int(known[y : y + 64, x : x + 64].sum()) == best
        known[y : y + 64, x : x + 64] = True


def test_the_number_of_tiles_is_said_before_anything_is_drawn(model: Model) -> None:
    first = next(outpaint(model, speckled(64), "a red apple", Margins(right=96), n=2, seed=1, steps=STEPS))
    assert (first.stage, first.step, first.total) == ("tiles", 0, 6)


def test_numbers_of_numpy_are_pixels() -> None:
    assert Margins(left=np.int64(3)) == Margins(left=3)


@pytest.mark.parametrize(
    ("side", "tile"), [(10, 64), (80, 64), (128, 256), (300, 256), (700, 1024), (9000, 1024)]
)
def test_a_tile_sees_most_of_the_picture_where_it_can(side: int, tile: int) -> None:
    assert tile_for(Image.new("1", (side, side + 50)), (64, 256, 512, 1024)) == tile


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing to extend"),
        ({"left": -1, "right": 9}, "left is -1"),
        ({"left": 2.5}, "left is 2.5: give a whole number"),
        ({"left": "9"}, "left is '9': give a whole number"),
        ({"right": 3000, "bottom": 3000, "size": 64}, "takes 9024 tiles of 64 px, more than 1000: extend it"),
        (
            {"right": 500, "size": 64, "n": 100},
            "takes 1600 tiles .*draw fewer or take larger tiles .size 256, 512, 1024",
        ),
        ({"right": 1_000_000}, "more than 50 megapixels"),
        ({"right": 9, "size": 100}, "size 100"),
        ({"right": 9, "rounds": 21}, "rounds is 21"),
        ({"right": 9, "prompt": " "}, "prompt is empty"),
        ({"right": 9, "n": 0}, "n is 0"),
        ({"right": 9, "image": Image.new("RGBA", (64, 64))}, "all of the picture is transparent"),
    ],
)
def test_what_cannot_be_extended_is_refused(model: Model, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.outpaint(**{"image": speckled(64), "prompt": "a red apple", **settings})
