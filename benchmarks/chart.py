"""A chart as SVG, for figures that stand in docs: series of labelled points in the upper right quarter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 640, 420, 56
ROOM = 1.08  # of the largest values
LINE = 16  # from one series' name to the next
COLOURS = ("#1f6feb", "#d1495b", "#2e933c", "#8f5bd4", "#c77d0a")


class Place(NamedTuple):
    """A point with what is written beside it."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Series:
    """Points of one colour. With `line` they are joined in their order."""

    name: str
    places: Sequence[Place]
    line: bool = True


def chart(
    series: Sequence[Series],
    x: str,
    y: str,
    *,
    lowest: float = 0.0,
    highest: float = float("inf"),
    names_below: bool = False,
) -> str:
    """The series over axes called `x`, from 0, and `y`, from `lowest`.

    Args:
        series: in the order of their colours.
        x, y: what is written at the axes.
        lowest: where the second axis begins.
        highest: its upper end at most.
        names_below: the names of the series stand at the lower right, else above the axes.
    """
    places = [place for one in series for place in one.places]
    far = max(place.x for place in places) * ROOM
    above = MARGIN if names_below else 24 + LINE * len(series)
    high = min(highest, lowest + (max(place.y for place in places) - lowest) * ROOM)

    def at(across: float, up: float) -> tuple[float, float]:
        return (
            MARGIN + across / far * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - (up - lowest) / (high - lowest) * (HEIGHT - MARGIN - above),
        )

    left, bottom = at(0, lowest)
    right, top = at(far, high)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="black"/>',
        f'<text x="{(left + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x)}</text>',
        f'<text x="16" y="{(top + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(top + bottom) / 2})">{escape(y)}</text>',
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{far:.4g}</text>',
        f'<text x="{left - 4}" y="{top + 4}" text-anchor="end">{high:.2f}</text>',
        f'<text x="{left - 4}" y="{bottom + 4}" text-anchor="end">{lowest:g}</text>',
    ]
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(place.x, place.y) for place in one.places]
        if one.line:
            line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (across, down), place in zip(points, one.places, strict=True):
            parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>')
            parts.append(
                f'<text x="{across + 5:.1f}" y="{down - 5:.1f}" fill="{colour}">{escape(place.label)}</text>'
            )
        after = LINE * (len(series) - 1 - number)
        where = f'x="{left + 12}" y="{top - 12 - after}"'
        if names_below:
            where = f'x="{right - 12}" y="{bottom - 12 - after}" text-anchor="end"'
        parts.append(f'<text {where} fill="{colour}">{escape(one.name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
