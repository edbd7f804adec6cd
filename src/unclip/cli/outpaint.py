"""`unclip outpaint`: a picture extended beyond its edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.pictures import draw

app = typer.Typer()


@dataclass(frozen=True)
class Tiling(options.Inpainting):
    """The options of drawing tiles."""

    size: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile: 64, 256, 512 or 1024. By default about the picture's shorter side."
        ),
    ] = None


@app.command()
@options.grouped
def outpaint(
    image: options.Image,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What every tile shall show.")],
    left: Annotated[int, typer.Option(metavar="PIXELS", help="How far to extend to the left.")] = 0,
    right: Annotated[int, typer.Option(metavar="PIXELS", help="The same to the right.")] = 0,
    top: Annotated[int, typer.Option(metavar="PIXELS", help="The same upwards.")] = 0,
    bottom: Annotated[int, typer.Option(metavar="PIXELS", help="The same downwards.")] = 0,
    n: options.Count = 1,
    *,
    drawing: Tiling,
    common: options.Prompted,
) -> None:
    """Extend a picture, tile by tile; what it has stays bit for bit."""
    from unclip.manipulate import outpaint as extending

    margins = extending.Margins(left, right, top, bottom)
    draw(
        lambda model, seeded: extending.outpaint(model, image, prompt, margins, n=n, **vars(seeded)),
        drawing,
        common,
        [prompt],
        n,
        prompts=[prompt],
        parents=[image],
    )
