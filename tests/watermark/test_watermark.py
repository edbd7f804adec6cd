"""Promises of the watermark: it is read again after what happens to pictures, and seen nowhere else."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from unclip.errors import InputError
from unclip.watermark import Mark, Reading, detection, embed, read_mark
from unclip.watermark.embedding import STRONGEST
from unclip.watermark.pattern import TILE, pattern

MARK = Mark("0123456789ab", (1, 2, 3))


def drawing(side: int = 256, seed: int = 0, background: str = "white") -> Image.Image:
    """Flat shapes on flat ground, their edges soft: what the shipped bundle draws."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (2 * side, 2 * side), background)
    draw = ImageDraw.Draw(image)
    for shape in (draw.ellipse, draw.rectangle, draw.ellipse, draw.rectangle):
        left, upper = random.integers(side // 4, side, 2).tolist()
        width, height = random.integers(side // 4, side // 2, 2).tolist()
        colour = tuple(random.integers(40, 230, 3).tolist())
        shape((left, upper, left + width, upper + height), fill=colour)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def window(image: Image.Image) -> Image.Image:
    """A screenshot: shown larger, with grey around it."""
    screen = Image.new("RGB", (460, 420), (236, 236, 236))
    screen.paste(image.resize((320, 320), Image.Resampling.BILINEAR), (47, 61))
    return jpeg(screen, 85)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "JPEG 95": lambda image: jpeg(image, 95),
    "JPEG 50": lambda image: jpeg(image, 50),
    "half size": lambda image: image.resize((128, 128), Image.Resampling.LANCZOS),
    "10 px cut off": lambda image: image.crop((10, 10, 246, 246)),
    "a quarter cut off": lambda image: image.crop((64, 0, 256, 256)),
    "mirrored": ImageOps.mirror,
    "screenshot": window,
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("background", ["white", "#c8d8e8"])
def test_it_is_read_again_after_what_happens_to_pictures(change: str, background: str) -> None:
    found = read_mark(CHANGES[change](embed(drawing(background=background), MARK)))
    assert found is not None
    assert found.mark == MARK
    assert found.mirrored is (change == "mirrored")
    scale = {"half size": 0.5, "screenshot": 1.25}.get(change, 1.0)
    assert found.scale == pytest.approx((scale, scale), rel=0.01)


def test_it_does_not_show() -> None:
    for seed in range(4):
        image = drawing(seed=seed)
        change = np.asarray(embed(image, MARK), np.float64) - np.asarray(image)
        assert 10 * np.log10(255**2 / np.mean(change**2)) > 38  # decibels
        assert np.abs(change).max() <= 5 * STRONGEST
    flat = np.asarray(embed(Image.new("RGB", (256, 256), "#808080"), MARK), np.float64) - 128
    assert flat.std() < 1.6
    assert abs(flat.mean()) < 0.1


def test_unmarked_pictures_have_none() -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (200, 300, 3), dtype=np.uint8))
    ramp = Image.linear_gradient("L").convert("RGB")
    stripes = Image.fromarray(np.tile(np.array([[0, 255] * 64], np.uint8), (128, 1)))
    unmarked = [noise, ramp, stripes, *(drawing(seed=seed) for seed in range(4))]
    unmarked += [Image.new(mode, (256, 256)) for mode in ("L", "RGB", "RGBA", "1", "P", "I;16")]
    assert [read_mark(image) for image in unmarked] == [None] * len(unmarked)


def test_no_pixel_that_is_kept_changes_and_what_is_drawn_carries_it() -> None:
    image = drawing(384)
    keep = Image.new("L", image.size, 255)
    keep.paste(0, (0, 0, 384, 256))
    marked = embed(image, MARK, keep)
    before, after = np.asarray(image), np.asarray(marked)
    assert np.array_equal(before[256:], after[256:])
    assert not np.array_equal(before[:256], after[:256])
    found = read_mark(marked)
    assert found is not None
    assert found.mark == MARK


def test_a_picture_of_which_too_little_is_drawn_stays_as_it_is() -> None:
    image = drawing()
    keep = Image.new("L", image.size, 255)
    keep.paste(0, (0, 0, TILE - 1, TILE))
    assert embed(image, MARK, keep) is image
    small = drawing(64)
    assert embed(small, MARK) is small
    clear = Image.new("RGBA", (256, 256), (255, 0, 0, 0))
    assert embed(clear, MARK) is clear


def test_transparency_and_profile_stay() -> None:
    image = drawing().convert("RGBA")
    image.putalpha(Image.linear_gradient("L"))
    image.info["icc_profile"] = b"a profile"
    marked = embed(image, MARK)
    assert marked.mode == "RGBA"
    assert marked.info["icc_profile"] == b"a profile"
    assert np.array_equal(np.asarray(marked)[..., 3], np.asarray(image)[..., 3])
    assert np.array_equal(np.asarray(marked)[0], np.asarray(image)[0])  # nothing shows there


def test_a_large_picture_is_looked_through_in_windows() -> None:
    image = Image.new("RGB", (900, 700), "#b0c0d0")
    image.paste(embed(drawing(), MARK), (620, 420))
    found = read_mark(image)
    assert found is not None
    assert found.mark == MARK


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (47, 47), (49, 5000), (128, 128)])
def test_pictures_of_any_shape_are_looked_at(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "#708090")
    assert read_mark(image) is None
    embed(image, MARK)


def test_no_more_places_are_decoded_than_the_rate_of_false_marks_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []

    def counted(values: np.ndarray) -> list[None]:
        decoded.append(len(values))
        return [None] * len(values)

    monkeypatch.setattr(detection, "SEEN", 0.0)
    monkeypatch.setattr(detection, "PLAUSIBLE", 0.0)
    monkeypatch.setattr(detection, "decode", counted)
    random = np.random.default_rng(0)
    assert read_mark(Image.fromarray(random.integers(0, 256, (900, 900), dtype=np.uint8))) is None
    assert sum(decoded) == detection.MOST_DECODED


def test_a_mark_says_weights_and_version_in_64_bits() -> None:
    for mark in (MARK, Mark("000000000000", (0, 0, 0)), Mark("ffffffffffff", (15, 63, 63))):
        assert Mark.from_payload(mark.payload) == mark
        assert 0 <= mark.payload < 2**64
    assert Mark.of("0123456789ab", "0.4.1.dev2+local") == Mark("0123456789ab", (0, 4, 1))
    assert str(MARK) == "weights 0123456789ab, unclip 1.2.3"
    assert Reading(MARK, (1.0, 1.0), False).mark == MARK
    with pytest.raises(InputError, match="twelve|12"):
        Mark("abc", (0, 0, 0))
    with pytest.raises(InputError, match="below 16, 64 and 64"):
        Mark("0123456789ab", (16, 0, 0))


def test_the_pattern_never_changes() -> None:
    """Marks that are out there would not be read any more; found by `pattern().tile` when it was made."""
    waves = pattern()
    assert len(waves.down) == 574
    assert np.count_nonzero(waves.pilots) == 158
    assert waves.order[:4].tolist() == ORDER
    tile = waves.tile(np.ones(384, np.float32))
    assert tile[0, :4].round(3).tolist() == pytest.approx(ROW, abs=0.002)


ORDER = [[27, 101], [102, 69], [15, 378], [281, 341]]
ROW = [-1.085, -0.841, -0.201, 0.342]
