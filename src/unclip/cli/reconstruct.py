"""`unclip reconstruct`: a picture from the principal components of its embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli.pictures import (
    Device,
    Dtype,
    Fit,
    Format,
    Gif,
    Guidance,
    Image,
    Json,
    Model,
    NoMetadata,
    Offload,
    Out,
    Seed,
    Sheet,
    Size,
    Steps,
    WebP,
    draw,
    numbers,
    seed_or_random,
)

app = typer.Typer()


@app.command()
def reconstruct(
    image: Image,
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
    gif: Gif = None,
    webp: WebP = None,
    sheet: Sheet = None,
    fit: Fit = "letterbox",
    size: Size = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    format: Format = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    offload: Offload = False,
    json: Json = False,
    no_metadata: NoMetadata = False,
) -> None:
    """Draw a picture from the first principal components of what CLIP sees in it."""
    from unclip.manipulate import components as principal

    seeded = seed_or_random(seed)
    counts = None if components is None else numbers("components", components, int)
    draw(
        lambda drawer: principal.reconstruct(
            drawer,
            image,
            counts,
            basis=basis,
            size=size,
            seed=seeded,
            steps=steps,
            guidance=guidance,
            fit=fit,
        ),
        {"out": out, "format": format, "unnamed": f"{image.stem}-reconstructed"},
        count=len(principal.DEFAULT_COMPONENTS if counts is None else counts),
        seed=seeded,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        told=seed is not None,
        metadata=not no_metadata,
        together=(gif, webp, sheet),
    )
