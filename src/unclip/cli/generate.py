"""`unclip generate`: pictures from text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli import completion, options
from unclip.cli.pictures import draw

if TYPE_CHECKING:
    from unclip.drawing import Event
    from unclip.model import Model
    from unclip.record import Record

app = typer.Typer()


@dataclass(frozen=True)
class Drawing(options.Drawing):
    """The options of drawing from text, for models of every family."""

    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels: 64, 256, 512 or 1024. By default 256, or what the model draws."),
    ] = None
    style: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|any",
            help="Where the prompt names no style: draw in this one, or add none. By default one that the "
            "model draws clearly, by the seed.",
            autocompletion=completion.styles,
        ),
    ] = None
    steps: Annotated[
        str | None, typer.Option(help="Steps of the decoder: a count, or a spacing such as fast27.")
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(help="How closely the decoder follows the prompt; 1 (of a classifier: 0) is none."),
    ] = None
    prior_guidance: Annotated[float | None, typer.Option(help="The same for the prior.")] = None
    prior: options.Prior = None
    clip_guidance: Annotated[
        float | None, typer.Option(help="Of GLIDE: how closely it follows a CLIP that sees noised pictures.")
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Of the decoder: ancestral, ddim, analytic-dpm, dpm++ or heun; of NCSN langevin, too.",
            autocompletion=completion.samplers,
        ),
    ] = None
    candidates: options.Candidates = None
    rerank: Annotated[
        int | None, typer.Option(metavar="N", help="Draw N small pictures, enlarge the best by CLIP.")
    ] = None
    temperature: Annotated[
        float | None, typer.Option(help="Of models that draw codes one by one; below 1 they are surer.")
    ] = None
    top_k: Annotated[int | None, typer.Option(help="The same: draw from the K likeliest codes.")] = None
    top_p: Annotated[
        float | None, typer.Option(help="The same: draw from the likeliest codes that reach P together.")
    ] = None
    start: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="The same: keep the upper part of a picture and go on below."),
    ] = None
    keep_rows: Annotated[
        int | None, typer.Option(help="Rows of codes that are kept of the picture to start from.")
    ] = None
    init: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Start from this picture in place of noise; see --strength."),
    ] = None
    strength: Annotated[
        float | None,
        typer.Option(help="How much of it is drawn anew: 0 gives it back, 1 ignores it. By default 0.7."),
    ] = None
    fit: Annotated[
        str | None,
        typer.Option(
            help="What is done with one that is not square: letterbox, crop or stretch.",
            autocompletion=completion.words("letterbox", "crop", "stretch"),
        ),
    ] = None


@app.command()
@options.grouped
def generate(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PROMPT",
            help="What to draw.",
            show_default=False,
            autocompletion=completion.prompts,
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures of each prompt, 1 to 100.")] = 1,
    *,
    drawing: Drawing,
    out: options.Out = None,
    format: options.Format = None,
    from_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read prompts from FILE, one a line; - is stdin.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE", help="Draw a picture of unclip again, by its metadata; other options change it."
        ),
    ] = None,
    translate: options.Translate = None,
    lora: options.Lora = None,
    model: options.Model = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    offload: options.Offload = False,
    exact: options.Exact = False,
    json: options.Json = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the pictures in the terminal.")] = False,
    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Leave prompt, seed and model out of the files.")
    ] = False,
    no_provenance: options.NoProvenance = False,
    watermark: options.Watermark = False,
    policy: options.Policy = None,
) -> None:
    """Draw pictures from text.

    The paths of the files are printed as they are written.
    """
    from unclip.drawing import Options
    from unclip.images import open_image

    own = {"n": n, "start": None if drawing.start is None else open_image(drawing.start)}
    begin: Callable[[Model, options.Drawing], Iterator[Event]]
    if like is None:
        Options(**vars(drawing) | own)  # what is wrong with them is said before anything is loaded
        texts = _texts(prompts or [], from_file)

        def begin(model: Model, seeded: options.Drawing) -> Iterator[Event]:
            return model.stream(texts, **vars(seeded) | own)

    else:
        record, text = _record(like, prompts or [], from_file), next(iter(prompts or []), None)
        record.check(text, vars(drawing) | own)
        texts, chosen = [record.prompt if text is None else text], model
        drawing = replace(drawing, seed=record.seed if drawing.seed is None else drawing.seed)
        model = record.model if model is None else model
        if dtype is None and not exact:
            dtype, exact = (None, True) if record.exact else (record.precision, False)

        def begin(model: Model, seeded: options.Drawing) -> Iterator[Event]:
            return _again(model, record, chosen is not None, text, vars(seeded) | own)

    draw(
        begin,
        drawing,
        options.Prompted(
            *(out, format, model, device, dtype, offload, exact, json),
            *(no_metadata, no_provenance, watermark, policy, translate, lora),
        ),
        texts,
        n,
        preview=preview,
        ranked=drawing.rerank is not None,
        prompts=texts,
        parents=[Path(picture) for picture in (drawing.start, drawing.init) if picture is not None],
    )


def _record(path: str, prompts: list[str], from_file: str | None) -> Record:
    """The record of a picture that is to be drawn again. Raises InputError for several prompts, too."""
    from unclip.errors import InputError
    from unclip.record import Record

    if len(prompts) > 1 or from_file is not None:
        raise InputError("--like draws one picture again: give at most one prompt, in place of its own")
    return Record.of(path)


def _again(
    model: Model, record: Record, other: bool, prompt: str | None, settings: dict[str, Any]
) -> Iterator[Event]:
    """Draw the picture of a record by the bundle that is meant, or by another one that was asked for."""
    from unclip.errors import BundleError
    from unclip.record import like

    difference = record.difference(model.bundle.name, model.bundle.identity)
    if difference is not None and not other:
        raise BundleError(f"{difference}; give --model {model.bundle.name} to draw it all the same")
    return like(model, record, prompt, **settings)


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
