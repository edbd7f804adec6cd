"""`unclip bench`: speed and memory of a bundle on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from unclip.cli import options

app = typer.Typer()


@app.command()
def bench(
    model: options.Model = None,
    device: options.Device = None,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 256,
    repeats: Annotated[int, typer.Option(help="Times that each measurement is repeated.")] = 5,
) -> None:
    """Measure speed and memory of drawing.

    A table goes to stderr, and one line of JSON to stdout. Leave the machine alone meanwhile.
    """
    from json import dumps

    from unclip.bench import Benchmark, document, table
    from unclip.cli.progress import StageProgress

    benchmark = Benchmark(model, device, size, repeats)
    with StageProgress() as progress:
        for stage, step, total in benchmark.run():
            progress.update(stage, step, total)
    assert benchmark.report is not None
    typer.echo(table(benchmark.report), err=True)
    typer.echo(dumps(document(benchmark.report)))
