"""`unclip serve`: the Images API on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli import completion, options
from unclip.cli.ray import RayMayStandAlone
from unclip.ray_cluster import settle
from unclip.serve.cluster import DEFAULT_SIZE, Size

if TYPE_CHECKING:
    from unclip.serve.models import Models
    from unclip.serve.worker import Observe, Worker


app = typer.Typer()


@app.command(cls=RayMayStandAlone)
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Name or folder of a bundle, several times for several; the first is the default."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; all but loopback need --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes one that is free.")] = 8000,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Jobs and pictures. By default in the user's data folder."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names and hashes of keys; clients send a key then.")
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Add a key to the file of --keys, print it, and end."),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="How clients reach it behind a proxy.")
    ] = None,
    cors: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="A page of another server that may ask.")
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(metavar="NAME=BUNDLE", help="Another name of a bundle.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="Most that loaded bundles weigh together.")
    ] = None,
    most_jobs: Annotated[int, typer.Option(help="Jobs that may wait, for each replica.")] = 64,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Draw by replicas, on the Ray cluster of this address, or without one on this machine.",
        ),
    ] = None,
    replicas: Annotated[int, typer.Option(help="Processes that draw, with --ray.")] = DEFAULT_SIZE.replicas,
    replica_cores: Annotated[int, typer.Option(help="Cores of each of them.")] = DEFAULT_SIZE.cores,
    replica_gpus: Annotated[
        float, typer.Option(help="GPUs of each of them; .5 is a half.")
    ] = DEFAULT_SIZE.gpus,
    keep_days: Annotated[float | None, typer.Option(help="Days that kept pictures stay; for ever.")] = None,
    keep_gb: Annotated[float | None, typer.Option(help="Most that pictures take on disk.")] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Pictures that may be indexed and searched, several times."),
    ] = None,
    allow_pull: Annotated[
        bool,
        typer.Option(
            "--allow-pull", help="Who has a key may fetch published models; without --keys one may anyway."
        ),
    ] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write prompts to the log.")] = False,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Rules of what may be drawn: dalle2, midjourney, none, or a file of TOML. By default none "
            "where only this machine asks, dalle2 where others do, and what a model's card asks for.",
            autocompletion=completion.words("dalle2", "midjourney", "none"),
        ),
    ] = None,
    no_provenance: options.NoProvenance = False,
    watermark: Annotated[
        bool,
        typer.Option(
            "--watermark/--no-watermark",
            help="Mark what a model drew, invisibly: it outlives saving anew, cutting and another size.",
        ),
    ] = True,
    translate: options.Translate = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    exact: options.Exact = False,
) -> None:
    """Serve the Images API: clients of the hosted service draw here.

    The last line on stderr once it is ready names the address. SIGTERM finishes what is being drawn.
    """
    from unclip.errors import InputError

    if new_key is not None:
        from unclip.serve.keys import new_key as added

        if keys is None:
            raise InputError("--new-key adds to a file: give --keys FILE")
        typer.echo(added(keys, new_key))
        return
    try:
        from unclip.serve.server import Place, Server, lock
    except ImportError as error:
        raise InputError(f"{error.name} is missing: install unclip[serve]") from error
    from unclip.policy import NONE, Policy
    from unclip.provenance import Signer
    from unclip.runtime import data_folder
    from unclip.serve.admission import Admission
    from unclip.serve.folders import Folders
    from unclip.serve.keys import Keys
    from unclip.serve.models import Models
    from unclip.serve.outgoing import Marking
    from unclip.serve.pulls import Pulls
    from unclip.serve.scheduler import Scheduler
    from unclip.serve.service import Keeping, Service
    from unclip.serve.store import Store

    chosen = None if policy is None else Policy.named(policy)
    signer = None if no_provenance else Signer.find()
    place = Place(host, port, public_url, None if keys is None else Keys(keys), tuple(cors or ()))
    make = partial(
        Models.of,
        [_found_anywhere(source) for source in model] if model else [None],
        alias or (),
        device=device,
        precision=dtype,
        exact=exact,
        translate=translate,
        memory=None if memory is None else int(memory * 1e9),
    )
    worker: Callable[[Models, Observe], Worker] = Scheduler
    size = Size(replicas, replica_cores, replica_gpus)
    if ray is not None:
        settle(ray)
        try:
            from unclip.serve.replicas import Replicas
        except ImportError as error:
            raise InputError(f"{error.name} is missing: install unclip[cluster]") from error
        worker = partial(Replicas, make=make, address=ray, size=size)
    elif size != DEFAULT_SIZE:
        raise InputError("--replicas, --replica-cores and --replica-gpus mean something with --ray alone")
    models = make()
    home = data or data_folder() / "serve"
    with lock(home):
        service = Service(
            models,
            Store(home),
            worker=worker,
            admission=Admission(most_jobs=most_jobs, workers=1 if ray is None else replicas),
            keeping=Keeping(keep_days, None if keep_gb is None else int(keep_gb * 1e9)),
            public_url=public_url,
            log_prompts=log_prompts,
            marking=Marking(not no_provenance, watermark, signer),
            folders=Folders(folder or (), home),
            pulls=Pulls() if keys is None or allow_pull else None,
            policy=chosen,
            default=Policy.named("dalle2" if place.is_public else NONE),
        )
        for name in models.bundles:
            guard = service.guard(name)
            if chosen is not None:
                guard.check_applied()
            typer.echo(f"unclip: {name}: {guard.said()}", err=True)
        Server(service, place, lambda address: typer.echo(f"unclip: ready on {address}", err=True)).run()


def _found_anywhere(source: str) -> str:
    """The name of a bundle, or the folder of one so that another process finds it."""
    return str(Path(source).absolute()) if Path(source).is_dir() else source
