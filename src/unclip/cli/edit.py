"""`unclip vary`, `blend`, `restyle`, `edit`: pictures made of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unclip.drawing import Event, Picture
    from unclip.families.unclip import UnCLIP

app = typer.Typer()

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture, a file.")]
Size = Annotated[int | None, typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default 256.")]
Seed = Annotated[int | None, typer.Option(help="The same seed draws the same pictures. Random by default.")]
Steps = Annotated[str | None, typer.Option(help="Steps of the decoder: a count.")]
Guidance = Annotated[
    float | None, typer.Option(help="Scale of the decoder's guidance; 1 is without, and inverts best.")
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATTERN",
        help="A folder, or a file name with {prompt} {seed} {index} {n}. Files so named are replaced; "
        "without this option no other picture's file ever is.",
    ),
]
Format = Annotated[str | None, typer.Option(help="png, jpeg or webp. By default what --out says, or png.")]
Model = Annotated[str | None, typer.Option(help="Name or folder of a bundle: see `unclip models`.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="Compute in float32, bfloat16 or float16. By default bfloat16 where that is fast."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of paths.")]
NoMetadata = Annotated[
    bool, typer.Option("--no-metadata", help="Leave seed, model and the source's hash out of the files.")
]
Gif = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the frames as one moving GIF; single ones only with --out."),
]
WebP = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a moving WebP.")]
Sheet = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a sheet of small pictures.")]


@app.command()
def vary(
    image: Image,
    n: Annotated[int, typer.Option("--n", "-n", help="Variations, 1 to 100.")] = 1,
    strength: Annotated[
        float,
        typer.Option(help="0 gives the picture back, 1 keeps only what CLIP sees in it; DDIM's eta between."),
    ] = 1.0,
    size: Size = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    format: Format = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    no_metadata: NoMetadata = False,
) -> None:
    """Draw variations of a picture: what CLIP sees in it stays, the rest is drawn anew."""
    from unclip.manipulate import variations

    seeded = _seed(seed)
    _draw(
        lambda drawer: variations.vary(
            drawer,
            image,
            n=n,
            strength=strength,
            size=size,
            seed=seeded,
            steps=steps,
            guidance=guidance,
        ),
        {"out": out, "format": format, "unnamed": f"{image.stem}-varied"},
        count=n,
        seed=seeded,
        load={"source": model, "device": device, "precision": dtype},
        json=json,
        told=seed is not None,
        metadata=not no_metadata,
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
    gif: Gif = None,
    webp: WebP = None,
    sheet: Sheet = None,
    size: Size = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    format: Format = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    no_metadata: NoMetadata = False,
) -> None:
    """Draw the way from a picture to another, or to several in turn."""
    from unclip.errors import InputError
    from unclip.manipulate import variations

    if start not in list(variations.Start):
        raise InputError(f"unknown start {start!r}: choose {', '.join(variations.Start)}")
    seeded, shares = _seed(seed), None if weights is None else _numbers(weights)
    _draw(
        lambda drawer: variations.blend(
            drawer,
            images,
            frames=frames,
            weights=shares,
            start=variations.Start(start),
            size=size,
            seed=seeded,
            steps=steps,
            guidance=guidance,
        ),
        {"out": out, "format": format, "unnamed": "-".join(image.stem for image in images)},
        count=frames if weights is None else 1,
        seed=seeded,
        load={"source": model, "device": device, "precision": dtype},
        json=json,
        told=seed is not None,
        metadata=not no_metadata,
        together=(gif, webp, sheet),
    )


@app.command()
def restyle(
    image: Image,
    to: Annotated[str, typer.Option("--to", metavar="TEXT", help="What the picture shall be.")],
    origin: Annotated[
        str, typer.Option("--from", metavar="TEXT", help="What it is. By default the empty caption.")
    ] = "",
    amount: Annotated[float, typer.Option(help="How far, from 0 to 1.")] = 1.0,
    frames: Annotated[int, typer.Option(help="Pictures from the first to the result, 1 to 100.")] = 1,
    gif: Gif = None,
    webp: WebP = None,
    sheet: Sheet = None,
    size: Size = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    format: Format = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    no_metadata: NoMetadata = False,
) -> None:
    """Change a picture as one text differs from another."""
    from unclip.manipulate import variations
    from unclip.naming import slug

    seeded = _seed(seed)
    _draw(
        lambda drawer: variations.restyle(
            drawer,
            image,
            to,
            origin,
            amount=amount,
            frames=frames,
            size=size,
            seed=seeded,
            steps=steps,
            guidance=guidance,
        ),
        {"out": out, "format": format, "unnamed": f"{image.stem}-{slug(to)}"},
        count=frames,
        seed=seeded,
        load={"source": model, "device": device, "precision": dtype},
        json=json,
        told=seed is not None,
        metadata=not no_metadata,
        together=(gif, webp, sheet),
    )


@app.command()
def edit(
    image: Image,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the whole picture shall show.")],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A picture of the same size; what is transparent in it is redrawn. By default the picture's "
            "own transparency.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures, 1 to 100.")] = 1,
    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default the picture's own, or 256."),
    ] = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Annotated[float | None, typer.Option(help="Scale of the decoder's guidance.")] = None,
    prior_guidance: Annotated[float | None, typer.Option(help="The same for the prior.")] = None,
    candidates: Annotated[
        int | None, typer.Option(help="Embeddings that the prior draws for each picture, to keep the best.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="How often each step is taken, 1 to 20; more fit better, and take longer.")
    ] = 3,
    out: Out = None,
    format: Format = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    json: Json = False,
    no_metadata: NoMetadata = False,
) -> None:
    """Draw a part of a picture anew after a text; what is not masked stays bit for bit."""
    from unclip.manipulate import editing

    seeded = _seed(seed)
    _draw(
        lambda drawer: editing.edit(
            drawer,
            image,
            mask,
            prompt,
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
        load={"source": model, "device": device, "precision": dtype},
        json=json,
        told=seed is not None,
        metadata=not no_metadata,
    )


def _numbers(text: str) -> list[float]:
    from unclip.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"weights {text!r}: give numbers with commas between, such as 1,1,2") from None


def _seed(seed: int | None) -> int:
    import secrets

    return secrets.randbelow(2**32) if seed is None else seed


def _draw(
    start: Callable[[UnCLIP], Iterator[Event]],
    naming: dict[str, str | None],
    *,
    count: int,
    seed: int,
    load: dict[str, Any],
    json: bool,
    told: bool,
    metadata: bool,
    together: tuple[Path | None, Path | None, Path | None] = (None, None, None),
) -> None:
    """Load the model, draw what `start` begins, and write and tell of the pictures as they are done.

    `together` are files that hold all of them: a GIF, a WebP and a sheet.
    """
    import time
    from collections import defaultdict

    from unclip.cli.generate import document
    from unclip.cli.progress import StageProgress
    from unclip.errors import InputError
    from unclip.images import ImageFormat
    from unclip.manipulate.frames import Strip
    from unclip.naming import Names
    from unclip.runtime import limit_spinning

    strips = [Strip(kind, path) for kind, path in zip(Strip.Kind, together, strict=True) if path]
    singly = not strips or naming["out"] is not None
    format = naming["format"]
    names = Names(naming["out"], ImageFormat.named(format) if format else None, str(naming["unnamed"]))
    if singly:
        names.check((("", index) for index in range(count)), seed)
    seconds: dict[str, float] = defaultdict(float)
    started = time.perf_counter()
    drawn: list[tuple[str, Picture]] = []
    with StageProgress() as progress:
        progress.update("load", 0, 1)
        limit_spinning()
        from unclip.families.unclip import UnCLIP
        from unclip.pipeline import load as load_model

        drawer = load_model(**load)
        if not isinstance(drawer, UnCLIP):
            raise InputError(
                f"{drawer.bundle.name}, of the family {drawer.family}, does not change pictures: choose a "
                "bundle of the family unclip"
            )
        events = start(drawer)
        progress.update("load", 1, 1)
        seconds["load"] = time.perf_counter() - started
        for event in events:
            progress.update(event.stage, event.step, event.total)
            seconds[event.stage] += event.seconds
            for picture in event.pictures:
                path = str(strips[0].path) if strips else ""
                if singly:
                    path = str(names.write(picture, len(drawn) + 1, metadata=metadata))
                drawn.append((path, picture))
                if singly and not json:
                    typer.echo(path)
    for strip in strips:
        strip.write([picture for _, picture in drawn], metadata=metadata)
        if not json:
            typer.echo(strip.path)
    seconds["total"] = time.perf_counter() - started
    if json:
        typer.echo(document(drawer, drawn, names.format, seconds))
    elif not told:
        typer.echo(f"seed {seed}", err=True)
