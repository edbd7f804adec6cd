"""Draws a picture of any source as a square RGB image on white."""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
import resvg_py
from PIL import Image, ImageOps, UnidentifiedImageError

from unclip.data.filters import THUMB
from unclip.data.records import Fit
from unclip.errors import DataError, InputError
from unclip.images import (
    LONGEST_RESIZED,
    MAX_PIXELS,
    NEEDS_HEIC,
    WHITE,
    encode,
    fault,
    letterbox,
    on_white,
    open_image,
)
from unclip.processes import no_opening

INK = 250  # a pixel with a channel below this is not background
MARGIN = 0.04  # of the square's side, left free around a trimmed picture
ASPECT_LIMIT = 2.0
LEAST_SIDE = 32  # pixels of a bitmap's longer side; a smaller one is a blur in any size that is trained
DPI = 96.0  # CSS's reference pixel
IN_DOUBT = 0.5  # what a length in whole pixels may be wrong by


class Unusable(DataError):
    """A picture that does not go into a corpus. `reason` is one of a few words, to be counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Drawn:
    """A drawn picture, or the `reason` and its `detail` why there is none."""

    reason: str | None = None
    detail: str = ""
    width: int = 0  # pixels of the source's longer side; 0 for a vector drawing
    png: bytes | None = None
    hash: bytes | None = None
    thumb: bytes | None = None  # uint8 (32, 32, 3)


def draw(content: str | bytes, size: int, fit: Fit) -> Drawn:
    """Draws an SVG document or a bitmap; whatever goes wrong is the picture's fault and said in the result.

    To be called in a process that may die of it (`processes.Contained`).
    """
    try:
        width = 0
        if isinstance(content, str):
            image = draw_svg(content, size, fit)
        else:
            image, width = draw_bitmap(content, size, fit)
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        thumb = np.asarray(image.resize((THUMB, THUMB))).tobytes()
        return Drawn(width=width, png=encode(image, "png"), hash=digest, thumb=thumb)
    except Unusable as error:
        return Drawn(error.reason, error.detail)
    except MemoryError:
        return Drawn("too large", "it does not fit into the memory of a picture")
    except BaseException as error:  # a panic in Rust is no Exception
        return Drawn("broken", f"{type(error).__name__}: {error}")


def draw_svg(svg: str, size: int, fit: Fit = Fit.PAD) -> Image.Image:
    """Renders an SVG document so that its longer side has `size` pixels, on a white square (size, size).

    No fonts of the machine are used, so that text which is not paths stays out and a picture is the same
    everywhere. No file is opened, whatever the document refers to; meanwhile no other thread can, either.

    Raises:
        Unusable: the document is broken or empty, or longer than 2 to 1 (cropped, than 32 to 1).
    """
    image = _render(svg, size, fit)
    if fit is Fit.TRIM:
        # Drawn again so large that what is cut out has the wanted size, instead of enlarging pixels.
        box = _content(image)
        scale = max(image.size) / max(box[2] - box[0], box[3] - box[1])
        if scale > 1.05:
            image = _render(svg, min(round(size * scale), 4 * size), fit)
    return _square(image, size, fit)


def draw_bitmap(content: bytes, size: int, fit: Fit = Fit.PAD) -> tuple[Image.Image, int]:
    """Decodes a picture; returns the white square (size, size) and the longer side that the source has of
    it.

    Raises:
        Unusable: broken, empty, animated, of more than 50 megapixels, under 32 pixels, or longer than 2
        to 1 (unless it is cropped).
    """
    _check_header(content)
    try:
        image = on_white(open_image(content))
    except InputError as error:
        said = str(error).removeprefix("the picture ")
        raise Unusable("HEIC" if said == NEEDS_HEIC else "broken", said) from error
    if fit is Fit.TRIM:
        image = image.crop(_content(image))
    if max(image.size) < LEAST_SIDE:
        raise Unusable("too small", f"{image.width} x {image.height}")
    return _square(image, size, fit), max(image.size)


def _check_header(content: bytes) -> None:
    """Tells a picture that is too large, or moves, from a broken one, before anything is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is the stricter one
            with Image.open(io.BytesIO(content)) as image:
                pixels, moves = image.width * image.height, getattr(image, "is_animated", False)
    except Image.DecompressionBombError as error:
        raise Unusable("too large", str(error)) from error
    except UnidentifiedImageError:
        return  # `open_image` says what it is
    except Exception as error:  # a decoder fed with a broken file raises nearly anything
        raise Unusable("broken", fault(error)) from error
    if pixels > MAX_PIXELS:
        raise Unusable("too large", f"{pixels:,} pixels")
    if moves and image.format != "MPO":  # as in `open_image`
        raise Unusable("animated")


def _render(svg: str, size: int, fit: Fit) -> Image.Image:
    """The document on white with its longer side `size`; when it is to be cropped, its shorter one."""
    limit = LONGEST_RESIZED if fit is Fit.CROP else ASPECT_LIMIT
    try:
        drawn = _resvg(svg, width=1)
        if drawn.height <= limit + IN_DOUBT:
            drawn = _resvg(svg, width=size)
        if drawn.height > limit * drawn.width or (fit is Fit.CROP and drawn.width > limit * drawn.height):
            raise Unusable("extreme aspect", f"{drawn.width} x {drawn.height}")
        if (drawn.height > size) if fit is not Fit.CROP else (drawn.height < size):
            drawn = _resvg(svg, height=size)
        return on_white(drawn)
    except ValueError as error:  # resvg's only error
        raise Unusable("broken", str(error)) from error


def _resvg(svg: str, *, width: int | None = None, height: int | None = None) -> Image.Image:
    # dpi: without one, a document whose size is in points is "of invalid size"
    with no_opening():
        drawn = resvg_py.svg_to_bytes(
            svg_string=svg, width=width, height=height, dpi=DPI, skip_system_fonts=True
        )
    return Image.open(io.BytesIO(bytes(drawn)))


def _content(image: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of what is not white."""
    box = Image.fromarray((np.asarray(image).min(axis=2) < INK).astype(np.uint8)).getbbox()
    if box is None:
        raise Unusable("empty")
    return box


def _square(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    if fit is Fit.TRIM:
        image = image.crop(_content(image))
    if fit is Fit.CROP:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if not 1 / ASPECT_LIMIT <= image.width / image.height <= ASPECT_LIMIT:
        raise Unusable("extreme aspect", f"{image.width} x {image.height}")
    margin = round(size * MARGIN) if fit is Fit.TRIM else 0
    square = ImageOps.expand(letterbox(image, size - 2 * margin, WHITE), margin, WHITE)
    _content(square)  # refuses an empty picture
    return square
