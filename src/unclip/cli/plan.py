"""`unclip plan`: what a recipe costs on so many GPUs."""

from __future__ import annotations

from typing import Annotated

import typer

from unclip.cli import completion

app = typer.Typer()


@app.command()
def plan(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a recipe (see `unclip train --list`), or path of a TOML file.",
            autocompletion=completion.recipes,
        ),
    ],
    gpus: Annotated[int, typer.Option(help="GPUs of all machines together.")] = 1,
    gpu_memory: Annotated[
        float | None, typer.Option(metavar="GIB", help="Memory of a GPU; by default that of its kind.")
    ] = None,
    link: Annotated[
        float,
        typer.Option(
            metavar="GBIT", help="Gigabits a second that a machine sends to others, and as many back."
        ),
    ] = 100.0,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="v100, v100-32, rtx-4090, a100, a100-80, l40s, h100 or h200; by default the largest that "
            "--gpu-memory allows, else a100-80.",
        ),
    ] = None,
    per_machine: Annotated[int, typer.Option(help="GPUs of a machine.")] = 8,
    tflops: Annotated[
        float | None, typer.Option(help="Peak of a GPU in 10^12 operations a second; by default its kind's.")
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the peak that is reached.")] = 0.3,
    inside: Annotated[
        float | None,
        typer.Option(metavar="GB", help="Gigabytes a second from a GPU to others of its machine."),
    ] = None,
    failure_hours: Annotated[
        float, typer.Option(metavar="HOURS", help="Mean hours of a GPU between two failures.")
    ] = 50_000.0,
    write: Annotated[
        float, typer.Option(metavar="GB", help="Gigabytes a second at which checkpoints are written.")
    ] = 2.0,
    numbers: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="float32, as `unclip train` keeps weights and moments; or paper, 16 bits for all: DALL-E's "
            "paper did so, `unclip train` does not.",
        ),
    ] = "float32",
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="This stage of the recipe alone.")] = None,
    pictures: Annotated[
        int | None, typer.Option(help="Pictures of the data: how often each is seen.", min=1)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A corpus that is there: its classes and number of pictures.")
    ] = None,
    classes: Annotated[
        int, typer.Option(help="Classes of the pictures, for stages that learn them; without --data.")
    ] = 1000,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the recipe, for example clip.train.batch=1024."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Forecast memory, traffic and time of a recipe's training on so many GPUs, without training it.

    For each stage, and for each way of sharing its work: the memory of a GPU by what it is for, the bytes
    that leave a machine in a step, seconds of a step, and days with failures and checkpoints. Networks are
    built without their numbers: one of 12 billion takes seconds and no memory.
    """
    from json import dumps

    from unclip import recipes
    from unclip.train.plan import Cluster, Numbers, Outline, document, kind_of_gpu
    from unclip.train.plan import plan as planned
    from unclip.train.plan_report import text

    cluster = Cluster(
        gpus=gpus,
        per_machine=per_machine,
        gpu=kind_of_gpu(gpu, gpu_memory, tflops, inside),
        link=link,
        utilisation=utilisation,
        failure_hours=failure_hours,
        write=write,
        numbers=Numbers.named(numbers),
    )
    outline = Outline(recipes.load(recipe, settings or ()), data, classes)
    plans = list(planned(outline, cluster, only, pictures))
    typer.echo(dumps(document(plans, cluster)) if json else text(plans, cluster))
