"""Pictures: opened, made tensors and back, fitted, encoded.

Tensors are float32 (B, 3, H, W), RGB, in [-1, 1]; arrays are uint8 (N, H, W, 3). The background is white.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from unclip.colour_profiles import ColourProfile
from unclip.errors import InputError, shown
from unclip.xmp import PNG_KEY, SourceType, gif_packet, source_type

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")
Source = str | Path | bytes | IO[bytes] | Image.Image | np.ndarray | Any
"""Whatever a picture may be handed in as: a path, the bytes of a file, an open file, a PIL image, an array
uint8 (H, W), (H, W, 3) or (H, W, 4), a tensor (3, H, W) in [-1, 1], or a `Picture` (it has a PIL `image`)."""
Fitting = Literal["pad", "crop", "crop-floor", "stretch"]  # see `fit`

BYTES = (bytes, bytearray, memoryview)
MAX_PIXELS = 50_000_000
MAX_SIDE = 2**18  # pixels: a longer line has nothing to show, and filters of its length fill the memory
MAX_METADATA_BYTES = 30_000  # doubled by UTF-16 this still fits the 64 KiB that JPEG gives to EXIF
# The kinds of pictures that are read, by everything that reads any: Pillow's name and the suffixes.
KINDS: Mapping[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif"),  # by the extra `heic`
}
READABLE = tuple(KINDS)
SUFFIXES = tuple(suffix for suffixes in KINDS.values() for suffix in suffixes)
NEEDS_HEIC = "is HEIC: install unclip[heic] to read it"
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")  # behind "ftyp", the first of a file's boxes
WHITE = (255, 255, 255)
BICUBIC_SUPPORT = 2  # pixels to each side of a result's pixel that the filter looks at
LONGEST_NAME = 4096  # characters of a path
LONGEST_RESIZED = 32  # squares: wider pictures are cropped before they are resized

JPEG_QUALITY = 92
WEBP_QUALITY = 90
PNG_COMPRESSION = 4  # of a drawing half the time of zlib's own 6, and 2 % more bytes

# EXIF orientations other than 1, and how what lies so is turned upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = (5, 6, 7, 8)  # those in which width and height change places
LARGEST_PROFILE = 2**20  # bytes: no larger one is read in a PNG
STRIP = 2**20  # pixels of a large picture that are converted at once
# EXIF 2.32, table 9: the eight bytes before a UserComment say how its text is encoded.
COMMENT_IS_UNICODE = b"UNICODE\0"


class ImageFormat(StrEnum):
    """The file formats that pictures are written in."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @classmethod
    def named(cls, name: str) -> ImageFormat:
        """The format called `name`, in any case, with or without a dot; "jpg" is JPEG.

        Raises:
            InputError: there is no such format.
        """
        plain = name.lower().lstrip(".")
        try:
            return cls("jpeg" if plain == "jpg" else plain)
        except ValueError:
            raise InputError(f"unknown picture format {shown(name)}: choose {', '.join(cls)}") from None


# --- opening ---


def open_image(source: Source, *, at_least: int | None = None, first_frame: bool = False) -> Image.Image:
    """A picture, however it is handed in: upright, 8 bits a channel, in sRGB, RGB (RGBA if transparent).

    Its size is judged by its header, before any pixel is decoded; what it is, by its content, not its name.

    Args:
        source: the picture, see `Source`.
        at_least: the pixels that are wanted of its shorter side, where it is to be reduced anyway: a large
            JPEG is then decoded at a half, a quarter or an eighth of its size, several times faster.
        first_frame: of what is animated or has several pages, take the first instead of refusing it.

    Raises:
        InputError: it is missing, not a picture, broken, animated, or has more than 50 megapixels.
    """
    return _read(source, _in_srgb, at_least, first_frame)


def several(sources: Sequence[Source] | Source) -> list[Source]:
    """The pictures of a list or of what else is gone through, or the one that is handed in alone."""
    if isinstance(sources, (list, tuple, Iterator)) and not hasattr(sources, "read"):  # a file gives lines
        return list(sources)
    return [sources]


