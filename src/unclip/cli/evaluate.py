"""`unclip evaluate`: how well a bundle draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unclip.cli import completion, forms, options, robustness, zero_shot
from unclip.cli.default_verb import DefaultVerb
from unclip.cli.lines import print_json

app = typer.Typer(
    cls=DefaultVerb.of("bundle"), help="Measure how well a bundle draws, or how well its CLIP classifies."
)
zero_shot.register(app)
robustness.register(app)
forms.register(app)


@app.command("bundle")
def evaluate(
    bundle: Annotated[
        str, typer.Argument(help="Name or folder of a bundle.", autocompletion=completion.models)
    ],
    data: Annotated[Path, typer.Option(help="Folder of a corpus; make one with `unclip data`.")],
    judge: Annotated[
        str | None,
        typer.Option(
            help="The CLIP that scores pictures: the folder of a run of `unclip train judge`, a bundle, or a "
            "weight file. By default the bundle's own, which flatters it."
        ),
    ] = None,
    only: Annotated[
        str,
        typer.Option(
            metavar="PARTS",
            help="Of clip, prior, pictures, compositions, names, upsamplers, ablation, rerank, with commas.",
        ),
    ] = "clip,prior,pictures,compositions,names,upsamplers",
    captions: Annotated[int, typer.Option(help="Captions of each split, at most.", min=2)] = 1000,
    languages: Annotated[
        str | None,
        typer.Option(metavar="CODES", help="Of captions, with commas. By default en,ko,de where there."),
    ] = None,
    style: Annotated[
        bool,
        typer.Option(
            "--style/--no-style",
            help="Whether to draw prompts that name the style of the real picture, too, beside plain ones.",
        ),
    ] = True,
    text_decoder: Annotated[
        Path | None,
        typer.Option(help="Weights of a decoder trained on text embeddings, for the ablation."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of captions, noise and resampling.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the report and sheets of pictures.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    json: options.Json = False,
) -> None:
    """Measure how well a bundle draws what it is told, on the held-out pictures of a corpus.

    docs/evaluation.md says what each figure means. Nothing is written before everything is measured, but for
    features of the corpus in its cache.
    """
    import shlex
    import sys

    from unclip.cli.progress import StageProgress
    from unclip.runtime import check_writable

    if out is not None:
        check_writable(out)

    from unclip.evaluate.evaluation import Evaluation, Settings, sections
    from unclip.evaluate.report import document, table, write

    settings = Settings(
        bundle=bundle,
        data=data,
        judge=judge,
        only=sections(_listed(only)),
        captions=captions,
        languages=None if languages is None else tuple(_listed(languages)),
        style=style,
        text_decoder=text_decoder,
        seed=seed,
        device=device,
        precision=dtype,
    )
    command = shlex.join(["unclip", *sys.argv[1:]])
    with StageProgress() as progress:
        evaluation = Evaluation(settings)
        for stage, step, total in evaluation.run():
            progress.update(stage, step, total)
    if out is not None:
        write(evaluation, command, out)
    if json:
        print_json(document(evaluation, command))
    else:
        typer.echo(table(evaluation, command))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
