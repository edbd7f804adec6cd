"""Masks of edits, as other programs make them: transparent or white is what is drawn anew; soft edges.

A mask becomes a picture of shares, mode L: 0 where the picture stays, 255 where it is drawn, between them
where both are blended.
"""

from __future__ import annotations

import operator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageFilter

from unclip.errors import InputError, shown, warn
from unclip.given import KEPT, REDRAWN

WHITE_FROM = 128  # level of a mask without transparency from which it is white
SOFT_FROM = 8  # level of a soft edge from which anything is drawn: below is what JPEG makes of black
OWN_EDGE = "mask"  # in place of a width: the mask's own soft edge
WIDEST_FEATHER = 512  # pixels
DRAWN, STAYS = 255, 0  # levels of shares
LEAST_REDRAWN = 0.0005  # of a picture, that a mask is likely to be meant for

Feather = int | str


def checked_feather(feather: Feather | None) -> Feather:
    """The width of an edge in pixels, or `OWN_EDGE`; 0 in place of None. Raises InputError for another."""
    if feather is None or feather == OWN_EDGE:
        return feather or 0
    try:
        if isinstance(feather, bool):
            raise TypeError
        width = int(feather) if isinstance(feather, str) else operator.index(feather)
    except (TypeError, ValueError):
        width = -1
    if not 0 <= width <= WIDEST_FEATHER:
        raise InputError(
            f"feather is {shown(feather)}: give from 0 to {WIDEST_FEATHER} pixels, or {OWN_EDGE!r} for the "
            "mask's own soft edge"
        )
    return width


def shares_of(picture: Image.Image, mask: Image.Image | None, feather: Feather = 0) -> Image.Image:
    """The shares of a mask, or without one of the picture's own transparency, which may leave all as it is.

    Args:
        picture: RGB or RGBA.
        mask: RGB or RGBA, of the same size. Where anything in it is transparent, what is wholly so (alpha 0)
            is drawn anew; elsewhere what is white, of level 128 or more.
        feather: 0 is a hard edge. So many pixels are blended around what is drawn, which grows by them;
            `OWN_EDGE` takes the levels of the mask between black and white, or of its alpha, as they are.

    Raises:
        InputError: a mask of another size, or one that leaves all as it is.
    """
    if mask is not None and mask.size != picture.size:
        raise InputError(
            f"the mask has {mask.width} x {mask.height} pixels, the picture "
            f"{picture.width} x {picture.height}: make them the same"
        )
    levels, white = _levels(picture, mask)
    least = SOFT_FROM if feather == OWN_EDGE else white
    drawn = levels.point(lambda level: DRAWN if level >= least else STAYS)
    if drawn.getextrema() == (STAYS, STAYS) and mask is not None:
        most = max(level for level, count in enumerate(levels.histogram()) if count)
        found = f"its least alpha is {DRAWN - most}" if white == DRAWN else f"its brightest level is {most}"
        raise InputError(
            f"the mask is opaque everywhere, and white nowhere ({found}): make transparent (alpha 0) what is "
            f"to be redrawn, or white (level {WHITE_FROM} or more) in a mask without transparency"
        )
    if feather == OWN_EDGE:
        return levels.point(lambda level: level if level >= SOFT_FROM else STAYS)
    return _feathered(drawn, feather) if isinstance(feather, int) and feather else drawn


def keep_of(shares: Image.Image) -> Image.Image:
    """The mask of `Known`: kept is what stays, redrawn all else."""
    return shares.point(lambda share: REDRAWN if share else KEPT)


def kept_of(picture: Image.Image) -> Image.Image:
    """The mask of a picture, mode L: 0 where it is fully transparent, else 255."""
    return picture.convert("RGBA").getchannel("A").point(lambda alpha: KEPT if alpha else REDRAWN)


def grown(masks: np.ndarray, reach: int) -> np.ndarray:
    """(N, H, W) bool, each True within so many pixels of where it was."""
    wider = torch.from_numpy(masks).float()[:, None]  # (N, 1, H, W)
    for kernel, padding in (((1, 2 * reach + 1), (0, reach)), ((2 * reach + 1, 1), (reach, 0))):
        wider = F.max_pool2d(wider, kernel, stride=1, padding=padding)
    within: np.ndarray = wider[:, 0].numpy() > 0
    return within


def warn_of_next_to_nothing(shares: Image.Image) -> None:
    """A mask that leaves nearly all as it is may be one the wrong way round, or another picture's."""
    stays = shares.histogram()[STAYS] / (shares.width * shares.height)
    if 1 - stays < LEAST_REDRAWN:
        warn(f"the mask leaves {stays:.2%} of the picture as it is: is it the right one?")


def _feathered(hard: Image.Image, width: int) -> Image.Image:
    """The drawn part, and around it an edge of so many pixels that falls evenly."""
    reach = (width + 1) // 2
    wider = Image.fromarray(grown(np.asarray(hard)[None] > 0, reach)[0].astype(np.uint8) * DRAWN)
    return ImageChops.lighter(wider.filter(ImageFilter.BoxBlur(reach)), hard)


def _levels(picture: Image.Image, mask: Image.Image | None) -> tuple[Image.Image, int]:
    """The share by which each pixel is drawn, 0 to 255, and the least level drawn without soft edges."""
    if mask is None or mask.mode == "RGBA":
        alpha = (picture if mask is None else mask).convert("RGBA").getchannel("A")
        if mask is None or alpha.getextrema() != (KEPT, KEPT):
            return ImageChops.invert(alpha), DRAWN
    return mask.convert("L"), WHITE_FROM
