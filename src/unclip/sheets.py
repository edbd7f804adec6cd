"""Pictures to look at: laid out on a sheet, or as text in a terminal."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from unclip.images import WHITE, on_white

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Fonts with Hangul first, then wide Latin ones. Looked for by name in the system's font folders.
CAPTION_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansKR-Regular.otf",
    "NotoSansKR-Regular.ttf",
    "NanumGothic.ttf",
    "UnDotum.ttf",
    "AppleSDGothicNeo.ttc",
    "malgun.ttf",
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
)


def contact_sheet(
    images: Sequence[Image.Image], columns: int, captions: Sequence[str] | None = None, gap: int = 8
) -> Image.Image:
    """Pictures in rows of `columns` on white, each as large as the largest, with a caption beneath if given.

    Captions are drawn in a font of the system that has their letters (Hangul included). Letters that no font
    found here has are left out, so that no caption shows empty boxes.

    Raises:
        ValueError: no pictures, no columns, or a number of captions that is not the number of pictures.
    """
    if not images or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns, got {len(images)} and {columns}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"got {len(captions)} captions for {len(images)} pictures")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width = max(image.width for image in images)
    height = max(image.height for image in images)
    letters = max(10, width // 16)
    below = round(letters * 1.6) if captions else 0
    size = (columns * (width + gap) + gap, rows * (height + below + gap) + gap)
    sheet = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        left = gap + index % columns * (width + gap)
        top = gap + index // columns * (height + below + gap)
        sheet.paste(on_white(image), (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if captions:
            font, text = _drawable(" ".join(captions[index].split()), letters)
            text = _shortened(text, font, width)
            x = left + (width - font.getlength(text)) / 2
            draw.text((x, top + height + letters * 0.2), text, fill=(40, 40, 40), font=font)
    return sheet


@functools.cache
def _caption_fonts(size: int) -> list[Font]:
    """The caption fonts that this system has, and Pillow's own last."""
    fonts: list[Font] = []
    for name in CAPTION_FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size, layout_engine=ImageFont.Layout.BASIC))
        except OSError:  # not installed
            continue
    return [*fonts, ImageFont.load_default(size)]


def _drawable(text: str, size: int) -> tuple[Font, str]:
    """The font that has the most letters of `text`, and `text` without the letters that it lacks."""
    best, kept = None, ""
    for font in _caption_fonts(size):
        found = "".join(letter for letter in text if letter == " " or _has_glyph(font, letter))
        if best is None or len(found) > len(kept):
            best, kept = font, found
        if kept == text:
            break
    assert best is not None  # Pillow's own font is always there
    return best, " ".join(kept.split())


@functools.cache
def _has_glyph(font: Font, letter: str) -> bool:
    # A font draws what it lacks as its box for missing letters; U+10FFFF is a letter that no font has.
    missing, mask = font.getmask("\U0010ffff"), font.getmask(letter)
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))


def _shortened(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def half_blocks(image: Image.Image, columns: int) -> str:
    """A picture as text for a terminal with 24-bit colour: each letter is two pixels, one above the other.

    Raises:
        ValueError: fewer than one column.
    """
    if columns < 1:
        raise ValueError(f"a picture needs at least one column, got {columns}")
    image = on_white(image)
    rows = max(1, round(image.height * columns / image.width / 2))
    pixels = np.asarray(image.resize((columns, rows * 2), Image.Resampling.BOX))  # (2 * rows, columns, 3)
    lines = []
    for upper, lower in zip(pixels[0::2], pixels[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{r};{g};{b};48;2;{x};{y};{z}m▀"
            for (r, g, b), (x, y, z) in zip(upper.tolist(), lower.tolist(), strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
