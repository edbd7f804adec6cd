"""The outlook of a run, for the person who waits for it: its stages, their steps, and their time."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from unclip.data.records import STORED_SIZE
from unclip.errors import UnclipWarning, listed
from unclip.train.config import LoopConfig
from unclip.train.log import FIRST_STEPS, clock, read_metrics
from unclip.train.results import Results
from unclip.train.stages import TOKENIZER
from unclip.train.standing import Standing


def text(run: Results, found: Sequence[Standing]) -> str:
    """The stages with their steps, how often each picture is seen, and their time, as far as it is known."""
    of = f"{len(run.held_out):,} held out ({run.held_out.split})"
    judged = "those themselves, for none is held out" if run.held_out is run.train else of
    rows, left, unknown = [("stage", "steps", "batch", "views a picture", "time")], 0.0, False
    for one in found:
        if (shared := run.shared(one.stage)) is not None:
            rows.append((one.stage, "", "", "", f"taken from the bundle {shared.name}"))
        elif one.stage == TOKENIZER:
            rows.append((one.stage, "", "", "", "done" if one.stays else _state(one, "to be made")))
        else:
            config = run.part(one.stage, "train", LoopConfig)
            seconds = 0.0 if one.stays else _seconds(run, one, config.steps)
            later = f"said after {FIRST_STEPS} steps" if config.steps > FIRST_STEPS else "not known"
            time = later if seconds is None else f"about {clock(seconds)}"
            left, unknown = left + (seconds or 0.0), unknown or seconds is None
            views = config.steps * config.batch / learned_from(run, one.stage)
            time = "done" if one.stays else _state(one, time)
            rows.append((one.stage, f"{config.steps:,}", f"{config.batch:,}", f"{views:,.1f}", time))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    whole = "known when each stage has taken its first steps" if unknown else f"about {clock(left)}"
    return "\n".join(
        [
            f"{len(run.train):,} pictures to learn from; figures are of {judged}",
            *(
                "  ".join((row[0].ljust(widths[0]), *map(str.rjust, row[1:4], widths[1:]), row[4]))
                for row in rows
            ),
            f"in all: {whole}",
        ]
    )


def _state(one: Standing, time: str) -> str:
    if one.stale:
        return f"trained anew, {time}"
    return f"goes on from step {one.steps:,}, {time}" if one.steps else time


def _seconds(run: Results, one: Standing, steps: int) -> float | None:
    """The time left of a stage, by the time that its steps took so far; None where that is not known."""
    took = [line["seconds"] / line["step"] for line in read_metrics(run.out / one.stage) if "seconds" in line]
    if not took:
        return None
    return took[-1] * (steps if one.stale else steps - one.steps)


def learned_from(run: Results, stage: str) -> int:
    """The number of pictures of the corpus that a stage learns from."""
    settings = run.settings(stage)
    large = getattr(settings.model, "high_size", None)
    if large is not None and large > STORED_SIZE:
        return len(run.train.large())
    return len(run.train)


def remark(run: Results, found: Sequence[Standing]) -> None:
    """Says what cannot be compared, and warns of what looks like a mistake."""
    untold = [one.stage for one in found if not one.told and not one.stale]
    if untold:
        print(
            f"{listed(untold)}: begun before runs noted what they are trained on, so nobody can tell whether "
            "corpus and settings are still the same; they go on as they are",
            file=sys.stderr,
        )
    crowded = [
        f"{one.stage} {config.batch:,} of {pictures:,}"
        for one in found
        if run.shared(one.stage) is None and one.stage != TOKENIZER
        for config in [run.part(one.stage, "train", LoopConfig)]
        for pictures in [learned_from(run, one.stage)]
        if config.batch > pictures
    ]
    if crowded:
        warnings.warn(
            f"batches larger than the corpus ({'; '.join(crowded)} pictures): pictures stand in them more "
            "than once, and smaller ones are as good and faster, such as --set "
            f"{crowded[0].split()[0]}.train.batch=16",
            UnclipWarning,
            stacklevel=2,
        )
