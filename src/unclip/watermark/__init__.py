"""An invisible watermark: 64 bits in the pixels of a picture, which say that it was drawn, and by what.

It outlives what metadata do not: saving anew as JPEG, cutting, mirroring, another size (docs/provenance.md
has the figures). It proves little: anybody who has this program can put one into any picture, and whoever
wants to can take it out. `code` is the error-correcting code, `pattern` what is added to a picture,
`embedding` adds it and `detection` finds it; numpy and Pillow do the work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from PIL import Image

from unclip.errors import InputError
from unclip.watermark import detection, embedding

WEIGHTS_DIGITS = 12  # hexadecimal: 48 bits
VERSION_BITS = (4, 6, 6)  # of its three numbers


@dataclass(frozen=True)
class Mark:
    """The content of a watermark.

    Attributes:
        weights: of the model, `Bundle.identity`: twelve hexadecimal digits.
        version: of unclip, three numbers below 16, 64 and 64.

    Raises:
        InputError: others.
    """

    weights: str
    version: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not re.fullmatch(f"[0-9a-f]{{{WEIGHTS_DIGITS}}}", self.weights):
            raise InputError(
                f"weights {self.weights!r}: a watermark holds {WEIGHTS_DIGITS} hexadecimal digits"
            )
        if not all(0 <= part < 2**bits for part, bits in zip(self.version, VERSION_BITS, strict=True)):
            raise InputError(f"version {self.version}: a watermark holds numbers below 16, 64 and 64")

    @classmethod
    def of(cls, weights: str, version: str) -> Mark:
        """The mark of weights and of a version such as "1.2.3.dev4", of which three numbers are kept."""
        numbers = [int(part) for part in re.findall(r"\d+", version)[:3]]
        major, minor, patch = [*numbers, 0, 0, 0][:3]
        return cls(weights, (major, minor, patch))

    @property
    def payload(self) -> int:
        """64 bits."""
        bits = int(self.weights, 16)
        for part, count in zip(self.version, VERSION_BITS, strict=True):
            bits = (bits << count) | part
        return bits

    @classmethod
    def from_payload(cls, payload: int) -> Mark:
        """The mark of 64 bits."""
        parts = []
        for count in reversed(VERSION_BITS):
            parts.append(payload & (2**count - 1))
            payload >>= count
        patch, minor, major = parts
        return cls(f"{payload:0{WEIGHTS_DIGITS}x}", (major, minor, patch))

    def __str__(self) -> str:
        return f"weights {self.weights}, unclip {'.'.join(map(str, self.version))}"


@dataclass(frozen=True)
class Reading:
    """A mark that was found in a picture.

    Attributes:
        mark: what it says.
        scale: how much larger the picture was made since it was marked, down and across.
        mirrored: whether left and right have changed places.
    """

    mark: Mark
    scale: tuple[float, float]
    mirrored: bool


def embed(image: Image.Image, mark: Mark, keep: Image.Image | None = None) -> Image.Image:
    """A picture with a watermark, or the same picture where too little of it may be changed.

    Args:
        image: RGB or RGBA.
        mark: what it says.
        keep: mode L, of the same size; only where it is 0 are pixels changed. None is everywhere.
    """
    return embedding.embed(image, mark.payload, keep)


def read_mark(image: Image.Image) -> Reading | None:
    """The watermark of a picture, or None; where there is none, one is seen less than once in a million."""
    found = detection.detect(image)
    if found is None:
        return None
    return Reading(Mark.from_payload(found.payload), found.scale, found.mirrored)
