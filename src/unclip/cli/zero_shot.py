"""`unclip evaluate zero-shot` and `linear-probe`: how well CLIP tells labelled pictures apart."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from unclip.cli import options
from unclip.cli.lines import print_json

if TYPE_CHECKING:
    from unclip.embedding import ClipEmbedder
    from unclip.evaluate.statistics import Estimate
    from unclip.zero_shot import ZeroShot

Report = TypeVar("Report")


def register(app: typer.Typer) -> None:
    """Make these verbs of a group."""
    app.command("zero-shot")(zero_shot)
    app.command("linear-probe")(linear_probe)


def zero_shot(
    data: Annotated[
        list[Path],
        typer.Option(
            help="Folder of class/picture.png, webdataset shards or Parquet tables; several make a table."
        ),
    ],
    names: Annotated[
        list[Path] | None,
        typer.Option(help="File of the classes' names, such as LOC_synset_mapping.txt of ImageNet."),
    ] = None,
    layout: Annotated[
        list[str] | None,
        typer.Option(
            help="Check that the data is imagenet, imagenet-v2, imagenet-sketch, imagenet-r, imagenet-a or "
            "objectnet; one for each --data."
        ),
    ] = None,
    templates: Annotated[
        str, typer.Option(help="plain, photo, imagenet (the paper's 80), best7 or pictograms.")
    ] = "imagenet",
    model: options.Model = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Measure CLIP's accuracy on labelled pictures, by the names of their classes alone.

    The lists of ImageNet's classes do not come with this package: give the data set's file of names. Only the
    classes that are there and have a name are told apart, so ImageNet-R and -A are of 200 classes, and
    ObjectNet is of those that the file names.
    """
    from unclip.config import to_dict
    from unclip.data.labelled import check_layout, open_labelled, read_names
    from unclip.errors import InputError

    if layout and len(layout) != len(data):
        raise InputError(f"{len(layout)} --layout for {len(data)} --data: give one for each, or none")
    opened = {str(source): open_labelled(source) for source in data}
    for pictures, wanted in zip(opened.values(), layout or (), strict=False):
        check_layout(pictures, wanted)
    given = {key: name for file in names or () for key, name in read_names(file).items()}

    from unclip import zero_shot as measure
    from unclip.embedding import ClipEmbedder

    clip = ClipEmbedder.load(model, device=device)
    reports = {
        source: watched(measure.zero_shot(clip, pictures, given or None, templates))
        for source, pictures in opened.items()
    }
    if json:
        found = {source: to_dict(report) for source, report in reports.items()}
        print_report(clip, next(iter(found.values())) if len(found) == 1 else {"data": found})
    elif len(reports) == 1:
        _print_one(next(iter(reports.values())))
    else:
        _print_table(reports)
    if broken := sum(report.broken for report in reports.values()):
        typer.echo(f"unclip: {broken} files are no pictures and were left out", err=True)


def linear_probe(
    data: Annotated[
        Path, typer.Option(help="Folder of class/picture.png, of webdataset shards or of Parquet tables.")
    ],
    test: Annotated[Path, typer.Option(help="The same with the pictures to test on.")],
    seed: Annotated[int, typer.Option(help="Of the pictures that are held back.", min=0)] = 0,
    model: options.Model = None,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Train logistic regression on CLIP's frozen features, and measure it.

    The strength of its penalty is chosen on a fifth of the training pictures.
    """
    from unclip.config import to_dict
    from unclip.data.labelled import open_labelled

    train, tested = open_labelled(data), open_labelled(test)

    from unclip import zero_shot as measure
    from unclip.embedding import ClipEmbedder

    clip = ClipEmbedder.load(model, device=device)
    report = watched(measure.linear_probe(clip, train, tested, seed))
    if json:
        print_report(clip, to_dict(report))
        return
    typer.echo(f"accuracy   {_shown(report.accuracy)}")
    typer.echo(f"penalty    {report.penalty:.3g}  {report.trained} pictures to train on")


def watched(work: Generator[tuple[str, int, int], None, Report]) -> Report:
    """The result of a piece of work whose progress is shown."""
    from unclip.cli.progress import StageProgress

    with StageProgress(rates=True) as progress:
        while True:
            try:
                progress.update(*next(work))
            except StopIteration as end:
                report: Report = end.value
                return report


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:6.2%}  ({estimate.low:.2%} to {estimate.high:.2%}, {estimate.count} pictures)"


def print_report(clip: ClipEmbedder, found: dict[str, Any]) -> None:
    """One document: the model, and what was found."""
    from unclip import __version__

    model = {"name": clip.name, "clip": clip.identity, "version": __version__}
    print_json({"model": model, **found})


def _print_one(report: ZeroShot) -> None:
    typer.echo(f"top 1      {_shown(report.top1)}")
    if report.top5 is not None:
        typer.echo(f"top 5      {_shown(report.top5)}")
    typer.echo(f"per class  {report.per_class:6.2%}  {len(report.classes)} classes")


def _print_table(reports: dict[str, ZeroShot]) -> None:
    """In Markdown, a data set a row."""
    typer.echo("| data | top 1 | top 5 | per class | classes |\n|---|---|---|---|---|")
    for source, report in reports.items():
        top5 = _shown(report.top5) if report.top5 is not None else "-"
        cells = (source, _shown(report.top1), top5, f"{report.per_class:.2%}", str(len(report.classes)))
        typer.echo(f"| {' | '.join(cells)} |")
