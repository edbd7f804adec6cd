"""`unclip reconstruct`: a picture from the principal components of its embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.pictures import draw, numbers

app = typer.Typer()


@app.command()
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
    gif: options.Gif = None,
    webp: options.WebP = None,
    sheet: options.Sheet = None,
    fit: options.Fit = "letterbox",
    size: options.Size = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    out: options.Out = None,
    format: options.Format = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offload: options.Offload = False,
    json: options.Json = False,
    no_metadata: options.NoMetadata = False,
) -> None:
    """Draw a picture from the first principal components of what CLIP sees in it."""
    from unclip.manipulate import principal_components as principal

    counts = None if components is None else numbers("components", components, int)
    draw(
        lambda drawer, seed: principal.reconstruct(
            drawer, image, counts, basis=basis, size=size, seed=seed, steps=steps, guidance=guidance, fit=fit
        ),
        {"out": out, "format": format, "unnamed": f"{image.stem}-reconstructed"},
        count=len(principal.DEFAULT_COMPONENTS if counts is None else counts),
        seed=seed,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        no_metadata=no_metadata,
        together=(gif, webp, sheet),
    )
