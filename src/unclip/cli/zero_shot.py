"""`unclip evaluate zero-shot` and `linear-probe`: how well CLIP tells labelled pictures apart."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from unclip.evaluate.statistics import Estimate

Report = TypeVar("Report")
Data = Annotated[
    Path, typer.Option(help="Folder of class/picture.png, of webdataset shards or of Parquet tables.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Model = Annotated[str | None, typer.Option(help="Name or folder of a bundle.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps.")]


def register(app: typer.Typer) -> None:
    """Make these verbs of a group."""
    app.command("zero-shot")(zero_shot)
    app.command("linear-probe")(linear_probe)


def zero_shot(
    data: Data,
    names: Annotated[
        Path | None,
        typer.Option(help="File of the classes' names, such as LOC_synset_mapping.txt of ImageNet."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="Check that the data is imagenet, imagenet-v2, imagenet-sketch, imagenet-r, imagenet-a or "
            "objectnet."
        ),
    ] = None,
    templates: Annotated[
        str, typer.Option(help="plain, photo, imagenet (the paper's 80), best7 or pictograms.")
    ] = "imagenet",
    model: Model = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Measure CLIP's accuracy on labelled pictures, by the names of their classes alone.

    The lists of ImageNet's classes do not come with this package: give the data set's file of names. Only the
    classes that are there and have a name are told apart, so ImageNet-R and -A are of 200 classes, and
    ObjectNet is of those that the file names.
    """
    from unclip.data.labelled import check_layout, open_labelled, read_names
    from unclip.runtime import limit_spinning

    pictures = open_labelled(data)
    if layout is not None:
        check_layout(pictures, layout)
    given = read_names(names) if names is not None else None
    limit_spinning()
    from unclip import zero_shot as measure
    from unclip.embedding import ClipEmbedder

    clip = ClipEmbedder.load(model, device=device)
    report = watched(measure.zero_shot(clip, pictures, given, templates))
    if json:
        print_json(clip.name, clip.identity, report)
        return
    typer.echo(f"top 1      {_shown(report.top1)}")
    if report.top5 is not None:
        typer.echo(f"top 5      {_shown(report.top5)}")
    typer.echo(f"per class  {report.per_class:6.2%}  {len(report.classes)} classes")
    if report.broken:
        typer.echo(f"unclip: {report.broken} files are no pictures and were left out", err=True)


def linear_probe(
    data: Data,
    test: Annotated[Path, typer.Option(help="The same with the pictures to test on.")],
    seed: Annotated[int, typer.Option(help="Of the pictures that are held back.", min=0)] = 0,
    model: Model = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Train logistic regression on CLIP's frozen features, and measure it.

    The strength of its penalty is chosen on a fifth of the training pictures.
    """
    from unclip.data.labelled import open_labelled
    from unclip.runtime import limit_spinning

    train, tested = open_labelled(data), open_labelled(test)
    limit_spinning()
    from unclip import zero_shot as measure
    from unclip.embedding import ClipEmbedder

    clip = ClipEmbedder.load(model, device=device)
    report = watched(measure.linear_probe(clip, train, tested, seed))
    if json:
        print_json(clip.name, clip.identity, report)
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


def print_json(name: str, identity: str, report: Any, **settings: Any) -> None:
    """One document: the model, the settings, and what was found."""
    from json import dumps

    from unclip import __version__
    from unclip.config import to_dict

    model = {"name": name, "clip": identity, "version": __version__}
    document = {"model": model, **settings, **to_dict(report)}
    typer.echo(dumps(document, indent=1, ensure_ascii=False))
