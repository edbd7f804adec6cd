"""The standing of the stages of a run: done, to go on, new, or stale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from unclip.config import from_dict
from unclip.errors import TrainingError, listed
from unclip.train import record, state
from unclip.train.config import LoopConfig
from unclip.train.results import Results
from unclip.train.stages import BUNDLE, TOKENIZER, TokenizerStage

BEFORE = "before"  # the folder of what was trained anew


@dataclass(frozen=True)
class Standing:
    """The standing of a stage.

    Attributes:
        stage: its name.
        steps: that it has taken; 0 for one that is new, and for a tokenizer.
        done: its result is there, as long trained as is asked for.
        stale: what has changed since it was trained, a line each.
        told: there is a record of what it was trained on, or nothing to record yet.
    """

    stage: str
    steps: int
    done: bool
    stale: tuple[str, ...] = ()
    told: bool = True

    @property
    def stays(self) -> bool:
        """Its result is what it will be at the end."""
        return self.done and not self.stale


def of(run: Results, stages: Iterable[str]) -> list[Standing]:
    """The standing of stages, in the order of the recipe; those before a stage must be among them."""
    found: dict[str, Standing] = {}
    for stage in stages:
        if stage != BUNDLE:
            found[stage] = _of(run, stage, found)
    return list(found.values())


def _of(run: Results, stage: str, before: dict[str, Standing]) -> Standing:
    if run.shared(stage) is not None:
        return Standing(stage, 0, done=True)
    there = run.result(stage).exists()
    steps, asked = 0, 0
    if stage != TOKENIZER:
        there = there or (run.out / stage / state.FINAL).is_dir()
        steps = state.newest_step(run.out / stage) or 0
        asked = run.part(stage, "train", LoopConfig).steps
    if not there and not steps:
        return Standing(stage, 0, done=False)
    goes_on = not there or 0 < steps < asked
    told = record.read(run.record_path(stage))
    reasons = [] if told is None else list(_changes(run, stage, told, goes_on))
    if told is not None and steps > asked:
        reasons.append(f"train.steps: {steps:,} were taken, is {asked:,}")
    elif told is not None and stage != TOKENIZER and not steps:  # its checkpoints are gone
        trained = told.settings.get("train", {}).get("steps")
        if trained != asked:
            reasons.append(f"train.steps: was {trained}, is {asked}")
    for need in run.needs(stage):
        if reasons:
            break  # the first says enough
        if not before[need].stays:
            verb = "goes on" if before[need].steps and not before[need].stale else "is trained anew"
            reasons.append(f"its {need} {verb}")
        elif told is not None and told.parts.get(need) != run.digest(need):
            reasons.append(f"its {need} is another")
    return Standing(stage, steps, done=not goes_on, stale=tuple(reasons), told=told is not None)


def _changes(run: Results, stage: str, told: record.Record, goes_on: bool) -> Iterable[str]:
    configs: dict[str, Any]
    if stage == TOKENIZER:
        configs = {TOKENIZER: from_dict(TokenizerStage, run.recipe[stage], stage)}
    else:
        configs = {**run.settings(stage)._asdict(), "train": run.part(stage, "train", LoopConfig)}
    return record.changes(record.renamed(told), run.record(stage), configs, goes_on)


def refuse_stale(run: Results, found: Sequence[Standing]) -> None:
    """Raises TrainingError where stages are stale: it says which, why, and what to do."""
    stale = [one for one in found if one.stale]
    if not stale:
        return
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in stale:
        alike.setdefault(one.stale, []).append(one.stage)
    told = "; ".join(f"{listed(stages)} ({listed(reasons)})" for reasons, stages in alike.items())
    again = f"`{run.command} --redo`" if run.command else "go(redo=True)"
    raise TrainingError(
        f"stages of the run in {run.out} are stale: {told}. Give back what has changed, train in another "
        f"folder, or train them anew (what is there now is kept in {run.out / BEFORE}): {again}"
    )
