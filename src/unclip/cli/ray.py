"""The option `--ray [ADDRESS]`, of the verbs that work on a Ray cluster."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from unclip.ray_cluster import HERE


class RayMayStandAlone(TyperCommand):
    """`--ray` takes an address, or none: Typer knows no such options. Without one it is the last word, or
    another option follows.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in the base class, with the address filled in."""
        filled = []
        for argument, following in zip(args, [*args, "-"][1:], strict=True):
            filled.append(argument)
            if argument == "--ray" and following.startswith("-"):
                filled.append(HERE)
        return super().parse_args(ctx, filled)
