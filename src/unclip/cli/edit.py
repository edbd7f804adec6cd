"""`unclip vary`, `blend`, `restyle`, `edit`: pictures made of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import options
from unclip.cli.pictures import draw, numbers

app = typer.Typer()


@app.command()
@options.grouped
def vary(
    image: options.Image,
    n: Annotated[int, typer.Option("--n", "-n", help="Variations, 1 to 100.")] = 1,
    strength: Annotated[
        float,
        typer.Option(help="0 gives the picture back, 1 keeps only what CLIP sees in it; DDIM's eta between."),
    ] = 1.0,
    fit: options.Fit = "letterbox",
    *,
    drawing: options.Drawing,
    common: options.Common,
) -> None:
    """Draw variations of a picture: what CLIP sees in it stays, the rest is drawn anew."""
    from unclip.manipulate import variations

    draw(
        lambda model, seeded: variations.vary(model, image, n=n, strength=strength, fit=fit, **vars(seeded)),
        drawing,
        common,
        [f"{image.stem}-varied"],
        n,
        parents=[image],
    )


@app.command()
@options.grouped
def blend(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Two pictures or more.")],
    frames: Annotated[int, typer.Option(help="Pictures from the first to the last, 2 to 100.")] = 8,
    weights: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Draw one mixture instead, with a weight for each picture."),
    ] = None,
    plane: Annotated[
        int | None,
        typer.Option(metavar="SIDE", help="Draw a plane of mixtures of 3 or 4 pictures, SIDE by SIDE."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(help="slerp: the ends are the pictures; fixed: all frames are drawn from one noise."),
    ] = "slerp",
    *,
    together: options.Together,
    fit: options.Fit = "letterbox",
    drawing: options.Drawing,
    common: options.Common,
) -> None:
    """Draw the way from a picture to another, or to several in turn."""
    from unclip.errors import InputError
    from unclip.manipulate import variations

    if start not in list(variations.Start):
        raise InputError(f"unknown start {start!r}: choose {', '.join(variations.Start)}")
    if weights is not None and plane is not None:
        raise InputError("--plane chooses the weights: leave --weights out")
    shares: list[float] | list[list[float]] | None = None
    count = frames
    if plane is not None:
        shares, count = variations.plane(plane, len(images)), plane**2
    elif weights is not None:
        shares, count = numbers("weights", weights, float), 1
    draw(
        lambda model, seeded: variations.blend(
            model,
            images,
            frames=frames,
            weights=shares,
            start=variations.Start(start),
            fit=fit,
            **vars(seeded),
        ),
        drawing,
        common,
        ["-".join(image.stem for image in images)],
        count,
        together.strips(),
        parents=images,
    )


@app.command()
@options.grouped
def restyle(
    image: options.Image,
    to: Annotated[str, typer.Option("--to", metavar="TEXT", help="What the picture shall be.")],
    origin: Annotated[
        str, typer.Option("--from", metavar="TEXT", help="What it is. By default the empty caption.")
    ] = "",
    amount: Annotated[float, typer.Option(help="How far, from 0 to 1.")] = 1.0,
    frames: Annotated[int, typer.Option(help="Pictures from the first to the result, 1 to 100.")] = 1,
    *,
    together: options.Together,
    fit: options.Fit = "letterbox",
    drawing: options.Drawing,
    common: options.Prompted,
) -> None:
    """Change a picture as one text differs from another."""
    from unclip.manipulate import variations
    from unclip.naming import slug

    draw(
        lambda model, seeded: variations.restyle(
            model, image, to, origin, amount=amount, frames=frames, fit=fit, **vars(seeded)
        ),
        drawing,
        common,
        [f"{image.stem}-{slug(to)}"],
        frames,
        together.strips(),
        prompts=[to, origin],
        parents=[image],
    )


@app.command()
@options.grouped
def edit(
    image: options.Image,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What the whole picture shall show.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A picture of the same size. What is transparent in it (alpha 0) is redrawn; in one without "
            "transparency what is white, of level 128 or more. By default the picture's own transparency.",
        ),
    ] = None,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Draw nothing in its place: fill the hole from what surrounds it."),
    ] = False,
    feather: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS|mask",
            help="Pixels around the hole in which the picture passes into what is drawn, or the mask's own "
            "soft edge. By default the edge is hard.",
        ),
    ] = None,
    n: options.Count = 1,
    fit: options.Fit = "letterbox",
    *,
    drawing: options.Inpainting,
    common: options.Prompted,
) -> None:
    """Draw a part of a picture anew after a text, or remove it; what is not masked stays bit for bit."""
    from unclip.errors import InputError
    from unclip.manipulate import editing

    if remove == (prompt is not None):
        raise InputError("give either a text, which says what to draw, or --remove, not both")
    text = "" if prompt is None else prompt
    if not remove and not text:
        raise InputError("the prompt is empty: say what to draw, or --remove what is masked")
    draw(
        lambda model, seeded: editing.edit(
            model, image, mask, text, n=n, fit=fit, feather=feather, **vars(seeded)
        ),
        drawing,
        common,
        [text or f"{image.stem}-removed"],
        n,
        prompts=[text],
        parents=[image],
    )
