"""The promises on pictures: bad ones are refused by name, good ones survive tensors and files."""

from __future__ import annotations

import contextlib
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from unclip import images
from unclip.errors import InputError
from unclip.images import ImageFormat

METADATA = {"prompt": 'a "red" apple, 빨간 사과, ein Äpfelchen 🍎', "seed": "0", "model": "pictograms"}


def gradient(width: int = 12, height: int = 8) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["path", "name", "bytes", "file"])
def test_pictures_open_from_anything(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    gradient().save(path)
    with path.open("rb") as file:
        source: Any = {"path": path, "name": str(path), "bytes": path.read_bytes(), "file": file}[kind]
        image = images.open_image(source)
    assert np.array_equal(np.asarray(image), np.asarray(gradient()))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_usual_formats_are_read(format: str) -> None:
    assert images.open_image(saved(gradient(), format)).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    else:
        grey = Image.new("RGB", (4, 4), (128, 128, 128))
        image = grey.quantize() if mode == "P" else grey.convert(mode)
    opened = images.open_image(saved(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"))
    assert opened.mode == "RGB"
    if mode != "1":
        assert np.abs(np.asarray(opened).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA"])
def test_transparency_is_kept_until_it_is_put_on_white(mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0, 0))
    if mode == "PA":
        source = image.quantize().convert("P")
        source.info["transparency"] = source.getpixel((0, 0))
    else:
        source = image.convert(mode)
    opened = images.open_image(saved(source, "PNG"))
    assert opened.mode == "RGBA"
    flat = images.on_white(opened)
    assert flat.mode == "RGB"
    assert flat.getpixel((0, 0)) == (255, 255, 255)
    assert flat.getpixel((1, 0)) != (255, 255, 255)


def test_half_transparent_red_on_white_is_pink() -> None:
    assert images.on_white(Image.new("RGBA", (1, 1), (255, 0, 0, 51))).getpixel((0, 0)) == (255, 204, 204)


def test_exif_orientation_is_obeyed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned, rotate by 90 degrees clockwise
    opened = images.open_image(saved(gradient(12, 8), "JPEG", exif=exif, quality=100))
    assert opened.size == (8, 12)


def bomb() -> bytes:
    """A PNG whose header claims 10,000 x 10,000 pixels."""
    data = bytearray(saved(gradient(), "PNG"))
    data[16:24] = (10_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def half() -> bytes:
    data = saved(gradient(64, 64), "PNG")
    return data[: len(data) // 2]


ANIMATED = {"save_all": True, "append_images": [Image.new("RGB", (12, 8))]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"just text", "is not a picture: hand in PNG"),
        (b"", "is not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture"),
        (bomb(), "more than 50 megapixels"),
        (half(), "is broken"),
        (saved(gradient(), "GIF", **ANIMATED), "animated"),
        (saved(gradient(), "WEBP", **ANIMATED), "animated"),
        (saved(gradient(), "PNG", **ANIMATED), "animated"),
        (saved(gradient(), "TIFF", **ANIMATED), "animated or has several pages"),
        (saved(Image.new("F", (2, 2)), "TIFF"), "32 bits a channel"),
    ],
    ids=["text", "empty", "postscript", "bomb", "half", "gif", "webp", "apng", "pages", "float"],
)
def test_bad_pictures_are_refused_by_name(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        images.open_image(path)
    assert str(path) in str(error.value)
    with pytest.raises(InputError, match="the picture"):
        images.open_image(data)


def test_size_is_judged_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(InputError, match="megapixels"):
        images.open_image(bomb())


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        images.open_image(tmp_path / "missing.png")
    with pytest.raises(InputError, match="cannot read"):
        images.open_image(tmp_path)


@given(st.binary(max_size=200), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.integers(0, 1000))
@example(noise=b"!", format="GIF", place=521)  # found by chance: looking for more frames fails
def test_damage_is_an_input_error_and_nothing_else(noise: bytes, format: str, place: int) -> None:
    data = bytearray(saved(gradient(), format))
    place %= len(data)
    data[place : place + len(noise)] = noise
    with contextlib.suppress(InputError):
        images.open_image(bytes(data))


@given(arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_eight_bits_survive_the_way_to_a_tensor_and_back(pixels: np.ndarray) -> None:
    tensor = images.from_uint8(pixels)  # (3, H, W)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert -1 <= tensor.min() <= tensor.max() <= 1
    assert np.array_equal(images.to_uint8(tensor), pixels)
    assert np.array_equal(np.asarray(images.to_pil(tensor)), pixels)
    assert torch.equal(images.to_tensor(Image.fromarray(pixels)), tensor)


def test_tensors_have_the_documented_shape_range_and_background() -> None:
    tensor = images.to_tensor(gradient(12, 8))
    assert tensor.shape == (3, 8, 12)
    assert (tensor[0, 0, 0], tensor[0, 0, -1]) == (-1, 1)
    assert torch.equal(images.to_tensor(Image.new("RGBA", (2, 2), (0, 0, 0, 0))), torch.ones(3, 2, 2))
    batch = torch.stack([tensor, tensor * 3])
    assert images.to_uint8(batch).shape == (2, 8, 12, 3)
    assert images.to_uint8(batch)[1].max() == 255
    with pytest.raises(ValueError, match="takes one picture"):
        images.to_pil(batch)


def test_resizing_is_antialiased_and_stays_in_range() -> None:
    checks = torch.ones(1, 3, 64, 64)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1
    assert images.resize(checks, 16).abs().max() < 0.1
    edge = torch.ones(1, 3, 8, 8)
    edge[..., 4:] = -1
    larger = images.resize(edge, (16, 32))
    assert larger.shape == (1, 3, 16, 32)
    assert larger.abs().max() <= 1
    assert images.resize(edge, 8) is edge


@pytest.mark.parametrize(("width", "height"), [(40, 20), (5, 9), (16, 16), (1000, 1)])
def test_all_of_a_picture_fits_into_the_square(width: int, height: int) -> None:
    square = images.fit_square(Image.new("RGB", (width, height), (255, 0, 0)), 16)
    assert square.size == (16, 16)
    red = np.asarray(square)[..., 1] < 128
    rows, columns = red.any(1).sum(), red.any(0).sum()
    assert (columns, rows) == (
        max(1, round(16 * width / max(width, height))),
        max(1, round(16 * height / max(width, height))),
    )


# Frozen: the first column that torchvision 0.28's `center_crop(picture, 224)` keeps, for widths from 224 on
TORCHVISIONS_FIRST = (0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 7, 8, 8, 8, 9, 10)


@pytest.mark.parametrize("turned", [False, True])
def test_an_odd_margin_is_halved_as_torchvision_and_as_transformers_do(turned: bool) -> None:
    for width, first in enumerate(TORCHVISIONS_FIRST, start=224):
        columns = np.tile(np.arange(width, dtype=np.uint8), (224, 1))
        image = Image.fromarray(columns.T if turned else columns)
        found = [images.fit(image, 224, how).getpixel((0, 0))[0] for how in ("crop", "crop-floor")]
        assert found == [first, (width - 224) // 2]


def test_a_photo_of_640_by_427_is_cropped_at_its_56th_column() -> None:
    """Of 335 x 224 pixels, 55.5 beside the middle: torchvision takes 56, transformers 55."""
    wide = Image.fromarray(np.tile(np.arange(640) / 2.51, (427, 1)).astype(np.uint8))
    resized = wide.convert("RGB").resize((335, 224), Image.Resampling.BICUBIC)
    for how, first in (("crop", 56), ("crop-floor", 55)):
        expected = resized.crop((first, 0, first + 224, 224))
        assert np.array_equal(images.fit(wide, 224, how), expected)


def test_a_line_of_pixels_is_cropped_where_its_whole_enlargement_would_be() -> None:
    """The way without the enlargement, for pictures longer than 32 squares, rounds alike."""
    line = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 68, 3), dtype=np.uint8))
    whole = line.resize((102, 3), Image.Resampling.BICUBIC)  # a margin of 99
    for how, first in (("crop", 50), ("crop-floor", 49)):
        found = np.asarray(images.fit(line, 3, how), dtype=int)
        assert np.abs(found - np.asarray(whole.crop((first, 0, first + 3, 3)))).max() <= 1


@pytest.mark.parametrize("format", ImageFormat)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_metadata_survives_in_every_format(format: ImageFormat, mode: str) -> None:
    data = images.encode(gradient().convert(mode), format, METADATA)
    assert images.read_metadata(data) == METADATA
    opened = images.open_image(data)
    assert np.abs(np.asarray(images.on_white(opened)).astype(int) - np.asarray(gradient())).mean() < 4
    assert Image.open(io.BytesIO(data)).format == format.upper()


@pytest.mark.parametrize("format", ImageFormat)
def test_without_metadata_there_is_none(format: ImageFormat) -> None:
    assert images.read_metadata(images.encode(gradient(), format)) == {}


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=20), st.text(max_size=50), max_size=3))
def test_any_text_survives(metadata: dict[str, str]) -> None:
    for format in ImageFormat:
        assert images.read_metadata(images.encode(gradient(), format, metadata)) == metadata


