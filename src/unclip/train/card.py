"""The model card of a run: what was trained on what, for how long, on which machine, and how well it did.

Every figure is read from the files of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unclip import __version__
from unclip.bundle import CARD, Bundle
from unclip.config import from_dict
from unclip.data.corpus import Corpus
from unclip.errors import escaped
from unclip.languages import named
from unclip.runtime import processor_name
from unclip.train.log import read_metrics
from unclip.train.results import Results
from unclip.train.statements import BundleTable, commands, corpus_name

TRAINING, BEFORE = "## Training", "## Trained before"
SAME = """## The same picture again

Prompt, seed, settings and weights give the same picture on one machine, but for single pixels that are off
by 1 or 2 of 255 where it is drawn beside others or on another number of threads; what writes codes may then,
in bfloat16, write another. By default networks compute in bfloat16 where the processor has it and in float32
elsewhere, which are two different pictures: each says which it is. With `--exact` a picture is the same to
the bit on all processors of one kind, and within 2 of 255 on others."""
LAW = """## Where pictures come from

Every picture's file says, in XMP, that a model made it; `--no-provenance` leaves that out. `--watermark`, on
in `unclip serve`, marks the pixels too, and a key of one's own signs the file (`unclip provenance init`). The
law may ask for such marks: in the EU, from 2 December 2026, who offers a system that makes pictures has to
mark them so that machines can tell (AI Act, article 50(2)), and who shows a deepfake has to say so (article
50(4)). Whether that is you, this card cannot say."""
LEAST = 20  # pictures: a figure of fewer says next to nothing


def machine(device: torch.device) -> str:
    """The processor that trains, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()}, {torch.get_num_threads()} threads"


def write(run: Results, table: BundleTable, sizes: Mapping[str, int]) -> str:
    """The card as Markdown.

    Args:
        run: that was trained; it ends on its device.
        table: what is said of its bundle.
        sizes: parameters of each stage that was trained.
    """
    description = str(run.recipe.get("description", "")).strip()
    figures = _figures(run.out, sizes)
    typed = commands(run)
    made = f"- Made by unclip {__version__} with" if typed else f"- Made by unclip {__version__}, in Python."
    parts = [
        f"# {table.name}",
        "\n".join(
            [
                f"- Licence: {_licence(run, table)}",
                *([f"- Reads {named(table.languages)}"] if table.languages else []),
                *([f"- Recipe: {description}"] if description else []),
                made,
            ]
        ),
        *(["```\n" + "\n".join(typed) + "\n```"] if typed else []),
        "## Data",
        f"{table.data}.",
        f"Learned from: the split `train` of the corpus, {len(run.train):,} captioned pictures.",
        _table(("source", "pictures", "licence of the art", "author"), _pictures(run.train)),
        TRAINING,
        f"On {machine(run.device)}, torch {torch.__version__}.",
        _table(("stage", "parameters", "steps", "pictures seen", "hours"), _stages(run.out, sizes)),
        *_before(run.recipe),
        *(_measured(figures) if figures else ()),
        SAME,
        LAW,
        "## Limits",
        table.limits.strip() or "Nobody has said yet what it cannot do.",
    ]
    return "\n\n".join(parts) + "\n"


def _licence(run: Results, table: BundleTable) -> str:
    said = from_dict(type(table), run.recipe["bundle"], "bundle")
    if said.licence or said.trained_on.get(corpus_name(run.train)):
        return f"{table.licence}, of the weights"
    return f"none was given to the weights; the pictures they are of have {table.licence}"


def _measured(figures: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    table = _table(("stage", "step", "figure", "value", "split", "pictures"), figures)
    return (
        f"## Measured while training\n\nOf the named split; of fewer than {LEAST} pictures nothing is told.",
        table,
    )


def _pictures(corpus: Corpus) -> list[tuple[str, ...]]:
    columns = [corpus.column(name) for name in ("source", "licence", "author")]
    counts = Counter(zip(*columns, strict=True))
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [(source, f"{count:,}", licence, author) for (source, licence, author), count in ordered]


def _stages(out: Path, sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for stage, size in sizes.items():
        lines = [line for line in read_metrics(out / stage) if "seconds" in line]
        if not lines:  # somebody removed them
            rows.append((stage, f"{size:,}", *["unknown"] * 3))
            continue
        hours, last = f"{lines[-1]['seconds'] / 3600:.2f}", lines[-1]
        rows.append((stage, f"{size:,}", f"{last['step']:,}", f"{last['pictures']:,}", hours))
    return rows


def _before(recipe: Mapping[str, Any]) -> list[str]:
    """The finished weights that a run took over, and what the cards of those that it began with say."""
    parts, earlier = [], []
    for key, told in (("start", "began with weights of"), ("bundle", "are those of")):
        for source, stages in _sources(recipe, key).items():
            if source.endswith(".safetensors"):
                parts.append(f"{stages} {told} `{source}`.")
                continue
            bundle = Bundle.load(source)
            parts.append(f"{stages} {told} the bundle `{bundle.name}`, {bundle.identity}.")
            if key == "start" and (bundle.folder / CARD).exists():
                text = (bundle.folder / CARD).read_text(encoding="utf-8")
                earlier += [part for head in (TRAINING, BEFORE) if (part := _section(text, head))]
    parts += [
        f"{stage} is the mean of the weights that it began with ({old}) and those it ended with."
        for stage, table in recipe.items()
        if isinstance(table, Mapping) and (old := table.get("old_weights"))
    ]
    return [*parts, BEFORE, *earlier] if earlier else parts


def _sources(recipe: Mapping[str, Any], key: str) -> dict[str, str]:
    """Sources that stages name under `key`, each with those stages: `pictograms` -> "clip, prior"."""
    found: dict[str, list[str]] = {}
    for stage, table in recipe.items():
        if isinstance(table, Mapping) and key in table:
            found.setdefault(str(table[key]), []).append(stage)
    return {source: ", ".join(stages) for source, stages in found.items()}


def _section(card: str, head: str) -> str:
    """The text of a card beneath a headline, up to the next one; empty where there is no such headline."""
    _, _, rest = f"\n{card}".partition(f"\n{head}\n")
    return rest.partition("\n## ")[0].strip()


def _figures(out: Path, stages: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The figures of the last evaluation of each stage, of which split, and of how many pictures."""
    rows: list[tuple[str, ...]] = []
    for stage in stages:
        evaluations = [line for line in read_metrics(out / stage) if line.get("kind") == "evaluate"]
        last = evaluations[-1] if evaluations else {}
        split, pictures = last.get("split"), last.get("of_pictures", 0)
        if pictures < LEAST:  # or nobody knows of how many: runs of before did not say
            continue
        for name, value in last.items():
            if name not in ("kind", "step", "split", "of_pictures") and value is not None:
                figure = name.replace("_", " ")
                rows.append((stage, f"{last['step']:,}", figure, f"{value:.3f}", f"{split}", f"{pictures:,}"))
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *(map(_cell, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text that stays within its cell, whoever wrote it."""
    return escaped(" ".join(text.split())).replace("|", "\\|")
