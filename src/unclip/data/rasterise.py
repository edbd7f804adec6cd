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
from unclip.data.quick_png import quick_png
from unclip.data.records import Fit
from unclip.errors import DataError, InputError
from unclip.images import (
    LONGEST_RESIZED,
    MAX_PIXELS,
    NEEDS_HEIC,
    WHITE,
    encode,
    fault,
    header,
    letterbox,
    on_white,
    open_image,
    shown_size,
)
from unclip.processes import no_opening

INK = 250  # a pixel with a channel below this is not background
MARGIN = 0.04  # of the square's side, left free around a trimmed picture
ASPECT_LIMIT = 2.0
LEAST_SIDE = 32  # pixels of a bitmap's longer side; a smaller one is a blur in any size that is trained
DPI = 96.0  # CSS's reference pixel
# Pixels. PDQ reduces to 64 itself, but pdqhash takes its samples beside the middle of what they stand for:
# of a larger picture the hash that it gives for its mirror image is 29 bits from that of the mirror image.
PDQ_SIDE = 64
PREVIEW = 160  # pixels of the longer side of what the report shows of a picture that is dropped
IN_DOUBT = 0.5  # what a length in whole pixels may be wrong by


class Unusable(DataError):
    """A picture that does not go into a corpus. `reason` is one of a few words, to be counted; `seen` is
    there where the picture could be decoded.
    """

    def __init__(self, reason: str, detail: str = "", seen: Seen | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.seen = seen


@dataclass(frozen=True)
class Seen:
    """A bitmap as it was decoded: `image`, perhaps reduced, and the size of the whole in pixels, upright."""

    image: Image.Image
    width: int
    height: int

    @property
    def longer(self) -> int:
        """Pixels of the longer side."""
        return max(self.width, self.height)

    @property
    def aspect(self) -> float:
        """The width over the height."""
        return self.width / self.height


@dataclass(frozen=True)
class Limits:
    """The limits within which a picture is drawn, and what is measured of it.

    Attributes:
        aspect: the longer side over the shorter one, at most.
        least_side: pixels of a bitmap's longer side, at least.
        animated: of what moves the first frame is drawn; otherwise it is refused.
        perceptual: its PDQ hashes are taken.
    """

    aspect: float = ASPECT_LIMIT
    least_side: int = LEAST_SIDE
    animated: bool = False
    perceptual: bool = False


@dataclass(frozen=True)
class Drawn:
    """A drawn picture, or the `reason` and its `detail` why there is none."""

    reason: str | None = None
    detail: str = ""
    width: int = 0  # pixels of the source's longer side; 0 for a vector drawing
    aspect: float = 0.0  # the source's width over its height; 0 where it is not known
    png: bytes | None = None
    preview: bytes | None = None  # a small PNG of a picture that is not used
    hash: bytes | None = None
    thumb: bytes | None = None  # uint8 (32, 32, 3)
    pdq: bytes | None = None  # 8 hashes of 32 bytes: as it is, and the seven other ways to turn and mirror it
    quality: int = 0  # of the hash, 0 to 100


def draw(content: str | bytes, size: int, fit: Fit, limits: Limits = Limits()) -> Drawn:
    """Draws an SVG document or a bitmap; whatever goes wrong is the picture's fault and said in the result.

    To be called in a process that may die of it (`processes.Contained`).
    """
    try:
        width, aspect = 0, 1.0
        if isinstance(content, str):
            whole = image = draw_svg(content, size, fit, limits)
            png = encode(image, "png")  # flat: to look for repeats halves it
        else:
            image, seen = draw_bitmap(content, size, fit, limits)
            width, aspect, whole = seen.longer, seen.aspect, seen.image
            png = quick_png(image)
        pdq, quality = hashed(whole) if limits.perceptual else (None, 0)
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        thumb = np.asarray(image.resize((THUMB, THUMB))).tobytes()
        return Drawn(width=width, aspect=aspect, png=png, hash=digest, thumb=thumb, pdq=pdq, quality=quality)
    except Unusable as error:
        if error.seen is None:
            return Drawn(error.reason, error.detail)
        return Drawn(
            error.reason,
            error.detail,
            width=error.seen.longer,
            aspect=error.seen.aspect,
            preview=_preview(error.seen.image),
        )
    except MemoryError:
        return Drawn("too large", "it does not fit into the memory of a picture")
    except BaseException as error:  # a panic in Rust is no Exception
        return Drawn("broken", f"{type(error).__name__}: {error}")


def hashed(image: Image.Image) -> tuple[bytes, int]:
    """The PDQ hash of a picture, as it is and turned and mirrored in the seven other ways (8 x 32 bytes),
    and its quality, 0 to 100; below 50 a picture has too little in it to be told by its hash.
    """
    import pdqhash  # of the extra `prepare`

    small = image.resize((PDQ_SIDE, PDQ_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    bits, quality = pdqhash.compute_dihedral(np.asarray(small))
    return np.packbits(np.stack(bits).astype(np.uint8), axis=1).tobytes(), int(quality)


def _preview(image: Image.Image) -> bytes:
    small = on_white(image)
    small.thumbnail((PREVIEW, PREVIEW))
    return encode(small, "png")


def draw_svg(svg: str, size: int, fit: Fit = Fit.PAD, limits: Limits = Limits()) -> Image.Image:
    """Renders an SVG document so that its longer side has `size` pixels, on a white square (size, size).

    No fonts of the machine are used, so that text which is not paths stays out and a picture is the same
    everywhere. No file is opened, whatever the document refers to; meanwhile no other thread can, either.

    Raises:
        Unusable: the document is broken or empty, or longer than 2 to 1 (cropped, than 32 to 1).
    """
    image = _render(svg, size, fit, limits)
    if fit is Fit.TRIM:
        # Drawn again so large that what is cut out has the wanted size, instead of enlarging pixels.
        box = _content(image)
        scale = max(image.size) / max(box[2] - box[0], box[3] - box[1])
        if scale > 1.05:
            image = _render(svg, min(round(size * scale), 4 * size), fit, limits)
        image = image.crop(_content(image))
    if fit is not Fit.CROP:
        _check_aspect(image.width, image.height, limits, None)
    return _square(image, size, fit)


def draw_bitmap(
    content: bytes, size: int, fit: Fit = Fit.PAD, limits: Limits = Limits()
) -> tuple[Image.Image, Seen]:
    """Decodes a picture; returns the white square (size, size) and what of the source it is drawn from.

    Of a larger picture that is drawn whole no more is decoded than is needed (`images.open_image`).

    Raises:
        Unusable: broken, empty, animated, of more than 50 megapixels, under 32 pixels, or longer than 2
        to 1 (unless it is cropped).
    """
    moves, width, height = _check_header(content, limits)
    try:
        source = _first_frame(content) if moves else content
        image = open_image(source, at_least=None if fit is Fit.TRIM else size)
        if not width:  # of a kind that Pillow knows only since it was opened
            width, height, _ = header(source)
        if image.mode != "RGB":
            image = on_white(image)
    except InputError as error:
        said = str(error).removeprefix("the picture ")
        raise Unusable("HEIC" if said == NEEDS_HEIC else "broken", said) from error
    if fit is Fit.TRIM:  # of the whole: the rest may be so much smaller
        image = image.crop(_content(image))
        width, height = image.size
    seen = Seen(image, width, height)
    if seen.longer < limits.least_side:
        raise Unusable("too small", f"{width} x {height}", seen)
    if fit is not Fit.CROP:
        _check_aspect(width, height, limits, seen)
    return _square(image, size, fit), seen


def _first_frame(content: bytes) -> bytes:
    """The first picture of those in an animation, as PNG."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return encode(image.convert("RGBA"), "png")
    except Exception as error:  # as in `_check_header`
        raise Unusable("broken", fault(error)) from error


def _check_header(content: bytes, limits: Limits) -> tuple[bool, int, int]:
    """Tells a picture that is too large, or moves, from a broken one, before anything is decoded.

    Returns:
        True of one that moves and may; width and height in pixels, upright.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is the stricter one
            with Image.open(io.BytesIO(content)) as image:
                pixels, moves = image.width * image.height, getattr(image, "is_animated", False)
                moves = moves and image.format != "MPO"  # as in `open_image`
                width, height, _ = shown_size(image)
    except Image.DecompressionBombError as error:
        raise Unusable("too large", str(error)) from error
    except UnidentifiedImageError:
        return False, 0, 0  # `open_image` says what it is
    except Exception as error:  # a decoder fed with a broken file raises nearly anything
        raise Unusable("broken", fault(error)) from error
    if pixels > MAX_PIXELS:
        raise Unusable("too large", f"{pixels:,} pixels")
    if moves and not limits.animated:
        raise Unusable("animated")
    return moves, width, height


def _render(svg: str, size: int, fit: Fit, limits: Limits) -> Image.Image:
    """The document on white with its longer side `size`; when it is to be cropped, its shorter one."""
    limit = LONGEST_RESIZED if fit is Fit.CROP else limits.aspect
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


def _check_aspect(width: int, height: int, limits: Limits, seen: Seen | None) -> None:
    if not 1 / limits.aspect <= width / height <= limits.aspect:
        raise Unusable("extreme aspect", f"{width} x {height}", seen)


def _square(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    if fit is Fit.CROP:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    margin = round(size * MARGIN) if fit is Fit.TRIM else 0
    square = ImageOps.expand(letterbox(image, size - 2 * margin, WHITE), margin, WHITE)
    if np.asarray(square).min() >= INK:
        raise Unusable("empty")
    return square
