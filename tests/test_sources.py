"""Promises of the one door for pictures: however one is handed in the same is seen, or it is refused."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin

import unclip
from support.pictures import speckled, wide_profile
from unclip.drawing import Picture
from unclip.errors import InputError, UnclipWarning
from unclip.images import (
    KINDS,
    MAX_SIDE,
    SUFFIXES,
    encode,
    open_image,
    opened,
    photograph,
    several,
    to_tensor,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    speckled(24, 16).save(tmp_path / "a.png")
    return tmp_path / "a.png"


WAYS: dict[str, Any] = {
    "path": lambda file: file,
    "text": str,
    "bytes": lambda file: file.read_bytes(),
    "open file": lambda file: io.BytesIO(file.read_bytes()),
    "PIL": lambda file: speckled(24, 16),
    "array": lambda file: np.asarray(speckled(24, 16)),
    "array with alpha": lambda file: np.asarray(speckled(24, 16).convert("RGBA")),
    "tensor": lambda file: to_tensor(speckled(24, 16)),
    "batch of one": lambda file: to_tensor(speckled(24, 16))[None],
    "Picture": lambda file: Picture(speckled(24, 16), "a", 0, 0, None, "tiny", "0"),
}


@pytest.mark.parametrize("way", WAYS)
def test_however_it_is_handed_in_the_same_is_seen(way: str, file: Path) -> None:
    image, digest = opened(WAYS[way](file))
    assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(speckled(24, 16)))
    assert digest.startswith("sha256:" if way in ("path", "text", "bytes", "open file") else "pixels:")


def test_every_verb_takes_every_way(file: Path, tiny_bundle: Path) -> None:
    model = unclip.load(tiny_bundle, device="cpu", precision="float32")
    drawn = {
        way: model.vary(make(file), strength=0, size=64, seed=1, steps=4)[0].image.tobytes()
        for way, make in WAYS.items()
    }
    assert len(set(drawn.values())) == 1
    (init,) = {
        model.generate("a", init=make(file), strength=0, size=64, seed=1)[0].image.tobytes()
        for make in WAYS.values()
    }
    assert init
    embeddings = [model.clip.embed_images(make(file)) for make in WAYS.values()]
    assert all(torch.equal(embeddings[0], other) for other in embeddings[1:])


def turned(image: Image.Image) -> bytes:
    """A JPEG that lies on its side, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.rotate(90, expand=True).save(buffer, "JPEG", exif=exif.tobytes(), quality=100, subsampling=0)
    return buffer.getvalue()


def test_a_picture_in_memory_is_turned_as_its_camera_says() -> None:
    content = turned(Image.new("RGB", (32, 16), "red"))
    assert open_image(content).size == open_image(Image.open(io.BytesIO(content))).size == (32, 16)


def test_sixteen_bits_in_memory_are_scaled_and_stay_transparent_where_they_are() -> None:
    samples = np.array([[0, 32768], [65535, 300]], dtype=np.uint16)
    assert np.asarray(open_image(Image.fromarray(samples)))[..., 0].tolist() == [[0, 128], [255, 1]]
    assert np.asarray(open_image(samples))[..., 0].tolist() == [[0, 128], [255, 1]]
    buffer = io.BytesIO()
    Image.fromarray(samples).save(buffer, "PNG", transparency=65535)
    image = open_image(buffer.getvalue())
    assert image.mode == "RGBA"
    assert np.asarray(image)[..., 3].tolist() == [[255, 255], [0, 255]]


def test_what_has_32_bits_is_refused_in_memory_too() -> None:
    for mode in ("F", "I"):
        with pytest.raises(InputError, match="32 bits a channel"):
            open_image(Image.new(mode, (4, 4)))


