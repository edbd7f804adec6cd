"""`unclip classify`: which of some labels fits pictures best."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli import options
from unclip.cli.lines import print_json, read_lines

if TYPE_CHECKING:
    from unclip.classify import Classified

app = typer.Typer()

SHOWN = 3  # labels in a line of several pictures
BAR = 30  # letters of a probability of 1
COMMENT = "#"  # begins a comment in a file of labels


@app.command()
def classify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.")],
    labels: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="What to tell apart, separated by commas.")
    ] = None,
    labels_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="One label a line; lines with # in front are comments; - is stdin."
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help='A text around the label, such as "a photo of a {}."; several are averaged.'),
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            help="A set of them: plain (the label), photo, imagenet (the paper's 80), best7 or pictograms."
        ),
    ] = None,
    top: Annotated[int | None, typer.Option(help="Labels to show of each picture.", min=1)] = None,
    model: options.Model = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Say which of some labels fits pictures best.

    The probabilities of a picture sum to 1 over the labels given: they are relative. Among cat and dog, a
    house is one of the two, perhaps with much confidence. To leave room for anything else, give labels for it
    too (for example "something else"). Labels that may hold together are asked for one at a time, each
    against its contrary.
    """
    from unclip.errors import InputError, escaped

    if (labels is None) == (labels_file is None):
        raise InputError("give labels either by --labels or by --labels-file, for example --labels cat,dog")
    if template and templates:
        raise InputError("give either --template or --templates, not both")
    if labels is not None:
        given = labels.split(",")
    else:
        given = [line for line in read_lines(labels_file or "", "labels") if not line.startswith(COMMENT)]

    from unclip.classify import (
        DEFAULT_TEMPLATES,
        check_labels,
        classify_files,
        find_templates,
        picture_files,
    )
    from unclip.embedding import ClipEmbedder

    found = check_labels(given, capitals=False)
    chosen = find_templates(template or templates or DEFAULT_TEMPLATES)
    paths = picture_files(images)

    clip = ClipEmbedder.load(model, device=device)
    explicit = frozenset(images)
    done: list[Classified] = []
    for result in classify_files(clip.classifier(found, chosen), paths, explicit):
        if json:
            done.append(result)
        elif result.reason is not None:
            typer.echo(f"unclip: skipped {escaped(result.reason)}", err=True)
        else:
            typer.echo(_table(result, top) if len(paths) == 1 else _line(result, top or SHOWN))
    if json:
        print_json(_document(clip.name, clip.identity, chosen, done, top))


def _table(result: Classified, top: int | None) -> str:
    shown = list(result.probabilities.items())[:top]
    width = max(len(label) for label, _ in shown)
    return "\n".join(f"{label:<{width}}  {p:7.2%}  {'▇' * round(p * BAR)}".rstrip() for label, p in shown)


def _line(result: Classified, top: int) -> str:
    from unclip.errors import escaped

    shown = [f"{label} {p:.1%}" for label, p in list(result.probabilities.items())[:top]]
    return f"{escaped(str(result.path))}  {', '.join(shown)}"


def _document(
    name: str, identity: str, templates: tuple[str, ...], results: list[Classified], top: int | None
) -> dict[str, Any]:
    from unclip import __version__

    pictures = [
        {
            "path": str(result.path),
            "probabilities": {label: round(p, 6) for label, p in list(result.probabilities.items())[:top]},
        }
        for result in results
        if result.reason is None
    ]
    skipped = [
        {"path": str(result.path), "reason": result.reason} for result in results if result.reason is not None
    ]
    return {
        "model": {"name": name, "clip": identity, "version": __version__},
        "templates": templates,
        "pictures": pictures,
        "skipped": skipped,
    }
