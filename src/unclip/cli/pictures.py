"""What the verbs that make pictures of pictures share: their options, and how they draw and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from unclip.drawing import Event, Picture
    from unclip.families.unclip import UnCLIP

Number = TypeVar("Number", int, float)

Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture, a file.")]
Count = Annotated[int, typer.Option("--n", "-n", help="Pictures, 1 to 100.")]
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
Fit = Annotated[
    str,
    typer.Option(help="What is done with a picture that is not square: letterbox, crop or stretch."),
]
Offload = Annotated[
    bool,
    typer.Option("--offload", help="Hold one network at a time: less memory, slower with many pictures."),
]
Gif = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the frames as one moving GIF; single ones only with --out."),
]
WebP = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a moving WebP.")]
Sheet = Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a sheet of small pictures.")]
PriorGuidance = Annotated[float | None, typer.Option(help="Scale of the prior's guidance.")]
Candidates = Annotated[
    int | None, typer.Option(help="Embeddings that the prior draws for each picture, to keep the best.")
]
Rounds = Annotated[
    int | None,
    typer.Option(
        help="How often each step is taken, 1 to 20; more fit better, and take longer. By default 3, or 1 "
        "with a decoder that was trained to fill in."
    ),
]


def seed_or_random(seed: int | None) -> int:
    import secrets

    return secrets.randbelow(2**32) if seed is None else seed


def numbers(name: str, text: str, kind: type[Number]) -> list[Number]:
    """Numbers with commas between them. Raises InputError for what is none."""
    from unclip.errors import InputError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} {text!r}: give numbers with commas between, such as 1,1,2") from None


def draw(
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
