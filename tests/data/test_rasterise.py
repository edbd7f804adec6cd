"""The promise that every picture becomes a square on white, unclipped, or is refused with its reason."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.packages import svg
from unclip.data.quick_png import quick_png
from unclip.data.rasterise import Unusable, draw, draw_bitmap, draw_svg
from unclip.data.records import Fit

WHITE = [255, 255, 255]


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def moving() -> bytes:
    first, second = (Image.new("RGB", (50, 50), colour) for colour in ("red", "blue"))
    return encoded(first, "GIF", save_all=True, append_images=[second])


def test_a_vector_drawing_stands_on_white() -> None:
    drawn = pixels(draw_svg(svg("#c81e1e"), 64))
    assert drawn.shape == (64, 64, 3)
    assert drawn[0, 0].tolist() == WHITE
    assert drawn[32, 20].tolist() == [0xC8, 0x1E, 0x1E]


@pytest.mark.parametrize(("width", "height"), [(32, 20), (20, 32)])
def test_a_drawing_that_is_not_square_is_centred(width: int, height: int) -> None:
    document = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" fill="#00f"/></svg>'
    )
    blue = (pixels(draw_svg(document, 64)) == [0, 0, 255]).all(axis=2)
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    assert (len(columns), len(rows)) == ((64, 40) if width > height else (40, 64))
    assert blue[::-1, ::-1].tolist() == blue.tolist()


def test_sizes_in_points_are_understood() -> None:
    assert draw_svg(svg(size='width="100pt" height="100pt"'), 32).size == (32, 32)


def test_text_stays_out_so_that_no_font_of_the_machine_shows() -> None:
    with pytest.raises(Unusable, match="empty"):
        draw_svg(
            '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text y="8">A</text></svg>', 32
        )


def test_trimming_draws_larger_instead_of_enlarging() -> None:
    small = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="100">'
        '<circle cx="10" cy="10" r="8" fill="#000"/></svg>'
    )
    drawn = pixels(draw_svg(small, 100, Fit.TRIM)).min(axis=2)
    assert np.flatnonzero((drawn < 128).any(axis=0)).tolist() == list(range(4, 96))
    assert ((drawn > 40) & (drawn < 215)).mean() < 0.06  # edges as sharp as those of a large circle


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "I;16"])
def test_bitmaps_of_all_modes_are_read(mode: str) -> None:
    gray = Image.new("L", (40, 40), 90)
    image = Image.new("I;16", (40, 40), 90 * 256) if mode == "I;16" else gray.convert("RGB").convert(mode)
    drawn, seen = draw_bitmap(encoded(image), 32)
    assert (seen.width, seen.height) == (40, 40)
    assert abs(pixels(drawn)[16, 16].astype(int) - 90).max() <= 3


def test_transparent_colours_do_not_bleed_into_the_edge() -> None:
    image = Image.new("RGBA", (256, 256), (255, 0, 0, 0))  # red, but transparent
    image.paste((0, 0, 255, 255), (64, 64, 192, 192))
    drawn = pixels(draw_bitmap(encoded(image), 32)[0]).astype(int)
    assert (drawn[..., 0] <= drawn[..., 2]).all()  # nowhere more red than blue


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "broken"),
        (b"\x89PNG\r\n\x1a\n", "broken"),
        (encoded(Image.new("RGBA", (50, 50), (9, 9, 9, 0))), "empty"),
        (encoded(Image.new("RGB", (50, 50), (255, 255, 255))), "empty"),
        (encoded(Image.new("RGB", (101, 50))), "extreme aspect"),
        (encoded(Image.new("RGB", (40, 90))), "extreme aspect"),
        (encoded(Image.new("RGB", (20, 20))), "too small"),
        (moving(), "animated"),
    ],
)
def test_what_cannot_be_used_has_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        draw_bitmap(content, 32)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "side", [13_000, 60_000]
)  # 169 and 3,600 megapixels: above both of Pillow's own limits
def test_a_huge_picture_is_refused_by_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(Unusable) as caught:
        draw_bitmap(content, 32)
    assert caught.value.reason == "too large"


@pytest.mark.parametrize("document", ["", "<svg", "not xml", '<svg xmlns="http://www.w3.org/2000/svg"/>'])
def test_broken_and_empty_documents_are_refused(document: str) -> None:
    with pytest.raises(Unusable):
        draw_svg(document, 32)


def test_cropping_keeps_the_middle() -> None:
    image = Image.new("RGB", (300, 60), (255, 0, 0))
    image.paste((0, 0, 255), (120, 0, 180, 60))
    drawn, seen = draw_bitmap(encoded(image), 32, Fit.CROP)
    assert (seen.width, seen.height) == (300, 60)
    assert (pixels(drawn) == [0, 0, 255]).all()


def turned(width: int, height: int, orientation: int) -> bytes:
    """A JPEG of red left of blue that lies as a phone may have held it."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_a_large_jpeg_is_decoded_small_and_judged_by_its_whole_size() -> None:
    drawn, seen = draw_bitmap(turned(900, 600, 6), 32)
    assert (seen.width, seen.height) == (600, 900)
    assert seen.image.size == (38, 57)  # an eighth in the file's own way, then half of that is too little
    assert pixels(drawn)[4, 16, 0] > 200
    assert pixels(drawn)[28, 16, 2] > 200
    with pytest.raises(Unusable, match="1001 x 500"):
        draw_bitmap(turned(1001, 500, 1), 32)  # reduced it would be 2 to 1


