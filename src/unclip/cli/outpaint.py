"""`unclip outpaint`: a picture extended beyond its edges."""

from __future__ import annotations

from typing import Annotated

import typer

from unclip.cli.pictures import (
    Candidates,
    Count,
    Device,
    Dtype,
    Format,
    Image,
    Json,
    Model,
    NoMetadata,
    Offload,
    Out,
    PriorGuidance,
    Rounds,
    Seed,
    Steps,
    draw,
    seed_or_random,
)

app = typer.Typer()


@app.command()
def outpaint(
    image: Image,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What every tile shall show.")],
    left: Annotated[int, typer.Option(metavar="PIXELS", help="How far to extend to the left.")] = 0,
    right: Annotated[int, typer.Option(metavar="PIXELS", help="The same to the right.")] = 0,
    top: Annotated[int, typer.Option(metavar="PIXELS", help="The same upwards.")] = 0,
    bottom: Annotated[int, typer.Option(metavar="PIXELS", help="The same downwards.")] = 0,
    n: Count = 1,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile: 64, 256, 512 or 1024. By default about the picture's shorter side."
        ),
    ] = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of the decoder's guidance.")] = None,
    prior_guidance: PriorGuidance = None,
    candidates: Candidates = None,
    rounds: Rounds = None,
    out: Out = None,
    format: Format = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    offload: Offload = False,
    json: Json = False,
    no_metadata: NoMetadata = False,
) -> None:
    """Extend a picture, tile by tile; what it has stays bit for bit."""
    from unclip.manipulate import outpaint as extending

    seeded, margins = seed_or_random(seed), extending.Margins(left, right, top, bottom)
    draw(
        lambda drawer: extending.outpaint(
            drawer,
            image,
            prompt,
            margins,
            n=n,
            size=size,
            seed=seeded,
            steps=steps,
            guidance=guidance,
            prior_guidance=prior_guidance,
            candidates=candidates,
            rounds=rounds,
        ),
        {"out": out, "format": format, "unnamed": prompt},
        count=n,
        seed=seeded,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        told=seed is not None,
        metadata=not no_metadata,
    )
