"""`unclip data`: make a corpus, from packages of pictograms or from one's own pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unclip.data.build import Progress

app = typer.Typer(help="Make a corpus to train on.", no_args_is_help=True)

Size = Annotated[int, typer.Option(help="Side of a picture in pixels.", min=32, max=1024)]
Workers = Annotated[int | None, typer.Option(help="Processes that draw; by default one a core.", min=1)]


@app.command()
def pictograms(
    out: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    archives: Annotated[
        Path | None,
        typer.Option(help="Folder of packages fetched before; otherwise they are fetched to OUT/archives."),
    ] = None,
    size: Size = 256,
    workers: Workers = None,
    large: Annotated[int, typer.Option(help="How many pictures to draw at 1024 px too.", min=0)] = 4000,
    scenes: Annotated[
        int,
        typer.Option(help="How many pictures to put together of others: two things, other colours.", min=0),
    ] = 0,
    faces: Annotated[
        int, typer.Option(help="How many faces to put together of parts, of hats and of glasses.", min=0)
    ] = 0,
    more: Annotated[
        bool,
        typer.Option("--more", help="Also the sources that came later: coloured icons, flags, signs."),
    ] = False,
) -> None:
    """Make the corpus that the shipped bundle is trained on: emoji, icons, clip art and stamps.

    The packages come from npm (`npm pack`) and Debian (`apt-get download`) and are neither installed nor run.
    Ctrl-C stops it; the same command again goes on.
    """
    from unclip.data.later_sources import MORE_SOURCES
    from unclip.data.pictograms import build_pictograms
    from unclip.data.sources import SOURCES
    from unclip.processes import cores

    events = build_pictograms(
        out,
        archives=archives,
        size=size,
        workers=workers or cores(),
        large=large,
        scenes=scenes,
        faces=faces,
        sources=MORE_SOURCES if more else SOURCES,
    )
    _run(events, out)


@app.command()
def folder(
    source: Annotated[Path, typer.Argument(help="Folder of captioned pictures.")],
    out: Annotated[Path, typer.Argument(help="Folder of the corpus.")],
    size: Size = 256,
    workers: Workers = None,
    large: Annotated[int, typer.Option(help="How many SVG pictures to draw at 1024 px too.", min=0)] = 0,
    fit: Annotated[
        str, typer.Option(help="pad (white bars), crop (the middle) or trim (cut white margins, then pad).")
    ] = "pad",
    style: Annotated[str, typer.Option(help="Style of pictures that name none; it goes into captions.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of pictures that name none.")] = "unknown",
    language: Annotated[str, typer.Option(help="Language of plain captions.")] = "en",
    caption_column: Annotated[
        str,
        typer.Option(help="Column of tables that holds the captions; by default text, caption, title, ..."),
    ] = "",
) -> None:
    """Make a corpus from pictures with a text beside each, tables (CSV, JSON, Parquet) or webdataset shards.

    What cannot be read is counted and listed in OUT/dropped.jsonl.
    """
    from unclip.data.folder import Defaults, build_folder
    from unclip.data.records import Fit
    from unclip.errors import InputError
    from unclip.processes import cores

    if fit not in list(Fit):
        raise InputError(f"unknown fit {fit!r}: choose {', '.join(Fit)}")
    defaults = Defaults(
        style=style, licence=licence, language=language, fit=Fit(fit), caption_column=caption_column
    )
    events = build_folder(source, out, defaults=defaults, size=size, workers=workers or cores(), large=large)
    _run(events, out)


@app.command()
def show(corpus: Annotated[Path, typer.Argument(help="Folder of a corpus.")]) -> None:
    """Print the card of a corpus: counts by source, licence and split, and what was dropped."""
    from unclip.data.card import read

    typer.echo(read(corpus))


def _run(events: Iterable[Progress], out: Path) -> None:
    from unclip.cli.progress import StageProgress
    from unclip.data.outcome import summary

    with StageProgress() as progress:
        for event in events:
            progress.update(event.stage, event.done, event.total)
    typer.echo("\n".join(summary(out)), err=True)
    typer.echo(out)
