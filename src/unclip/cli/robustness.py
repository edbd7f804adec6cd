"""`unclip evaluate robustness`: CLIP zero-shot and a supervised model on styles that neither has seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unclip.cli import options
from unclip.cli.zero_shot import print_report, watched

if TYPE_CHECKING:
    from unclip.evaluate.robustness import Robustness, Tested
    from unclip.evaluate.statistics import Estimate


def register(app: typer.Typer) -> None:
    """Make it a verb of a group."""
    app.command("robustness")(robustness)


def robustness(
    bundle: Annotated[str, typer.Argument(help="Name or folder of a bundle whose CLIP is tested.")],
    supervised: Annotated[
        Path, typer.Argument(help="Folder of a run of `unclip train supervised`, or one weight file.")
    ],
    data: Annotated[Path, typer.Option(help="The corpus that both learned from.")],
    templates: Annotated[
        str, typer.Option(help="plain, photo, imagenet (the paper's 80), best7 or pictograms.")
    ] = "plain",
    seed: Annotated[int, typer.Option(help="Of the resampling.", min=0)] = 0,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Compare CLIP with a supervised model on styles that neither has seen.

    Both tell the same concepts apart. CLIP is compared with that checkpoint of the supervised run that is as
    good as CLIP in the styles that both learned from.
    """
    from unclip.config import to_dict
    from unclip.embedding import ClipEmbedder
    from unclip.evaluate import robustness as measure
    from unclip.runtime import pick_device

    clip = ClipEmbedder.load(bundle, device=device)
    work = measure.robustness(clip, supervised, data, templates, device=pick_device(device), seed=seed)
    report = watched(work)
    if json:
        print_report(clip, {"templates": templates, "seed": seed, **to_dict(report)})
    else:
        typer.echo(_table(report))


def _table(report: Robustness) -> str:
    """A Markdown table, and what it says in words."""
    rows: list[Tested] = [report.clip, *report.supervised]
    tests = list(report.difference)
    nearest = report.supervised[report.nearest]
    lines = [
        f"| accuracy in %, {report.classes:,} classes | {' | '.join(tests)} |",
        "|---" * (len(tests) + 1) + "|",
        *(f"| {row.name} | {' | '.join(_shown(row.accuracy[test]) for test in tests)} |" for row in rows),
        f"| CLIP less {nearest.name} | {' | '.join(_shown(report.difference[t]) for t in tests)} |",
        "",
        f"pictures: {', '.join(f'{report.clip.accuracy[test].count:,} {test}' for test in tests)}",
    ]
    if not report.equal:
        lines.append(
            f"No checkpoint is as good as CLIP on {tests[0]}; {nearest.name} comes nearest. So the last row "
            "compares models of different accuracy: train for longer, or keep more checkpoints."
        )
    return "\n".join(lines)


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})".replace("%", "")