def lab_profile() -> bytes:
    """Of no numbers of RGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def test_a_profile_of_no_numbers_of_ours_and_a_broken_one_are_left(tmp_path: Path) -> None:
    image = speckled(8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, lab_profile()):
        buffer = io.BytesIO()
        image.save(buffer, "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(open_image(buffer.getvalue())), np.asarray(image))
    image.save(tmp_path / "broken.png", icc_profile=b"no profile")
    with pytest.warns(UnclipWarning, match="the colour profile of .*broken.png cannot be read"):
        assert np.array_equal(np.asarray(open_image(tmp_path / "broken.png")), np.asarray(image))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "HEIF"])
def test_every_kind_is_read_under_every_of_its_suffixes(kind: str, tmp_path: Path) -> None:
    for suffix in KINDS[kind]:
        path = tmp_path / f"a{suffix}"
        Image.new("RGB", (16, 16), "red").save(path, kind)
        assert suffix in SUFFIXES
        level = np.asarray(open_image(path).convert("RGB"), dtype=int)
        assert np.abs(level - (255, 0, 0)).max() <= 8


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "NoneType is no picture: hand in a path"),
        (3, "int is no picture"),
        (np.zeros((4, 4, 3)), r"an array \(4, 4, 3\) of float64: hand in uint8"),
        (np.zeros((4, 4, 5), np.uint8), r"an array \(4, 4, 5\) of uint8"),
        (np.zeros((0, 4), np.uint8), r"an array \(0, 4\)"),
        (torch.zeros(3, 4, 4) + 2, "a tensor with values outside"),
        (torch.full((3, 4, 4), float("nan")), "a tensor with values outside"),
        (torch.zeros(2, 3, 4, 4), r"a tensor \(2, 3, 4, 4\)"),
        (torch.zeros(4, 4, 3), r"a tensor \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "of torch.uint8"),
        (b"no picture", "the picture is not a picture: hand in PNG"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 64, r"is HEIC: install unclip\[heic\]"),
        (Image.new("1", (MAX_SIDE + 1, 1)), "a side of more than"),
    ],
)
def test_what_is_no_picture_gets_one_clear_line(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_image(source)


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.png")
    found: list[str] = []

    def read() -> None:
        for path in (tmp_path / "f.png", tmp_path, Path("/dev/null")):
            with pytest.raises(InputError, match="it is a folder|it is a pipe or a device") as error:
                open_image(path)
            found.append(str(error.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)
    assert len(found) == 3


def test_several_are_told_from_one() -> None:
    image = speckled(4)
    assert several([image, image]) == [image, image]
    assert several(image) == [image]
    assert several(iter([image])) == [image]
    assert len(several(np.zeros((4, 4, 3), np.uint8))) == 1
    assert several("a.png") == ["a.png"]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_numbers_of_another_colour_space_are_seen_in_srgb_and_kept_beside(tmp_path: Path) -> None:
    image = Image.new("RGBA", (4, 4), (200, 40, 40, 128))
    photo, _ = photograph(saved(image, "PNG", icc_profile=wide_profile()))
    assert photo.image.getpixel((0, 0)) == (233, 35, 35, 128)  # as Pillow's ImageCms says
    assert photo.own.getpixel((0, 0)) == (200, 40, 40, 128)
    back = photo.in_own_colours(photo.image.convert("RGB")).getpixel((0, 0))
    assert max(abs(a - b) for a, b in zip(back, (200, 40, 40), strict=True)) <= 1
    carried = photo.carried_by(photo.own.copy())
    for kind in ("png", "webp", "jpeg"):
        assert Image.open(io.BytesIO(encode(carried, kind))).info["icc_profile"] == wide_profile()
    assert "icc_profile" not in photo.image.info


def test_lab_cmyk_and_grey_become_rgb_as_they_look() -> None:
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (4, 4), (200, 40, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    shown = open_image(saved(lab, "TIFF")).getpixel((0, 0))
    assert max(abs(a - b) for a, b in zip(shown, (200, 40, 40), strict=True)) <= 3
    assert open_image(saved(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG")).mode == "RGB"
    assert open_image(saved(Image.new("L", (4, 4), 77), "PNG")).getpixel((0, 0)) == (77, 77, 77)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    image = Image.new("RGB", (32, 16), "white")
    image.paste((255, 0, 0), (0, 0, 8, 8))
    lying = {
        1: image,
        2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_90),
        7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(lying, kind, exif=exif)
    for source in (content, Image.open(io.BytesIO(content))):
        upright = open_image(source)
        assert upright.size == (32, 16)
        assert upright.getpixel((2, 2))[1] < 90
        assert upright.getpixel((29, 13))[1] > 160


def test_what_is_handed_in_stays_as_it_was() -> None:
    image = Image.new("RGB", (4, 4), "red")
    image.info["icc_profile"] = wide_profile()
    shown = open_image(image)
    assert shown.getpixel((0, 0)) != (255, 0, 0) or shown is not image
    assert image.getpixel((0, 0)) == (255, 0, 0)
    assert image.info["icc_profile"] == wide_profile()
    plain = Image.new("RGB", (4, 4), "red")
    assert open_image(plain) is not plain


def test_an_open_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = io.BytesIO(saved(speckled(8), "PNG"))
    file.seek(0, io.SEEK_END)
    assert opened(file)[0].size == opened(file)[0].size == open_image(file).size == (8, 8)
    for content in (bytearray(file.getvalue()), memoryview(file.getvalue())):
        assert open_image(content).size == (8, 8)


def test_closed_files_and_text_get_one_clear_line(tmp_path: Path) -> None:
    speckled(8).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(InputError, match=r"a.png was closed before it was read: hand in its path"):
        open_image(image)
    with (tmp_path / "a.png").open("rb") as file:
        pass
    with pytest.raises(InputError, match=r"cannot read .*a.png: .*closed"):
        open_image(file)
    (tmp_path / "b.txt").write_text("no picture")
    with (tmp_path / "b.txt").open() as text, pytest.raises(InputError, match=r"b.txt is open as text"):
        open_image(text)
    with pytest.raises(InputError, match="has 0 x 4 pixels"):
        open_image(Image.new("RGB", (0, 4)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_reduced_picture_looks_as_the_whole_one(mode: str) -> None:
    grey = Image.fromarray(np.linspace(0, 255, 300 * 200).reshape(200, 300).astype(np.uint8))
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8) if mode == "I;16" else grey.convert(mode)
    content = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    whole, small = open_image(content), open_image(content, at_least=40)
    assert small.mode == whole.mode
    assert small.size == (60, 40)
    same = np.asarray(whole.resize((60, 40), Image.Resampling.BOX), dtype=int)
    assert np.abs(np.asarray(small, dtype=int) - same).max() <= 2


def test_too_much_text_in_a_picture_is_said_as_such(tmp_path: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("x", "y" * 2_000_000, zip=True)
    speckled(8).save(tmp_path / "a.png", pnginfo=texts)
    with pytest.raises(InputError, match=r"a.png is broken: its profile or a text in it has more than 1 MiB"):
        open_image(tmp_path / "a.png")


def test_a_profile_that_no_png_gives_back_is_converted_away() -> None:
    large = saved(Image.new("RGB", (4, 4), (200, 40, 40)), "JPEG", icc_profile=wide_profile() + b"\0" * 2**20)
    photo, _ = photograph(large)
    assert photo.profile is None
    assert photo.own is photo.image
