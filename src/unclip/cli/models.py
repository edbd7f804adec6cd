"""`unclip models`, `pull` and `convert`: published models, from their makers' files to a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli import completion, options
from unclip.cli.lines import print_json

if TYPE_CHECKING:
    from unclip.checkpoints.formats import Step
    from unclip.checkpoints.inventory import Model

app = typer.Typer()

HEADINGS = (
    "NAME",
    "FAMILY",
    "PARAMETERS",
    "FLOAT32",
    "16-BIT",
    "OFFLOAD",
    "ON-DISK",
    "CAN",
    "LICENCE",
    "FROM",
)
LEGEND = (
    "Memory is that of the weights: in float32, in bfloat16 or float16, and in 16 bit with --offload (one "
    "component at a time). `unclip pull NAME` fetches a model."
)

Dtype = Annotated[
    str | None,
    typer.Option(
        help="Store matrices as float32, bfloat16 or float16. By default as the source has them.",
        show_default=False,
    ),
]


@app.command("models")
def list_models(json: options.Json = False) -> None:
    """List the models that can be drawn with, fetched or converted, and what is on disk."""
    from unclip.checkpoints.inventory import models

    found = models()
    if json:
        print_json([_document(model) for model in found])
        return
    rows = [HEADINGS, *(_row(model) for model in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    typer.echo(LEGEND, err=True)
    for model in found:
        if model.problem:
            typer.echo(model.problem, err=True)


@app.command()
def pull(
    name: Annotated[
        str,
        typer.Argument(help="A published model: see `unclip models`.", autocompletion=completion.published),
    ],
    dtype: Dtype = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the published files beside the bundle made of them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Fetch and convert again, though the bundle is there.")
    ] = False,
) -> None:
    """Fetch a published model and make a bundle of it, which is then loaded by its name.

    Ctrl-C keeps what has come: the same command goes on. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME and
    the usual variables for proxies are heeded.
    """
    from itertools import chain

    from unclip.catalogue import MANIFEST, find_published
    from unclip.checkpoints.download import Transfer, kept
    from unclip.checkpoints.pulling import pull as pulling
    from unclip.cli.progress import StageProgress
    from unclip.errors import Interrupted

    model = find_published(name)
    if (model.bundle_folder / MANIFEST).is_file() and not force:
        typer.echo("is there already; --force fetches it again", err=True)
        typer.echo(model.bundle_folder)
        return
    steps: list[Step] = []
    try:
        events = pulling(model, dtype=dtype, keep=keep)
        with StageProgress(sizes=True) as progress:
            for event in events:
                if not isinstance(event, Transfer):
                    steps.append(event)  # the files are there: what follows counts no bytes
                    break
                progress.update(event.file, event.done, event.total)
        _show(step for step in chain(steps, events) if not isinstance(step, Transfer))
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted: {kept(model)}") from error
    typer.echo(model.bundle_folder)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="File or folder of a model; with --to, name or folder of a bundle.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the bundle; with --to, what to write.")],
    format: Annotated[
        str | None,
        typer.Option(help="The source's format, where it is not to be guessed.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the bundle is called. By default what the format says.")
    ] = None,
    dtype: Dtype = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the format: see docs/checkpoints.md."),
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Write a bundle in a format of others.")
    ] = None,
) -> None:
    """Make a bundle of somebody's weights, or of a bundle the files that others read.

    No pickle is executed: of pickled files the tensors are read and nothing else.
    """
    from unclip.errors import InputError

    if to is None:
        from unclip.checkpoints.formats import convert as conversion

        _show(conversion(source, out, format=format, name=name, dtype=dtype, options=_options(settings)))
        typer.echo(out)
        return
    for option, value in (("--format", format), ("--name", name), ("--dtype", dtype), ("--set", settings)):
        if value:
            raise InputError(f"{option} is for making a bundle: leave it out with --to")
    from unclip.bundle import Bundle
    from unclip.checkpoints.formats import export
    from unclip.runtime import check_writable

    check_writable(out.parent)
    export(Bundle.load(source), out, to)
    typer.echo(out)


def _options(settings: list[str] | None) -> dict[str, str]:
    from unclip.errors import InputError

    found = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise InputError(f"--set {setting}: give KEY=VALUE")
        found[key] = value
    return found


def _show(steps: Iterable[Step]) -> None:
    from unclip.cli.progress import StageProgress

    with StageProgress() as progress:
        for step in steps:
            progress.update(step.stage, step.done, 1)
            if step.text:
                progress.print(step.text)


def _row(model: Model) -> list[str]:
    disk = _bytes(model.stored) if model.folder else "-"
    if model.unfinished:
        disk = f"{_bytes(model.unfinished)} so far"
    if model.problem:
        disk = "broken"
    return [
        model.name,
        model.family,
        f"{model.size / 1e6:,.1f} M",
        _bytes(model.memory["float32"]["all"]),
        _bytes(model.memory["bfloat16"]["all"]),
        _bytes(model.memory["bfloat16"]["offload"]),
        disk,
        ", ".join(model.abilities) or "-",
        model.licence or "unknown",
        model.page.removeprefix("https://") or str(model.folder),
    ]


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _document(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "abilities": list(model.abilities),
        "parameters": dict(model.parameters),
        "memory_bytes": model.memory,
        "licence": model.licence or None,
        "sources": list(model.sources),
        "page": model.page or None,
        "folder": str(model.folder) if model.folder else None,
        "stored_bytes": model.stored,
        "unfinished_bytes": model.unfinished,
        "problem": model.problem or None,
    }
