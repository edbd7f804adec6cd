"""`unclip outpaint`: a picture extended beyond its edges."""

from __future__ import annotations

from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.pictures import draw

app = typer.Typer()


@app.command()
def outpaint(
    image: options.Image,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What every tile shall show.")],
    left: Annotated[int, typer.Option(metavar="PIXELS", help="How far to extend to the left.")] = 0,
    right: Annotated[int, typer.Option(metavar="PIXELS", help="The same to the right.")] = 0,
    top: Annotated[int, typer.Option(metavar="PIXELS", help="The same upwards.")] = 0,
    bottom: Annotated[int, typer.Option(metavar="PIXELS", help="The same downwards.")] = 0,
    n: options.Count = 1,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile: 64, 256, 512 or 1024. By default about the picture's shorter side."
        ),
    ] = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    guidance: options.DecoderGuidance = None,
    prior: options.Prior = None,
    prior_guidance: options.PriorGuidance = None,
    candidates: options.Candidates = None,
    rounds: options.Rounds = None,
    out: options.Out = None,
    format: options.Format = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offload: options.Offload = False,
    json: options.Json = False,
    no_metadata: options.NoMetadata = False,
) -> None:
    """Extend a picture, tile by tile; what it has stays bit for bit."""
    from unclip.manipulate import outpaint as extending

    margins = extending.Margins(left, right, top, bottom)
    draw(
        lambda drawer, seed: extending.outpaint(
            drawer,
            image,
            prompt,
            margins,
            n=n,
            size=size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            prior=prior,
            prior_guidance=prior_guidance,
            candidates=candidates,
            rounds=rounds,
        ),
        {"out": out, "format": format, "unnamed": prompt},
        count=n,
        seed=seed,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        no_metadata=no_metadata,
    )
