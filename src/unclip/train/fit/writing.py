"""The bundle of a fit: what was fitted, all else of the bundle that it began with, and a true card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unclip.adapters import write_adapters
from unclip.bundle import Bundle, save_bundle
from unclip.manifest import Styles
from unclip.train import card, state
from unclip.train.fit.plan import Plan
from unclip.train.fit.recipe import STAGES
from unclip.train.fit.verdict import Verdict, meaning
from unclip.train.results import Results
from unclip.train.statements import table_of

UNFITTED = ("ar-prior",)  # components that would go on drawing as before, and are left out


def limits(plan: Plan) -> str:
    """The limits of a fitted bundle, for its card."""
    prompts = (
        f'Prompts that say "{plan.common}" are drawn as the pictures are; others as {plan.base} draws them.'
        if plan.common
        else "All prompts are drawn in the style of the pictures."
    )
    return (
        f"- It is {plan.base}, fitted to {plan.pictures:,} pictures: what that bundle cannot draw, it "
        "mostly cannot "
        f"draw either.\n- {prompts}\n- Of so few pictures it may repeat single ones: the report of the fit "
        "shows the "
        "nearest one beside each drawing."
    )


def styles(base: Bundle, plan: Plan) -> Styles:
    """The styles of a fitted bundle: none is added to prompts that are drawn as the pictures are."""
    if plan.common:
        return replace(base.styles, words=(*base.styles.words, plan.common))
    return replace(base.styles, clear=(), words=())


def write(run: Results, base: Bundle, plan: Plan, verdicts: Sequence[Verdict], folder: Path) -> Bundle:
    """Writes the bundle into a folder, whole or not at all.

    Raises:
        TrainingError: it cannot be written.
    """
    table = table_of(run)
    parts = {name: base.part(name) for name in base.components if name not in (*STAGES, *UNFITTED)}
    sizes: dict[str, int] = {}
    for stage in STAGES:
        model = run.model(stage)
        parts[stage] = replace(base.part(stage), source=model, licence=table.licence, data=table.data)
        sizes[stage] = sum(parameter.numel() for parameter in model.parameters())
    text = card.write(run, table, sizes)
    head, limit, tail = text.partition("\n## Limits")
    text = f"{head}\n{_fit(plan, verdicts, base)}\n{limit}{tail}"
    with state.writing(run.out, folder.name):
        return save_bundle(
            folder,
            name=table.name,
            parts=parts,
            card=text,
            family=base.family,
            licence=table.licence,
            data=table.data,
            styles=styles(base, plan),
            languages=base.languages,
        )


def write_apart(run: Results, base: Bundle, plan: Plan, rank: int, folder: Path) -> None:
    """Writes the adapters of a fit into a folder of their own, to be merged when a picture is drawn."""
    table = table_of(run)
    fitted = {stage: run.model(stage) for stage in STAGES}
    with state.writing(run.out, folder.name):
        write_adapters(folder, table.name, base, fitted, rank, styles(base, plan), table.licence)


def _fit(plan: Plan, verdicts: Sequence[Verdict], base: Bundle) -> str:
    """The section of the card that says what the fit did."""
    mixed = (
        f"{plan.kept:,} drawings of {plan.base} made up {plan.share:.0%} of what was learned from, so that "
        "little is "
        "forgotten. "
        if plan.kept
        else ""
    )
    left = [name for name in UNFITTED if name in base.components]
    lines = [
        "## Fit",
        "",
        f"Fitted by `unclip fit` to {plan.pictures:,} pictures, {plan.judged} of which were held out. "
        f"{mixed}CLIP, "
        f"tokenizer and upsamplers are those of {plan.base}, unchanged."
        + (f" Left out, because it was not fitted: {', '.join(left)}." if left else ""),
        "",
        *(f"- {one.told()}. The figure: {meaning(one.stage)}." for one in verdicts),
    ]
    return "\n".join(lines)