def test_bytes_that_are_no_text_do_not_stop_a_picture() -> None:
    broken = b"apple \xff".decode("utf-8", "surrogateescape")
    for format in ImageFormat:
        assert images.read_metadata(images.encode(gradient(), format, {"prompt": broken})) == {
            "prompt": "apple ?"
        }


def test_the_comments_of_other_programs_are_no_metadata() -> None:
    for comment in (b"ASCII\0\0\0hello", b"UNICODE\0h\0i\0", b"UNICODE\0[\0]\0", b""):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        assert images.read_metadata(saved(gradient(), "JPEG", exif=exif)) == {}


def test_too_much_metadata_and_unknown_formats_are_refused() -> None:
    with pytest.raises(InputError, match="shorten the prompt"):
        images.encode(gradient(), "png", {"prompt": "사과" * 10_000})
    with pytest.raises(InputError, match="unknown picture format 'bmp': choose png, jpeg, webp"):
        images.encode(gradient(), "bmp")
    assert ImageFormat.named(".JPG") is ImageFormat.JPEG


def test_flat_colours_survive_jpeg() -> None:
    """Colours are stored at full resolution: one red column between white ones stays red."""
    image = Image.new("RGB", (16, 16), (255, 255, 255))
    image.paste((220, 20, 20), (8, 0, 9, 16))
    red, green, _ = images.open_image(images.encode(image, "jpeg")).getpixel((8, 8))
    assert red - green > 150