def opened(source: Source) -> tuple[Image.Image, str]:
    """A picture and its hash: "sha256:..." of its file, or "pixels:..." of one that has none.

    Raises:
        InputError: as of `open_image`.
    """
    photo, digest = photograph(source)
    return photo.image, digest


@dataclass(frozen=True)
class Photo:
    """A picture as networks see it, and as its file has it.

    Attributes:
        image: RGB, or RGBA if transparent; upright, in sRGB.
        own: the same with the numbers of its file, which `profile` explains.
        profile: of `own`; None is sRGB. Of what is no RGB, or of a profile that cannot be drawn into or has
            more than 1 MiB, there is none, and `own` is `image`.
    """

    image: Image.Image
    own: Image.Image
    profile: ColourProfile | None

    def in_own_colours(self, drawn: Image.Image) -> Image.Image:
        """An RGB picture, in sRGB, with the numbers that `own` would have of it."""
        return drawn if self.profile is None else self.profile.from_srgb(drawn)

    def carried_by(self, image: Image.Image) -> Image.Image:
        """A picture of the numbers of `own` that says so to whoever looks at it, and to `encode`."""
        image.info = {} if self.profile is None else {"icc_profile": self.profile.data}
        return image


def photograph(source: Source) -> tuple[Photo, str]:
    """A picture with its own colours, and its hash, see `opened`.

    Raises:
        InputError: as of `open_image`.
    """
    if hasattr(source, "read"):
        source = _content(source, _describe(source))
    photo = _read(source, _with_own_colours)
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            return photo, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if isinstance(source, BYTES):
        return photo, f"sha256:{hashlib.sha256(source).hexdigest()}"
    pixels = photo.image.convert("RGBA")
    digest = hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest()
    return photo, f"pixels:{digest}"


def header(source: Source) -> tuple[int, int, Image.Exif]:
    """Width and height in pixels as they are shown, and EXIF, without decoding any pixel.

    Raises:
        InputError: it is missing, not a picture, or has more than 50 megapixels.
    """
    name = _describe(source)
    with _opened(source, name) as image:
        _check_size(image, name)
        return shown_size(image)


def shown_size(image: Image.Image) -> tuple[int, int, Image.Exif]:
    """As `header`, of a picture that Pillow has opened."""
    width, height = image.size
    try:
        exif = Image.Exif()
        if image.format != "PNG":
            exif = image.getexif()
        elif "exif" in image.info:  # a PNG's getexif would decode its pixels to look behind them
            exif.load(image.info["exif"])
        turned = exif.get(ExifTags.Base.Orientation, 1) in QUARTER_TURNS
    except Exception:  # what cannot be read of it is not there: the pixels may still be whole
        exif, turned = Image.Exif(), False
    return (height, width, exif) if turned else (width, height, exif)


def read_metadata(source: Source) -> dict[str, str]:
    """The text that `encode` wrote into a picture (and any other text in a PNG); empty if there is none.

    Raises:
        InputError: it is missing or not a picture.
    """
    name = _describe(source)
    with _opened(source, name) as image:
        _read_behind(image, name)
        if image.format == "PNG":
            texts = {str(key): str(value) for key, value in getattr(image, "text", {}).items()}
            texts.pop(PNG_KEY, None)  # `read_source_type` reads it
            return texts
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of broken EXIF: what can be read of it is read
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if not isinstance(comment, bytes) or not comment.startswith(COMMENT_IS_UNICODE):
        return {}
    text = comment[len(COMMENT_IS_UNICODE) :]
    # The byte order is EXIF's own, which other programs may change; JSON begins with a brace.
    try:
        found = json.loads(text.decode("utf-16-le" if text.startswith(b"{\0") else "utf-16-be"))
    except ValueError:
        return {}  # somebody else's comment
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _read_behind(image: Image.Image, name: str) -> None:
    """Text of a PNG may also stand behind its pixels. Raises InputError where they cannot be read."""
    if image.format == "PNG":
        try:
            image.load()
        except Exception as error:
            raise InputError(f"{name} is broken: {fault(error)}") from error


