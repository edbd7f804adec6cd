"""`unclip evaluate prefer` and `score`: pictures that people name or choose between, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unclip.cli import completion, options
from unclip.cli.lines import print_json

if TYPE_CHECKING:
    from unclip.evaluate.forms import Scores
    from unclip.evaluate.statistics import Estimate


def register(app: typer.Typer) -> None:
    """Make these verbs of a group."""
    app.command("prefer")(prefer)
    app.command("score")(score)


def prefer(
    first: Annotated[
        str, typer.Argument(metavar="A", help="Name or folder of a bundle.", autocompletion=completion.models)
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="Another one.", autocompletion=completion.models)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sheets, the form and its key.")],
    from_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Prompts, one a line; - is stdin. By default the English ones of the part names.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the pictures of both.", min=0)] = 1,
    device: options.Device = None,
    dtype: options.Dtype = None,
) -> None:
    """Draw the same prompts with two bundles, for people to choose between without knowing which is which.

    The form takes left, right or equal for each pair; `unclip evaluate score` counts. Do not show the key.
    """
    from unclip.cli.lines import read_lines
    from unclip.cli.progress import StageProgress
    from unclip.runtime import check_writable

    prompts = None if from_file is None else read_lines(from_file, "prompts")
    check_writable(out)

    from unclip import load
    from unclip.evaluate.prefer import prefer as paired

    with StageProgress() as progress:
        a, b = (load(bundle, device=device, precision=dtype) for bundle in (first, second))
        work = paired(a, b, out, prompts, seed)
        while True:
            try:
                progress.update(*next(work))
            except StopIteration as stop:
                files = stop.value
                break
    for file in files:
        typer.echo(file)


def score(
    forms: Annotated[list[Path], typer.Argument(metavar="FORM...", help="Filled forms of one key.")],
    key: Annotated[
        Path | None, typer.Option(help="The key of the forms. By default key.json beside the first.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Count what people said of pictures: how many they named right, or which bundle they preferred.

    A name that is not the prompt's own words is wrong unless the column `right` says yes; such names are
    listed, so that a person can decide them. Several forms are several readers, whose agreement is said.
    """
    from unclip.evaluate.forms import score as scored

    found = scored(forms, key)
    if json:
        print_json(_document(found))
    else:
        typer.echo(_table(found))


def _document(found: Scores) -> dict[str, Any]:
    from unclip.config import to_dict

    agreement = None
    if found.agreement is not None:
        agreement = {"equal": round(found.agreement[0], 4), "kappa": round(found.agreement[1], 4)}
    return {
        "kind": found.kind,
        **found.about,
        "shares": {name: to_dict(one) for name, one in found.shares.items()},
        "readers": {name: to_dict(one) for name, one in found.readers.items()},
        "agreement": agreement,
        "undecided": [list(row) for row in found.undecided],
    }


def _table(found: Scores) -> str:
    from unclip.evaluate.forms import NAMES

    what = "named right" if found.kind == NAMES else f"A preferred ({found.about.get('a', 'A')})"
    lines = [f"| {what} | share (95 % interval) | pictures |", "|---|---|---|"]
    lines += [f"| {name} | {_shown(one)} | {one.count} |" for name, one in found.shares.items()]
    if found.agreement is not None:
        lines += [f"| reader {name} | {_shown(one)} | {one.count} |" for name, one in found.readers.items()]
        equal, kappa = found.agreement
        lines += ["", f"Readers agree on {equal:.2f} of the pictures; Cohen's kappa {kappa:.2f}."]
    if found.undecided:
        lines += ["", "Compared letter by letter; say yes or no in the column `right` where that is wrong:"]
        lines += [
            f"{number}: {prompt!r}, named {' / '.join(repr(answer) for answer in answers)}"
            for number, prompt, answers in found.undecided
        ]
    return "\n".join(lines)


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f}-{estimate.high:.2f})"
