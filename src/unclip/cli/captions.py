"""`unclip caption-complete`: a model that knows texts as well as pictures completes captions."""

from __future__ import annotations

from typing import Annotated

import typer

from unclip.cli import completion, options
from unclip.cli.lines import print_json

app = typer.Typer()


@app.command("caption-complete")
def caption_complete(
    beginning: Annotated[
        str, typer.Argument(metavar="BEGINNING", help="Text that every caption begins with.")
    ] = "",
    n: Annotated[int, typer.Option("--n", "-n", help="Captions, 1 to 100.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="The same seed writes the same captions. Random by default.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits; below 1 likely words become likelier.")
    ] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from the K likeliest tokens.")] = None,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest tokens that reach probability P together.")
    ] = 1.0,
    model: Annotated[
        str,
        typer.Option(
            help="Name or folder of a bundle of the family dalle1.", autocompletion=completion.models
        ),
    ] = "pictograms-dalle1",
    device: options.Device = None,
    dtype: options.Dtype = None,
    exact: options.Exact = False,
    json: options.Json = False,
) -> None:
    """Complete a caption, one completion a line: DALL-E 1 models texts as well as pictures."""
    from unclip.drawing import Options, fresh_seed

    Options(n=n, seed=seed)  # what is wrong with them is said before anything is loaded
    from unclip import load
    from unclip.models.code_sampling import CodeSampling

    sampling, used = CodeSampling(temperature=temperature, top_k=top_k, top_p=top_p), fresh_seed(seed)
    loaded = load(model, device=device, precision=dtype, exact=exact)
    captions = loaded.complete_caption(beginning, n, used, sampling)
    if json:
        print_json({"seed": used, "captions": captions})
        return
    for caption in captions:
        typer.echo(caption)
    if seed is None:
        typer.echo(f"seed {used}", err=True)