def read_source_type(source: Source) -> str | None:
    """The IPTC digital source type that the XMP of a picture names (see `xmp.SourceType`), or None.

    Raises:
        InputError: it is missing or not a picture.
    """
    name = _describe(source)
    with _opened(source, name) as image:
        _read_behind(image, name)
        packet = image.info.get("xmp") or image.info.get(PNG_KEY) or b""
        if image.format == "GIF" and (file := getattr(image, "fp", None)) is not None:
            file.seek(0)
            packet = gif_packet(file.read())
    return source_type(packet)


def _describe(source: Source) -> str:
    if isinstance(source, (str, Path)):
        return str(source) if len(str(source)) <= LONGEST_NAME else shown(str(source))
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return str(name) if isinstance(name, (str, Path)) and str(name) else "the picture"


@contextmanager
def _opened(source: Source, name: str) -> Iterator[Image.Image]:
    source = getattr(source, "image", source)  # a `Picture`
    if isinstance(source, Image.Image):
        if getattr(source, "tile", None) and getattr(source, "fp", None) is None:
            raise InputError(f"{name} was closed before it was read: hand in its path, or `load` it first")
        yield source
        return
    if isinstance(source, np.ndarray) or hasattr(source, "is_floating_point"):
        yield _of_numbers(source)
        return
    if hasattr(source, "read"):
        source = _content(source, name)
    if not isinstance(source, (str, Path, *BYTES)):
        raise InputError(
            f"{type(source).__name__} is no picture: hand in a path, a PIL image, an array, a tensor, bytes, "
            "an open file or a Picture"
        )
    _refuse_what_is_no_file(source, name)
    file = io.BytesIO(source) if isinstance(source, BYTES) else source
    try:
        image = Image.open(file, formats=READABLE if _reads_heic() else READABLE[:-1])
    except FileNotFoundError:
        raise InputError(f"no such file: {name}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{name} has more than {MAX_PIXELS // 10**6} megapixels: reduce it") from None
    except UnidentifiedImageError:
        if _is_heic(source):
            raise InputError(f"{name} {NEEDS_HEIC}") from None
        raise InputError(
            f"{name} is not a picture: hand in PNG, JPEG, WebP, AVIF, JPEG 2000, GIF, BMP, TIFF or HEIC"
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    except Exception as error:  # see `_read`
        raise InputError(f"{name} is broken: {fault(error)}") from error
    # A path is closed here; an open file stays its owner's business.
    with image:
        yield image


def _content(file: Any, name: str) -> bytes:
    """All of an open file, whatever has been read of it."""
    try:
        if not hasattr(file, "seekable") or file.seekable():
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {name}: {error}") from error
    if not isinstance(content, BYTES):
        raise InputError(f"{name} is open as text: open it with the mode 'rb'")
    return bytes(content)


def _refuse_what_is_no_file(source: Any, name: str) -> None:
    """A folder, a pipe or a device is refused at once: reading it would fail late, or never end."""
    if not isinstance(source, (str, Path)):
        return
    try:
        mode = os.stat(source).st_mode
    except (OSError, ValueError):
        return  # what is not there, or cannot be seen, is said when it is opened
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"cannot read {name}: it is {kind}, hand in a picture's file")


