"""Frames in one file: a moving GIF or WebP, or a sheet."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PIL import Image

from unclip.drawing import Picture, Sign
from unclip.errors import InputError, UnclipError
from unclip.images import WEBP_QUALITY, ImageFormat, encode
from unclip.runtime import atomic_path, check_writable
from unclip.sheets import contact_sheet
from unclip.xmp import SourceType, with_packet

FRAME_MILLISECONDS = 120
COLUMNS = 8  # of a sheet at most


class StripKind(StrEnum):
    """The kinds of file that hold all frames."""

    GIF = "gif"
    WEBP = "webp"
    SHEET = "sheet"


@dataclass(frozen=True)
class Strip:
    """A file that holds all frames; what is there is replaced, as whoever named it wants.

    Attributes:
        kind: what it is.
        path: a GIF's ends in .gif, a moving WebP's in .webp, a sheet's in a suffix of a picture format.

    Raises:
        InputError: another suffix, or a name or folder that cannot be written to.
    """

    kind: StripKind
    path: Path

    def __post_init__(self) -> None:
        if self.kind is StripKind.SHEET:
            ImageFormat.named(self.path.suffix)
        elif self.path.suffix.lower() != f".{self.kind}":
            raise InputError(f"--{self.kind} writes {self.path}: choose a name that ends in .{self.kind}")
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder: choose another name")
        check_writable(self.path.parent)

    def write(
        self,
        pictures: Sequence[Picture],
        *,
        metadata: bool = True,
        provenance: bool = True,
        watermark: bool = False,
        sign: Sign | None = None,
    ) -> None:
        """Write the pictures, in their order, whole or not at all; the switches as of `Picture.encode`.

        Raises:
            UnclipError: the file cannot be written.
        """
        images = [picture.watermarked if watermark else picture.image for picture in pictures]
        texts = pictures[0].metadata if metadata else {}
        made = pictures[0].made if provenance else None
        if self.kind is StripKind.SHEET:
            columns = min(COLUMNS, math.ceil(len(images) / math.ceil(len(images) / COLUMNS)))
            data = encode(contact_sheet(images, columns), self.path.suffix, texts, made=made)
        else:
            data = moving(images, self.kind, texts, made)
        if sign is not None:
            data = sign(data, pictures[0].made)
        try:
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise UnclipError(f"cannot write {self.path}: {error.strerror or error}") from error


def moving(
    images: Sequence[Image.Image],
    kind: StripKind,
    texts: dict[str, str],
    made: SourceType | None = None,
    *,
    milliseconds: int = FRAME_MILLISECONDS,
) -> bytes:
    """Pictures of one size as a GIF or WebP that runs for ever, each shown for so many milliseconds.

    `texts` go into it as one JSON object, and `made`, the part that a model had in it, as XMP.
    """
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": list(images[1:]), "duration": milliseconds, "loop": 0}
    document = json.dumps(texts).encode()
    if kind is StripKind.GIF:
        images[0].save(buffer, "GIF", comment=document, **options)
        return buffer.getvalue() if made is None else with_packet(buffer.getvalue(), made.packet)
    exif = Image.open(io.BytesIO(encode(images[0], ImageFormat.WEBP, texts))).info.get("exif", b"")
    xmp = {} if made is None else {"xmp": made.packet}
    images[0].save(buffer, "WEBP", quality=WEBP_QUALITY, exif=exif, **options, **xmp)
    return buffer.getvalue()
