"""Pictures of any shape made square, as the networks take them."""

from __future__ import annotations

from enum import StrEnum

from PIL import Image

from unclip.errors import InputError, shown
from unclip.images import WHITE, letterbox, on_white

LARGEST = 1024  # pixels a side of what is made square before a network reduces it


class Fit(StrEnum):
    """The ways to make a picture square."""

    LETTERBOX = "letterbox"  # all of it in the middle; beside it white, or what is drawn in after a text
    CROP = "crop"  # its middle
    STRETCH = "stretch"  # all of it, pulled to a square

    @classmethod
    def named(cls, name: str) -> Fit:
        """The way of this name. Raises InputError that lists them where there is none."""
        try:
            return cls(name)
        except ValueError:
            raise InputError(f"unknown fit {shown(name)}: choose {', '.join(cls)}") from None


def fitted(
    image: Image.Image,
    size: int,
    fit: Fit,
    background: int | tuple[int, ...] = WHITE,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> Image.Image:
    """A square of `size` pixels, of the mode of `image`; one that is so already stays bit for bit.

    Args:
        image: of any shape, smaller ones are enlarged.
        size: side in pixels.
        fit: how it becomes square.
        background: what a letterbox has beside it, in the mode of `image`.
        resample: the filter.
    """
    if fit is Fit.LETTERBOX:
        return letterbox(image, size, background, resample)
    if fit is Fit.CROP:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image if image.size == (size, size) else image.resize((size, size), resample)


def squared(image: Image.Image, fit: Fit) -> Image.Image:
    """`image` as a square on white, of its own resolution up to `LARGEST`; a square one stays as it is."""
    if image.width == image.height:
        return image
    side = min(image.size) if fit is Fit.CROP else max(image.size)
    return fitted(on_white(image), min(side, LARGEST), fit)
