"""`unclip fit`: a model of one's own from a folder of pictures and a finished bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import completion, options

app = typer.Typer()


@app.command()
def fit(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Captioned pictures: folders, tables, shards, or a corpus of `unclip data`.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder of the fit; one that stands there goes on. By default FOLDER-fit."
        ),
    ] = None,
    base: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="BUNDLE",
            help="Name or folder of the bundle to begin with; none says whether your pictures are enough to "
            "begin with nothing.",
            autocompletion=completion.models,
        ),
    ] = "pictograms",
    hours: Annotated[
        float | None,
        typer.Option(help="Time for all of it, such as 0.5; by default as long as so many pictures want."),
    ] = None,
    lora: Annotated[
        bool,
        typer.Option(
            "--lora",
            help="Train adapters beside the attention in place of all weights; they also lie apart in "
            "OUT/lora, for `unclip generate --lora`.",
        ),
    ] = False,
    rank: Annotated[int, typer.Option(help="Of these adapters.", min=1, max=256)] = 16,
    plan: Annotated[bool, typer.Option("--plan", help="Look, measure, print the plan, and end.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before training, in a terminal.")
    ] = False,
    style: Annotated[str, typer.Option(help="Style of pictures that name none; it goes into captions.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of pictures that name none.")] = "unknown",
    language: Annotated[str, typer.Option(help="Language of plain captions.")] = "en",
    caption_column: Annotated[
        str,
        typer.Option(help="Column of tables that holds the captions; by default text, caption, title, ..."),
    ] = "",
    caption: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Caption of pictures that have none, and whose files' names say nothing either.",
        ),
    ] = "",
    device: options.Device = None,
) -> None:
    """Fit a bundle to your own pictures: look at them, say what will be done and how long it takes, do it.

    Decoder and prior are fine-tuned, CLIP is kept. OUT is then a model for --model, and OUT/report shows
    pictures before and now. Ctrl-C stops it; the same command again goes on.
    """
    from unclip.bundle import DEFAULT
    from unclip.cli.progress import StageProgress
    from unclip.data.described import Defaults
    from unclip.train.fit.anew import ANEW, refuse
    from unclip.train.fit.fitting import Fit
    from unclip.train.fit.plan import told

    folder = out or Path(f"{sources[0].resolve().name}-fit")
    fitting = Fit(
        sources,
        folder,
        base=DEFAULT if base == ANEW else base,
        hours=hours,
        lora=rank if lora else None,
        device=device,
        defaults=Defaults(
            style=style,
            licence=licence,
            language=language,
            caption_column=caption_column,
            names_say=True,
            caption=" ".join(caption.split()),
        ),
        command=context.obj or "",
        say=lambda text: typer.echo(text, err=True),
    )
    if base == ANEW:
        with StageProgress() as progress:
            held = progress.follow(fitting.prepare())
        raise refuse(held, " ".join(map(str, sources)), folder / "run")
    with StageProgress() as progress:
        found = progress.follow(fitting.plan())
    typer.echo(told(found, fitting.left(found)), err=not plan)
    if plan:
        return
    if not fitting.done:
        if not yes and sys.stdin.isatty() and sys.stderr.isatty():
            typer.confirm("Go ahead?", default=True, abort=True, err=True)
        with StageProgress() as progress:
            progress.follow(fitting.gather(found))
        fitting.train(found)  # shows its own progress
        with StageProgress() as progress:
            progress.follow(fitting.finish(found))
    typer.echo(f"before and now, side by side: {folder / 'report' / 'index.html'}", err=True)
    typer.echo(f'draw with it: unclip generate "..." --model {folder}', err=True)
    typer.echo(folder)
