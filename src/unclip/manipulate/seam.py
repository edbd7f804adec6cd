"""The seam of an edit: differences across the edge of what was drawn, beside those on both sides of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from unclip.manipulate.masks import grown
from unclip.manipulate.membrane import membrane

SHADE = 3  # pixels to each side of an edge that a shade is the mean of
EDGE = 32.0  # levels that neighbouring shades are apart where another thing begins
REACH = 1 / 32  # of the shorter side: how far from the edge "inside" and "outside" go


@dataclass(frozen=True)
class Seam:
    """Mean absolute differences of neighbouring pixels, in 8-bit levels, averaged over the colours.

    An edge that cannot be seen has an `across` between the other two. Where there is no pair of a kind, it is
    NaN.

    Attributes:
        across: of pairs of which one was kept and one drawn.
        inside: of pairs that were both drawn, near the edge.
        outside: of pairs that were both kept, near the edge.
    """

    across: float
    inside: float
    outside: float

    @property
    def texts(self) -> dict[str, str]:
        """As a picture's settings hold it."""
        return {f"seam_{name}": f"{getattr(self, name):.1f}" for name in ("across", "inside", "outside")}


def seam(image: Image.Image, keep: Image.Image) -> Seam:
    """The seam of a picture, RGB, along the edge of its mask.

    Args:
        image: the picture.
        keep: mode L, of the same size, 255 where the picture was kept and 0 where it was drawn.
    """
    pixels = np.asarray(image, dtype=np.int16)  # (H, W, 3)
    kept = np.asarray(keep) > 0  # (H, W)
    reach = max(1, round(min(kept.shape) * REACH))
    near = np.logical_and(*grown(np.stack([kept, ~kept]), reach))  # (H, W) within reach of the edge
    differences: dict[str, list[np.ndarray]] = {"across": [], "inside": [], "outside": []}
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(axis=2)  # (H - 1, W) or (H, W - 1)
        (a, b), (close, by) = (_neighbours(part, axis) for part in (kept, near))
        differences["across"].append(steps[a != b])
        differences["inside"].append(steps[close & by & ~a & ~b])
        differences["outside"].append(steps[close & by & a & b])
    return Seam(**{name: _mean(np.concatenate(parts)) for name, parts in differences.items()})


def matched(drawn: Image.Image, picture: Image.Image, keep: Image.Image) -> Image.Image:
    """Bring a part that was drawn into a picture, RGB, to the shade of its surroundings along the edge.

    Networks miss the shade of what they continue by some levels. Along the edge what is drawn is compared
    with what is kept; the difference is taken from it, less and less towards the middle (`membrane`). Where
    they are more than `EDGE` apart another thing begins, and nothing is changed.

    Args:
        drawn: the picture as it was drawn.
        picture: the one it was drawn into, of the same size.
        keep: mode L, 255 where the picture is kept and 0 where it was drawn.
    """
    hole = np.asarray(keep) == 0  # (H, W)
    rows, columns = (np.flatnonzero(hole.any(axis)) for axis in (1, 0))
    if hole.all() or not len(rows):
        return drawn
    part = tuple(slice(max(0, int(line[0]) - SHADE), int(line[-1]) + SHADE + 1) for line in (rows, columns))
    hole = hole[part]
    new, old = (np.asarray(image, dtype=np.float32)[part] for image in (drawn, picture))
    rim = hole & grown(~hole[None], 1)[0]
    away = _means(old, ~hole)[rim] - _means(new, hole)[rim]  # (N, 3)
    away[np.abs(away).max(axis=1) > EDGE] = 0
    light = np.zeros_like(new)
    light[rim] = away
    lit = np.array(drawn)
    lit[part][hole] = (new + membrane(light, rim))[hole].round().clip(0, 255)
    return Image.fromarray(lit)


def _means(pixels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(H, W, C) of the chosen pixels (H, W) within `SHADE` of each their mean."""
    total = np.pad(np.where(chosen[..., None], pixels, 0), ((SHADE, SHADE), (SHADE, SHADE), (0, 0)))
    count = np.pad(chosen, SHADE)[..., None].astype(np.float32)
    for axis in (0, 1):
        window = 2 * SHADE + 1
        total, count = (
            np.lib.stride_tricks.sliding_window_view(each, window, axis).sum(-1) for each in (total, count)
        )
    return total / np.maximum(count, 1)


def _neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair of neighbours along an axis the first and the second, (H - 1, W) or (H, W - 1) each."""
    return (values[:-1], values[1:]) if axis == 0 else (values[:, :-1], values[:, 1:])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
