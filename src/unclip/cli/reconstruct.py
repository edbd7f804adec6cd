"""`unclip reconstruct`: a picture from the principal components of its embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.pictures import draw, numbers

app = typer.Typer()


@app.command()
@options.grouped
def reconstruct(
    image: options.Image,
    components: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="How many principal components are kept, one picture each. By default 1,8,32,128, as far as "
            "the basis goes.",
        ),
    ] = None,
    basis: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures, or a corpus of `unclip data`, whose components are taken. By default those that "
            "the model's autoregressive prior was made with.",
        ),
    ] = None,
    *,
    together: options.Together,
    fit: options.Fit = "letterbox",
    drawing: options.Drawing,
    common: options.Common,
) -> None:
    """Draw a picture from the first principal components of what CLIP sees in it."""
    from unclip.manipulate import principal_components as principal

    counts = None if components is None else numbers("components", components, int)
    draw(
        lambda model, seeded: principal.reconstruct(
            model, image, counts, basis=basis, fit=fit, **vars(seeded)
        ),
        drawing,
        common,
        [f"{image.stem}-reconstructed"],
        len(principal.DEFAULT_COMPONENTS if counts is None else counts),
        together.strips(),
        parents=[image],
    )
