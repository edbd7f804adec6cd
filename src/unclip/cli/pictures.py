"""What the verbs that make pictures of pictures share: how they draw and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from unclip.drawing import Event, Picture
    from unclip.families.unclip import UnCLIP

Number = TypeVar("Number", int, float)


def numbers(name: str, text: str, kind: type[Number]) -> list[Number]:
    """Numbers with commas between them. Raises InputError for what is none."""
    from unclip.errors import InputError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} {text!r}: give numbers with commas between, such as 1,1,2") from None


def draw(
    begin: Callable[[UnCLIP, int], Iterator[Event]],
    naming: dict[str, str | None],
    *,
    count: int,
    seed: int | None,
    load: dict[str, Any],
    json: bool,
    no_metadata: bool,
    together: tuple[Path | None, Path | None, Path | None] = (None, None, None),
) -> None:
    """Load the model, draw what `begin` makes of it and a seed, write and tell of the pictures as they come.

    A random seed is told at the end. `together` are files that hold all pictures: a GIF, a WebP and a sheet.
    """
    import secrets
    import time
    from collections import defaultdict

    from unclip.cli.generate import document
    from unclip.cli.progress import StageProgress
    from unclip.errors import InputError
    from unclip.images import ImageFormat
    from unclip.manipulate.frames import Strip
    from unclip.naming import Names

    strips = [Strip(kind, path) for kind, path in zip(Strip.Kind, together, strict=True) if path]
    singly = not strips or naming["out"] is not None
    format = naming["format"]
    names = Names(naming["out"], ImageFormat.named(format) if format else None, str(naming["unnamed"]))
    used = secrets.randbelow(2**32) if seed is None else seed
    if singly:
        names.check((("", index) for index in range(count)), used)
    seconds: dict[str, float] = defaultdict(float)
    started = time.perf_counter()
    drawn: list[tuple[str, Picture]] = []
    with StageProgress() as progress:
        progress.update("load", 0, 1)
        from unclip.families.unclip import UnCLIP
        from unclip.pipeline import load as load_model

        drawer = load_model(**load)
        if not isinstance(drawer, UnCLIP):
            raise InputError(
                f"{drawer.bundle.name}, of the family {drawer.family}, does not change pictures: choose a "
                "bundle of the family unclip"
            )
        events = begin(drawer, used)
        progress.update("load", 1, 1)
        seconds["load"] = time.perf_counter() - started
        for event in events:
            progress.update(event.stage, event.step, event.total)
            seconds[event.stage] += event.seconds
            for picture in event.pictures:
                path = str(strips[0].path) if strips else ""
                if singly:
                    path = str(names.write(picture, len(drawn) + 1, metadata=not no_metadata))
                drawn.append((path, picture))
                if singly and not json:
                    typer.echo(path)
    for strip in strips:
        strip.write([picture for _, picture in drawn], metadata=not no_metadata)
        if not json:
            typer.echo(strip.path)
    seconds["total"] = time.perf_counter() - started
    if json:
        typer.echo(document(drawer, drawn, names.format, seconds))
    elif seed is None:
        typer.echo(f"seed {used}", err=True)