@pytest.mark.parametrize("size", [(1, 1), (31, 17), (64, 64)])
def test_a_png_that_is_written_quickly_has_every_pixel(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.open(io.BytesIO(quick_png(Image.fromarray(noise))))
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert np.array_equal(np.asarray(image), noise)


def test_png_is_the_same_for_the_same_picture() -> None:
    first, second = draw(svg(), 48, Fit.PAD).png, draw(svg(), 48, Fit.PAD).png
    assert first is not None
    assert first == second
    assert pixels(Image.open(io.BytesIO(first))).tolist() == pixels(draw_svg(svg(), 48)).tolist()


# --- drawings of others ---

LINKED = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">'
)


@pytest.mark.parametrize("name", ["href", "xlink:href"])
def test_no_file_is_opened_that_a_drawing_refers_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Image.new("RGB", (9, 9), (255, 0, 0)).save(tmp_path / "secret.png")
    os.mkfifo(tmp_path / "pipe")  # that would be waited for
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "secret.png", "secret.png", tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(Unusable, match="empty"):
            draw_svg(f'{LINKED}<image width="9" height="9" {name}="{place}"/></svg>', 32)
    inside = base64.b64encode((tmp_path / "secret.png").read_bytes()).decode()
    drawn = draw_svg(
        f'{LINKED}<image width="9" height="9" {name}="data:image/png;base64,{inside}"/></svg>', 32
    )
    assert drawn.getpixel((16, 16)) == (255, 0, 0)


@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("view", ["0 0 1 3000", "0 0 1 1e6", "0 0 3000 1"])
def test_a_drawing_that_is_far_too_long_gets_no_canvas(
    monkeypatch: pytest.MonkeyPatch, fit: Fit, view: str
) -> None:
    made: list[int] = []

    def opened(file: io.BytesIO) -> Image.Image:
        image = decode(file)
        made.append(image.width * image.height)
        return image

    decode = Image.open
    monkeypatch.setattr(Image, "open", opened)
    document = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}"><path d="M0 0h9999v9999z"/></svg>'
    with pytest.raises(Unusable, match="extreme aspect"):
        draw_svg(document, 256, fit)
    assert max(made) <= 1e6


def test_a_mistake_of_a_decoder_is_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicError(BaseException):
        """As the one of Rust, which is no Exception."""

    def panic(*arguments: object) -> None:
        raise PanicError("index out of bounds")

    monkeypatch.setattr("unclip.data.rasterise.draw_svg", panic)
    assert draw("<svg/>", 32, Fit.PAD).reason == "broken"
    assert draw(b"no picture", 32, Fit.PAD).reason == "broken"
    assert draw(encoded(Image.new("RGB", (40, 40))), 32, Fit.PAD).reason is None


def test_heic_is_no_broken_picture_where_the_extra_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unclip.images._reads_heic", lambda: False)
    found = draw(b"\0\0\0\x18ftypheic" + b"\0" * 64, 64, Fit.PAD)
    assert (found.reason, found.detail) == ("HEIC", "is HEIC: install unclip[heic] to read it")
