"""`unclip train`: a recipe, a corpus, a folder for the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import completion
from unclip.cli.ray import RayMayStandAlone
from unclip.train.placing import USUAL, Placing

app = typer.Typer()
OF_RAY = ("ray", "processes", "process_cores", "process_gpus", "restarts")  # which the processes do not get


def _print_recipes(wanted: bool) -> None:
    if wanted:
        from unclip import recipes

        names = recipes.names()
        width = max(len(name) for name in names)
        for name in names:
            typer.echo(f"{name:<{width}}  {recipes.describe(name)}")
        raise typer.Exit


@app.command(cls=RayMayStandAlone)
def train(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            help="Name of a recipe (see --list), or path of a TOML file.", autocompletion=completion.recipes
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|ADDRESS",
            help="The corpus, as `unclip data` makes it: its folder, or where a copy of it lies (s3://, "
            "gs://, hf://, https://); its shards are then fetched while they are learned from.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run. A run that stands there goes on.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the recipe, for example clip.train.batch=32."
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Train this stage of the recipe alone.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps to train, of each stage; --set comes first.", min=1)
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bfloat16 or float32.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:N; by default CUDA if there is.")
    ] = None,
    redo: Annotated[
        bool,
        typer.Option(
            "--redo",
            help="Train anew the stages whose corpus, settings or earlier stages have changed since; the old "
            "ones are kept in RUN/before.",
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check everything, print what would be trained, and end.")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where shards from an ADDRESS are kept meanwhile; by default in the user's cache folder.",
        ),
    ] = None,
    cache_size: Annotated[
        float | None, typer.Option(metavar="GB", help="Most that they take there; by default 20.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Train by several processes, on the Ray cluster of this address, or without one on this "
            "machine; to be said behind RECIPE.",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(help="Processes that train together, with --ray.")
    ] = USUAL.processes,
    process_cores: Annotated[int, typer.Option(help="Cores of each of them.")] = USUAL.cores,
    process_gpus: Annotated[float, typer.Option(help="GPUs of each of them.")] = USUAL.gpus,
    restarts: Annotated[
        int, typer.Option(help="Times that all begin again, from the newest checkpoint, after one has died.")
    ] = USUAL.restarts,
    list_recipes: Annotated[
        bool, typer.Option("--list", help="List the recipes.", callback=_print_recipes, is_eager=True)
    ] = False,
) -> None:
    """Train the stages of a recipe one after the other, up to a bundle.

    All keys, values and files that the recipe names are checked before the first step. Ctrl-C stops it with a
    checkpoint; the same command again goes on. A stage leaves a note of what it was trained on: with another
    corpus or other settings the run says which stages are stale, and goes on with --redo. Several GPUs share
    each batch out: torchrun --nproc-per-node N --module unclip train ..., or --ray on a cluster.
    """
    from unclip import recipes

    tables = [key for key, _ in recipes.train_tables(recipes.load(recipe))]
    general = [("steps", steps), ("precision", precision)]
    assignments = [
        f"{table}.{name}={value}" for name, value in general if value is not None for table in tables
    ]
    loaded = recipes.load(recipe, [*assignments, *(settings or ())])  # of two for one key the later holds

    from unclip.data.store import CACHE_BYTES, Cache, is_address
    from unclip.errors import InputError
    from unclip.runtime import pick_device
    from unclip.train.run import Run

    source = data if is_address(data) else Path(data)
    if (cache, cache_size) != (None, None) and isinstance(source, Path):
        raise InputError("--cache and --cache-size mean something with an address as --data alone")
    placing = Placing(processes, process_cores, process_gpus, restarts)
    if ray is not None and not check:
        _train_on_cluster(context, ray, placing)
        return
    if placing != USUAL and ray is None:
        raise InputError(
            "--processes, --process-cores, --process-gpus and --restarts mean something with --ray alone"
        )
    kept = Cache(cache, CACHE_BYTES if cache_size is None else int(cache_size * 1e9))
    run = Run(loaded, source, out, pick_device(device), command=context.obj or "", cache=kept)
    typer.echo(run.check(only, redo) if check else run.go(only, redo))


def _train_on_cluster(context: typer.Context, address: str, placing: Placing) -> None:
    """Has the same command run by processes of a cluster."""
    from unclip.errors import InputError
    from unclip.ray_cluster import settle

    settle(address)
    try:
        from unclip.train import placement
    except ImportError as error:
        raise InputError(f"{error.name} is missing: install unclip[cluster]") from error
    printed = placement.run(
        _again(context), placing, address, lambda text: typer.echo(text, err=True, nl=False)
    )
    typer.echo(printed, nl=False)


def _again(context: typer.Context) -> list[str]:
    """The command of this context, without what is said of the cluster."""
    words: list[str] = [str(context.info_name)]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params.get(str(parameter.name))
        if name in OF_RAY or value is None or value is False:
            continue
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif value is True:
            words.append(parameter.opts[0])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                words += [parameter.opts[0], str(one)]
    return words
