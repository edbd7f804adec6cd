"""`unclip generate`: pictures from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli import options

if TYPE_CHECKING:
    from unclip.drawing import Picture
    from unclip.pipeline import Pipeline

app = typer.Typer()

PREVIEW_COLUMNS = 48


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT", help="What to draw.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures of each prompt, 1 to 100.")] = 1,
    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default 256, or what the model draws."),
    ] = None,
    seed: options.Seed = None,
    steps: Annotated[
        str | None, typer.Option(help="Steps of the decoder: a count, or a spacing such as fast27.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="How closely the decoder follows the prompt; 1 (of a classifier: 0) is none."),
    ] = None,
    prior_guidance: Annotated[float | None, typer.Option(help="The same for the prior.")] = None,
    prior: options.Prior = None,
    clip_guidance: Annotated[
        float | None, typer.Option(help="Of GLIDE: how closely it follows a CLIP that sees noised pictures.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Of the decoder: ancestral, ddim, analytic-dpm, dpm++ or heun; of NCSN langevin, too."
        ),
    ] = None,
    candidates: options.Candidates = None,
    rerank: Annotated[
        int | None, typer.Option(metavar="N", help="Draw N small pictures, enlarge the best by CLIP.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of models that draw codes one by one; below 1 they are surer.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="The same: draw from the K likeliest codes.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="The same: draw from the likeliest codes that reach P together.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="The same: keep the upper part of a picture and go on below."),
    ] = None,
    keep_rows: Annotated[
        int | None, typer.Option(help="Rows of codes that are kept of the picture to start from.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Start from this picture in place of noise; see --strength."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of it is drawn anew: 0 gives it back, 1 ignores it. By default 0.7."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="What is done with one that is not square: letterbox, crop or stretch."),
    ] = None,
    out: options.Out = None,
    format: options.Format = None,
    from_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read prompts from FILE, one a line; - is stdin.")
    ] = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offload: options.Offload = False,
    json: options.Json = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the pictures in the terminal.")] = False,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Leave prompt, seed and model out of the files.")
    ] = False,
) -> None:
    """Draw pictures from text.

    The paths of the files are printed as they are written.
    """
    import secrets
    import time
    from collections import defaultdict

    from unclip.cli.progress import StageProgress
    from unclip.drawing import Options
    from unclip.images import ImageFormat, open_image
    from unclip.naming import Names

    texts = _texts(prompts or [], from_file)
    asked: dict[str, Any] = {
        "n": n,
        "size": size,
        "seed": secrets.randbelow(2**32) if seed is None else seed,
        "steps": steps,
        "guidance": guidance,
        "prior": prior,
        "prior_guidance": prior_guidance,
        "sampler": sampler,
        "candidates": candidates,
        "rerank": rerank,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "clip_guidance": clip_guidance,
        "start": None if start is None else open_image(start),
        "keep_rows": keep_rows,
        "init": init,
        "strength": strength,
        "fit": fit,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    Options(**given)  # what is wrong with them is said before anything is loaded
    names = Names(out, ImageFormat.named(format) if format else None)
    names.check(((text, index) for text in texts for index in range(n)), asked["seed"])
    seconds: dict[str, float] = defaultdict(float)
    files = 0.0
    started = time.perf_counter()
    drawn: list[tuple[str, Picture]] = []
    with StageProgress() as progress:
        progress.update("load", 0, 1)
        from unclip.pipeline import load

        seconds["import"] = time.perf_counter() - started
        drawer = load(model, device=device, precision=dtype, offload=offload)
        events = drawer.stream(texts, **asked)
        progress.update("load", 1, 1)
        seconds["load"] = time.perf_counter() - started - seconds["import"]
        for event in events:
            progress.update(event.stage, event.step, event.total)
            seconds[event.stage] += event.seconds
            written = time.perf_counter()
            for picture in event.pictures:
                path = str(names.write(picture, len(drawn) + 1, metadata=not no_metadata))
                drawn.append((path, picture))
                if preview:
                    progress.print(_shown(picture))
                if not json:
                    typer.echo(path)
            files += time.perf_counter() - written
    seconds["files"] = files
    seconds["total"] = time.perf_counter() - started
    if json:
        typer.echo(document(drawer, drawn, names.format, seconds))
    elif seed is None:
        typer.echo(f"seed {asked['seed']}", err=True)


def _texts(prompts: list[str], from_file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file."""
    from unclip.cli.lines import read_lines
    from unclip.errors import InputError

    lines = read_lines(from_file, "prompts") if from_file is not None else []
    if not prompts and not lines:
        raise InputError('no prompt given: say what to draw, for example `unclip generate "a red apple"`')
    for prompt in prompts:
        if not prompt.strip():
            raise InputError("the prompt is empty: say what to draw")
    return [*prompts, *lines]


def _shown(picture: Picture) -> str:
    import shutil

    from unclip.sheets import half_blocks

    return half_blocks(picture.image, min(PREVIEW_COLUMNS, shutil.get_terminal_size().columns))


def document(
    drawer: Pipeline, drawn: list[tuple[str, Picture]], format: str, seconds: dict[str, float]
) -> str:
    """What --json prints of pictures that were drawn."""
    from json import dumps

    from unclip import __version__
    from unclip.runtime import peak_memory_bytes

    pictures = [
        {
            "path": path,
            "prompt": picture.prompt,
            "seed": picture.seed,
            "index": picture.index,
            "score": None if picture.score is None else round(picture.score, 4),
            "size": picture.image.width,
            "format": str(format),
            "settings": dict(picture.settings),
        }
        for path, picture in drawn
    ]
    whole = {
        "model": {"name": drawer.bundle.name, "weights": drawer.bundle.identity, "version": __version__},
        "pictures": pictures,
        "peak_memory_bytes": peak_memory_bytes(),
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
    }
    return dumps(whole, indent=1)