@cache
def _reads_heic() -> bool:
    """True where the extra `heic` is installed; its reader is registered with Pillow."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _is_heic(source: Any) -> bool:
    """True of HEIC, recognised by the box that its file begins with."""
    if isinstance(source, (str, Path)):
        with suppress(OSError), open(source, "rb") as file:
            return _is_heic(file.read(12))
    return isinstance(source, BYTES) and source[4:8] == b"ftyp" and bytes(source[8:12]) in HEIC_BRANDS


def _of_numbers(source: Any) -> Image.Image:
    """An array uint8 (H, W[, 1, 3 or 4]), or a tensor (3, H, W) or (1, 3, H, W) in [-1, 1]."""
    if not isinstance(source, np.ndarray):
        picture = source[0] if source.ndim == 4 and len(source) == 1 else source
        if (
            picture.ndim != 3
            or picture.shape[0] != 3
            or not picture.is_floating_point()
            or not picture.numel()
        ):
            raise InputError(
                f"a tensor {tuple(source.shape)} of {source.dtype}: hand in (3, H, W) of floats in [-1, 1]"
            )
        if not bool((picture.abs() <= 1).all()):  # NaN is not, either
            raise InputError("a tensor with values outside [-1, 1]: hand in (3, H, W) of floats in [-1, 1]")
        return to_pil(picture)
    array = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype == np.uint16 and array.ndim == 2:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8 or not shaped or not array.size:
        raise InputError(
            f"an array {source.shape} of {source.dtype}: hand in uint8 (H, W), (H, W, 3) or (H, W, 4)"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _read(
    source: Source,
    coloured: Callable[[Image.Image, str], Result],
    at_least: int | None = None,
    first_frame: bool = False,
) -> Result:
    """The picture that `coloured` makes, upright, of 8 bits a channel, and its name; see `open_image`."""
    name = _describe(source)
    with _opened(source, name) as image:
        _check_size(image, name)
        try:
            # MPO, the JPEG of many phones, also has several frames: thumbnails, the first is the picture
            if not first_frame and image.format != "MPO" and getattr(image, "is_animated", False):
                raise InputError(f"{name} is animated or has several pages: hand in a single picture")
            return coloured(_decoded(image, name, at_least), name)
        except InputError:
            raise
        except MemoryError:
            size = f"{image.width} x {image.height}"
            raise InputError(
                f"{name} has {size} pixels, too many for the memory there is: reduce it"
            ) from None
        except Exception as error:  # a decoder fed with a broken file raises nearly anything
            raise InputError(f"{name} is broken: {fault(error)}") from error


def fault(error: Exception) -> str:
    """The fault that a decoder found in a picture, for messages."""
    if "MAX_TEXT_CHUNK" in str(error):
        return "its profile or a text in it has more than 1 MiB, save it without"
    return str(error) or type(error).__name__


def _decoded(image: Image.Image, name: str, at_least: int | None) -> Image.Image:
    """A copy of a picture, upright, as L, RGB, RGBA, CMYK or LAB.

    Where it is reduced there are never two of its full size.
    """
    if at_least is not None:
        image.draft(None, (at_least, at_least))
    image.load()
    turn = TURNS.get(_orientation(image))
    times = 1 if at_least is None else min(image.size) // at_least
    image = _eight_bits(image, name) if times < 2 else _reduced(image, times, name)
    return image if turn is None else image.transpose(turn)


def _reduced(image: Image.Image, times: int, name: str) -> Image.Image:
    """As `_eight_bits`, so many times smaller, strip by strip."""
    rows = times * max(1, STRIP // (times * image.width))
    tops = range(0, image.height, rows)
    boxes = ((0, top, image.width, min(top + rows, image.height)) for top in tops)
    strips = [_eight_bits(image.crop(box), name).reduce(times) for box in boxes]
    whole = Image.new(strips[0].mode, (strips[0].width, sum(strip.height for strip in strips)))
    whole.info = strips[0].info
    for place, strip in enumerate(strips):
        whole.paste(strip, (0, place * rows // times))
    return whole


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8, or whatever else a file says."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if isinstance(found, int) else 1
    except Exception:  # what cannot be read of it is not there: the pixels may still be whole
        return 1


def _in_srgb(image: Image.Image, name: str) -> Image.Image:
    """A picture of `_decoded` as RGB or RGBA, as it looks where its numbers are of another colour space."""
    profile = ColourProfile.of(image, name)
    if profile is not None:
        image = profile.to_srgb(image, name)
    elif image.mode == "LAB":
        image = ColourProfile.lab().to_srgb(image, name)
    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    image.info = {}
    return image


def _with_own_colours(image: Image.Image, name: str) -> Photo:
    profile, shown = ColourProfile.of(image, name), _in_srgb(image.copy(), name)
    if profile is None or len(profile.data) > LARGEST_PROFILE or not profile.is_drawn_into:
        return Photo(shown, shown, None)
    return Photo(shown, image, profile)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if not width or not height:
        raise InputError(f"{name} has {width} x {height} pixels: hand in a picture that shows something")
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{name} has {width} x {height} pixels: a side of more than {MAX_SIDE} is not read, crop it"
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} megapixels: reduce it"
        )


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """A copy of `image` as L, CMYK or LAB where it is so, else RGB, or where it has transparency RGBA."""
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)  # (H, W) uint16
        grey = Image.fromarray((samples >> 8).astype(np.uint8))
        clear = image.info.get("transparency")
        if not isinstance(clear, int):
            grey.info = image.info
            return grey
        alpha = Image.fromarray(np.where(samples == clear, 0, 255).astype(np.uint8))
        return Image.merge("RGBA", (grey, grey, grey, alpha))
    if image.mode in ("I", "F"):
        raise InputError(f"{name} has 32 bits a channel: convert it to 8 or 16 bits")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.copy() if image.mode in ("CMYK", "LAB") else image.convert("RGB")


# --- tensors and arrays ---


def on_white(image: Image.Image) -> Image.Image:
    """`image` as RGB, what is transparent in it replaced by white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*WHITE, 255)), image).convert("RGB")


