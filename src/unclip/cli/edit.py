"""`unclip vary`: pictures made of pictures."""

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
) -> list[Picture]:
    """Load the model, draw what `start` begins, and write and tell of the pictures as they are done."""
    import time
    from collections import defaultdict

    from unclip.cli.generate import document
    from unclip.cli.progress import StageProgress
    from unclip.errors import InputError
    from unclip.images import ImageFormat
    from unclip.naming import Names
    from unclip.runtime import limit_spinning

    format = naming["format"]
    names = Names(naming["out"], ImageFormat.named(format) if format else None, str(naming["unnamed"]))
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
                path = str(names.write(picture, len(drawn) + 1, metadata=metadata))
                drawn.append((path, picture))
                if not json:
                    typer.echo(path)
    seconds["total"] = time.perf_counter() - started
    if json:
        typer.echo(document(drawer, drawn, names.format, seconds))
    elif not told:
        typer.echo(f"seed {seed}", err=True)
    return [picture for _, picture in drawn]
