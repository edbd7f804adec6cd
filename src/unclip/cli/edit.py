"""`unclip vary`, `blend`, `restyle`, `edit`: pictures made of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.pictures import draw, numbers

app = typer.Typer()


@app.command()
def vary(
    image: options.Image,
    n: Annotated[int, typer.Option("--n", "-n", help="Variations, 1 to 100.")] = 1,
    strength: Annotated[
        float,
        typer.Option(help="0 gives the picture back, 1 keeps only what CLIP sees in it; DDIM's eta between."),
    ] = 1.0,
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
    """Draw variations of a picture: what CLIP sees in it stays, the rest is drawn anew."""
    from unclip.manipulate import variations

    draw(
        lambda drawer, seed: variations.vary(
            drawer,
            image,
            n=n,
            strength=strength,
            size=size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            fit=fit,
        ),
        {"out": out, "format": format, "unnamed": f"{image.stem}-varied"},
        count=n,
        seed=seed,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        no_metadata=no_metadata,
    )


@app.command()
def blend(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Two pictures or more.")],
    frames: Annotated[int, typer.Option(help="Pictures from the first to the last, 2 to 100.")] = 8,
    weights: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Draw one mixture instead, with a weight for each picture."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(help="slerp: the ends are the pictures; fixed: all frames are drawn from one noise."),
    ] = "slerp",
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
    """Draw the way from a picture to another, or to several in turn."""
    from unclip.errors import InputError
    from unclip.manipulate import variations

    if start not in list(variations.Start):
        raise InputError(f"unknown start {start!r}: choose {', '.join(variations.Start)}")
    shares = None if weights is None else numbers("weights", weights, float)
    draw(
        lambda drawer, seed: variations.blend(
            drawer,
            images,
            frames=frames,
            weights=shares,
            start=variations.Start(start),
            size=size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            fit=fit,
        ),
        {"out": out, "format": format, "unnamed": "-".join(image.stem for image in images)},
        count=frames if weights is None else 1,
        seed=seed,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        no_metadata=no_metadata,
        together=(gif, webp, sheet),
    )


@app.command()
def restyle(
    image: options.Image,
    to: Annotated[str, typer.Option("--to", metavar="TEXT", help="What the picture shall be.")],
    origin: Annotated[
        str, typer.Option("--from", metavar="TEXT", help="What it is. By default the empty caption.")
    ] = "",
    amount: Annotated[float, typer.Option(help="How far, from 0 to 1.")] = 1.0,
    frames: Annotated[int, typer.Option(help="Pictures from the first to the result, 1 to 100.")] = 1,
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
    """Change a picture as one text differs from another."""
    from unclip.manipulate import variations
    from unclip.naming import slug

    draw(
        lambda drawer, seed: variations.restyle(
            drawer,
            image,
            to,
            origin,
            amount=amount,
            frames=frames,
            size=size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            fit=fit,
        ),
        {"out": out, "format": format, "unnamed": f"{image.stem}-{slug(to)}"},
        count=frames,
        seed=seed,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        no_metadata=no_metadata,
        together=(gif, webp, sheet),
    )


@app.command()
def edit(
    image: options.Image,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the whole picture shall show.")],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A picture of the same size; what is transparent in it is redrawn. By default the picture's "
            "own transparency.",
        ),
    ] = None,
    n: options.Count = 1,
    fit: options.Fit = "letterbox",
    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default the picture's own, or 256."),
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
    """Draw a part of a picture anew after a text; what is not masked stays bit for bit."""
    from unclip.manipulate import editing

    draw(
        lambda drawer, seed: editing.edit(
            drawer,
            image,
            mask,
            prompt,
            n=n,
            size=size,
            seed=seed,
            steps=steps,
            guidance=guidance,
            prior=prior,
            prior_guidance=prior_guidance,
            candidates=candidates,
            rounds=rounds,
            fit=fit,
        ),
        {"out": out, "format": format, "unnamed": prompt},
        count=n,
        seed=seed,
        load={"source": model, "device": device, "precision": dtype, "offload": offload},
        json=json,
        no_metadata=no_metadata,
    )