def to_tensor(image: Image.Image) -> torch.Tensor:
    """A picture as float32 (3, H, W) in [-1, 1], on white."""
    return from_uint8(np.asarray(on_white(image)))


def from_uint8(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (..., H, W, 3) as float32 (..., 3, H, W) in [-1, 1]."""
    import torch

    values = torch.from_numpy(np.array(pixels)).movedim(-1, -3)  # (..., 3, H, W)
    return values.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """(..., 3, H, W) in [-1, 1] as uint8 (..., H, W, 3), rounded; what lies outside is clipped."""
    import torch

    levels = images.detach().float().add(1).mul(127.5).round().clamp(0, 255)  # (..., 3, H, W)
    return levels.to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()


def to_pil(image: torch.Tensor) -> Image.Image:
    """One picture (3, H, W) in [-1, 1] as RGB; what lies outside is clipped.

    Raises:
        ValueError: the tensor has another shape, for example a batch.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"to_pil takes one picture (3, H, W), got {tuple(image.shape)}")
    return Image.fromarray(to_uint8(image))


def resize(images: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """(B, 3, H, W) resampled to `size` (height, width, or both) by bicubic filtering with antialiasing.

    The overshoot of the cubic is clipped to [-1, 1].
    """
    import torch.nn.functional as F

    target = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == target:
        return images
    return F.interpolate(images, size=target, mode="bicubic", antialias=True, align_corners=False).clamp(
        -1, 1
    )


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """All of `image`, uncropped, in the middle of a white square of `size` pixels."""
    return letterbox(on_white(image), size, WHITE)


def letterbox(
    image: Image.Image,
    size: int,
    background: int | tuple[int, ...],
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """All of `image`, of any mode, in the middle of a square of `size` pixels, `background` beside it."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    if width == height == size:
        return image
    square = Image.new(image.mode, (size, size), background)
    square.paste(image, ((size - width) // 2, (size - height) // 2))
    return square


def fit(image: Image.Image, size: int, how: Fitting) -> Image.Image:
    """`image` as a square of `size` pixels on white.

    "pad" shows all of it with white beside it, "crop" its middle as torchvision cuts it out (an odd margin is
    halved to an even number), "crop-floor" its middle as transformers does (an odd margin is rounded down),
    "stretch" all of it squeezed.
    """
    match how:
        case "pad":
            return fit_square(image, size)
        case "crop":
            return crop_square(image, size, round)
        case "crop-floor":
            return crop_square(image, size, math.floor)
        case "stretch":
            return on_white(image).resize((size, size), Image.Resampling.BICUBIC)


def crop_square(image: Image.Image, size: int, halved: Callable[[float], int] = math.floor) -> Image.Image:
    """The middle of `image`, as large as its shorter side allows, as a square of `size` pixels on white.

    As CLIP was trained: the shorter side becomes `size` by bicubic filtering, the longer one is rounded down,
    and the middle is cut out. `halved` rounds the half of what is left over: `round` to even.
    """
    image = on_white(image)
    shorter = min(image.size)
    width, height = (size * side // shorter for side in image.size)
    left, top = (halved((side - size) / 2) for side in (width, height))
    if max(width, height) <= LONGEST_RESIZED * size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        return image.crop((left, top, left + size, top + size))
    # without making what would be cut off: a line of 50 megapixels would become 224^2 times as large
    x0, x1, left_edge, right_edge = _needed(image.width, width, left, size)
    y0, y1, upper_edge, lower_edge = _needed(image.height, height, top, size)
    box = (left_edge, upper_edge, right_edge, lower_edge)
    return image.crop((x0, y0, x1, y1)).resize((size, size), Image.Resampling.BICUBIC, box)


def _needed(length: int, resized: int, first: int, size: int) -> tuple[int, int, float, float]:
    """The part of a side of `length`, to be `resized`, that its `size` pixels from `first` on need.

    Returns the first pixel and the one behind the last, and within these the edges of the middle.
    """
    scale = length / resized
    start, end = first * scale, (first + size) * scale
    reach = math.ceil(BICUBIC_SUPPORT * max(scale, 1))
    low, high = max(0, math.floor(start) - reach), min(length, math.ceil(end) + reach)
    return low, high, start - low, min(end, high) - low


# --- files ---


def encode(
    image: Image.Image,
    format: str | ImageFormat,
    metadata: Mapping[str, str] | None = None,
    *,
    quality: int | None = None,
    made: SourceType | None = None,
) -> bytes:
    """A picture as the bytes of a PNG, JPEG or WebP file.

    Metadata goes into text chunks of a PNG (one a key), and as one JSON object into the EXIF UserComment of
    JPEG and WebP. `read_metadata` gives it back. JPEG has no transparency: it is put on white. The colour
    profile that a picture carries (Pillow's `info`) goes into the file.

    Args:
        image: the picture.
        format: of the file.
        metadata: texts that go into it.
        quality: of JPEG and WebP, 0 to 100; None is 92 and 90. A PNG loses nothing and takes 100 alone.
        made: the part that a model had in it, which an XMP packet then says; None is no packet.

    Raises:
        InputError: an unknown format, a quality out of range, or more than 30,000 bytes of metadata.
    """
    chosen = ImageFormat.named(format)
    if quality is not None and not (
        0 <= quality <= 100 and (chosen is not ImageFormat.PNG or quality == 100)
    ):
        raise InputError(f"quality {quality} of {chosen}: choose from 0 to 100, of a PNG 100")
    # A prompt from a command line may hold bytes that are no text; files hold text only.
    texts = {key: value.encode("utf-8", "replace").decode() for key, value in (metadata or {}).items()}
    document = json.dumps(texts, ensure_ascii=False)
    if (length := len(document.encode())) > MAX_METADATA_BYTES:
        raise InputError(
            f"{length} bytes of metadata: at most {MAX_METADATA_BYTES} fit into a picture, shorten the prompt"
        )
    buffer, profile = io.BytesIO(), image.info.get("icc_profile")
    if chosen is ImageFormat.PNG:
        chunks = PngImagePlugin.PngInfo()
        for key, value in texts.items():
            if value.isascii():
                chunks.add_text(key, value)
            else:
                chunks.add_itxt(key, value)
        if made is not None:
            chunks.add_itxt(PNG_KEY, made.packet.decode())
        image.save(buffer, "PNG", pnginfo=chunks, compress_level=PNG_COMPRESSION, icc_profile=profile)
        return buffer.getvalue()
    exif = Image.Exif()
    if texts:
        comment = COMMENT_IS_UNICODE + document.encode("utf-16-le")
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    written: dict[str, Any] = {"exif": exif} if made is None else {"exif": exif, "xmp": made.packet}
    if chosen is ImageFormat.JPEG:
        # Colours at full resolution: halved, the edges of flat red shapes fray.
        quality = JPEG_QUALITY if quality is None else quality
        on_white(image).save(buffer, "JPEG", quality=quality, subsampling=0, icc_profile=profile, **written)
    else:
        quality = WEBP_QUALITY if quality is None else quality
        image.save(buffer, "WEBP", quality=quality, icc_profile=profile or b"", **written)
    return buffer.getvalue()
