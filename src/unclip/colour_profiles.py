"""Colour profiles (ICC) of pictures: into sRGB, which networks see, and back."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from unclip.errors import warn

SRGB = ImageCms.createProfile("sRGB")
ROUNDING = 2  # levels of 256 by which conversions between sRGB profiles of different makers differ
LEVELS = (0, 64, 128, 192, 255)  # of each colour, at which a profile is compared with sRGB
MODES = {"RGB": ("RGB", "RGBA"), "GRAY": ("L",), "CMYK": ("CMYK",), "Lab": ("LAB",)}  # Pillow's, of a space


@dataclass(frozen=True)
class ColourProfile:
    """A profile that can be read.

    Attributes:
        data: its bytes, as files hold them.
        space: of its numbers, a key of `MODES`.
    """

    data: bytes
    space: str

    @classmethod
    def of(cls, image: Image.Image, name: str) -> ColourProfile | None:
        """The profile that a picture carries; None where there is none, or one of another space.

        Warns where it cannot be read; `name` is the picture's.
        """
        data = image.info.get("icc_profile")
        if not data:
            return None
        try:
            space = ImageCms.ImageCmsProfile(io.BytesIO(data)).profile.xcolor_space.strip()
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            _warn(name)
            return None
        return cls(data, space) if image.mode in MODES.get(space, ()) else None

    @classmethod
    def lab(cls) -> ColourProfile:
        """Of CIE L*a*b* numbers, which need none."""
        return cls(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), "Lab")

    @property
    def is_srgb(self) -> bool:
        """True where the numbers are sRGB's, whatever the profile is called."""
        if self.space != "RGB":
            return False
        grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), -1).astype(np.uint8)  # (5, 5, 5, 3)
        numbers = Image.fromarray(grid.reshape(1, -1, 3))
        shown = np.asarray(self._converted(numbers, to_srgb=True), dtype=int)
        return bool(np.abs(shown - np.asarray(numbers)).max() <= ROUNDING)

    @property
    def is_drawn_into(self) -> bool:
        """True where sRGB can be converted into its RGB; profiles of scanners know the other way alone."""
        if self.space != "RGB":
            return False
        try:
            self.from_srgb(Image.new("RGB", (1, 1)))
        except (ImageCms.PyCMSError, ValueError):
            return False
        return True

    def to_srgb(self, image: Image.Image, name: str) -> Image.Image:
        """A picture of the profile's numbers as sRGB, RGB or RGBA; transparency stays.

        Warns where the profile has no tables for it; its numbers are then taken for sRGB.
        """
        try:
            return image if self.is_srgb else self._converted(image, to_srgb=True)
        except (ImageCms.PyCMSError, ValueError):
            _warn(name)
            return image

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """An RGB picture in the profile's numbers. Raises PyCMSError unless `is_drawn_into`."""
        return image if self.is_srgb else self._converted(image, to_srgb=False)

    def _converted(self, image: Image.Image, *, to_srgb: bool) -> Image.Image:
        own = ImageCms.ImageCmsProfile(io.BytesIO(self.data))
        before, after = (own, SRGB) if to_srgb else (SRGB, own)
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, before, after, outputMode=mode)
        assert converted is not None  # only done in place it returns nothing
        return converted


def _warn(name: str) -> None:
    warn(f"the colour profile of {name} cannot be read: its numbers are taken for sRGB")
