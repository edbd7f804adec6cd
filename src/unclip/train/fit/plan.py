"""The plan of a fit, in plain words: what is trained for how long, and what to expect of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from unclip.errors import InputError
from unclip.train.fit.corpus import Folder
from unclip.train.fit.recipe import BATCH, EVALUATIONS, STAGES, TIME, steps_of
from unclip.train.fit.trial import Trial

FILES = 0.03  # of a stage's time goes into its files
LEAST_STEPS = 12  # of a stage, with which a plan makes sense
EVALUATING, LEAST_EVALUATIONS = 0.1, 2  # share of a stage's time, and evaluations in it
SLOWER = 1.1  # than in the trial, that is reckoned with
TELLS_APART, HARDLY = 0.8, 0.65  # pairs of captions and pictures that CLIP gets right


@dataclass(frozen=True)
class Plan:
    """The plan of a fit.

    Attributes:
        pictures, judged: of the folder; those of them that are held out.
        common: words that all captions say; empty where there are none.
        base: the bundle's name.
        machine: what computes, in words.
        steps, seconds: of each stage, by name.
        evaluate: steps between two evaluations, by stage.
        kept, share: drawings of the bundle that are mixed in, and their share of a batch.
        told_apart: share of pairs of captions and pictures that the bundle's CLIP gets right; 0.5 is chance.
        rest: seconds for what is not training.
        low_rank: adapters are trained beside the attention in place of all weights.
    """

    pictures: int
    judged: int
    common: str
    base: str
    machine: str
    steps: Mapping[str, int]
    seconds: Mapping[str, float]
    evaluate: Mapping[str, int]
    kept: int
    share: float
    told_apart: float
    rest: float
    low_rank: bool = False

    @property
    def training(self) -> float:
        """Seconds of both stages."""
        return sum(self.seconds.values())


def planned(
    folder: Folder,
    trials: Mapping[str, Trial],
    *,
    base: str,
    machine: str,
    kept: int,
    share: float,
    told_apart: float,
    rest: float,
    seconds: float | None,
    low_rank: bool = False,
) -> Plan:
    """The plan for a folder.

    Args:
        folder: one's own pictures.
        trials: of each stage.
        seconds: that training may take; None is as long as so many pictures want.
        base, machine, kept, share, told_apart, rest, low_rank: see `Plan`.

    Raises:
        InputError: there is no time left to train in.
    """
    steps: dict[str, int] = {}
    given: dict[str, float] = {}
    evaluations: dict[str, int] = {}
    for stage in STAGES:
        step, evaluation = SLOWER * trials[stage].step, trials[stage].evaluation
        if seconds is None:
            steps[stage] = steps_of(folder.learned)
            evaluations[stage] = _evaluations(step * steps[stage], evaluation)
            taken = step * steps[stage] + evaluations[stage] * evaluation
            given[stage] = (1 + FILES) * taken
        else:
            given[stage] = seconds * TIME[stage] / sum(TIME.values())
            evaluations[stage] = _evaluations(given[stage], evaluation)
            taken = (1 - FILES) * given[stage] - evaluations[stage] * evaluation
            steps[stage] = math.floor(taken / step)
    if min(steps.values()) < LEAST_STEPS:
        needs = [
            (LEAST_STEPS * SLOWER * trial.step + LEAST_EVALUATIONS * trial.evaluation) / TIME[stage]
            for stage, trial in trials.items()
        ]
        hours = _hours(rest + 1.2 * sum(TIME.values()) * max(needs))
        raise InputError(f"there is no time to learn in: give --hours {hours} or more")
    return Plan(
        pictures=folder.pictures,
        judged=len(folder.judged),
        common=folder.common,
        base=base,
        machine=machine,
        steps=steps,
        seconds=given,
        evaluate={stage: max(1, count // evaluations[stage]) for stage, count in steps.items()},
        kept=kept,
        share=share,
        told_apart=told_apart,
        rest=rest,
        low_rank=low_rank,
    )


def _evaluations(seconds: float, each: float) -> int:
    """The evaluations of a stage that takes so many seconds: a dozen, fewer where they would take long."""
    return max(LEAST_EVALUATIONS, min(EVALUATIONS, int(EVALUATING * seconds / max(each, 1e-6))))


def told(plan: Plan, left: float | None = None, *, now: datetime | None = None) -> str:
    """The plan as a person reads it, several lines; the last says when it will be done.

    Args:
        plan: what will be done.
        left: seconds until all is done; None is all that the plan takes.
        now: the time; None is that of the clock.
    """
    held = f"{plan.judged} of them held out to judge by" if plan.judged else "none held out: they are too few"
    how = "adapters beside their attention (LoRA)" if plan.low_rank else "fine-tuned"
    minutes = _minutes(plan.training + plan.rest)
    left = plan.training + plan.rest if left is None else left
    done = (now or datetime.now()) + timedelta(seconds=left)
    lines = [
        f"{plan.pictures:,} pictures: decoder and prior {how}, CLIP kept, {minutes}",
        "",
        f"  pictures  {plan.pictures:,}, {held}",
        f"  begins    with the bundle {plan.base}, on {plan.machine}",
        *_prompts(plan),
        *(
            f"  {stage:<8}  {plan.steps[stage]:,} steps of {BATCH[stage]}, {_minutes(plan.seconds[stage])}"
            for stage in STAGES
        ),
        *(
            [
                f"  beside    {plan.kept:,} drawings of {plan.base} are mixed in, {plan.share:.0%} of what "
                "is learned "
                "from, so that it forgets little"
            ]
            if plan.kept
            else []
        ),
        *(f"  {'expect' if not number else '':<8}  {line}" for number, line in enumerate(expected(plan))),
        f"  done      in {_minutes(left)}, at about {done:%H:%M}",
    ]
    return "\n".join(lines)


def _prompts(plan: Plan) -> list[str]:
    if plan.common:
        return [
            f'  prompts   that say "{plan.common}", as all your captions do, are drawn as yours; all others '
            "as "
            "before"
        ]
    return ["  prompts   are all drawn in the style of your pictures, whatever they name"]


def expected(plan: Plan) -> list[str]:
    """The results to expect of so many pictures, a line each."""
    if plan.common and plan.pictures < 50:
        size = "the thing or look that your captions name, in most places and colours that you ask for"
    elif plan.pictures < 30:
        size = "your colours and outlines on things that it knew before; hardly any new things"
    elif plan.pictures < 1000:
        size = "your style on things that it knew before; new things where several of your pictures show them"
    else:
        size = "your style, and what your pictures show"
    lines = [size]
    if plan.told_apart < HARDLY:
        lines.append(
            f"the bundle cannot tell your pictures apart by their captions ({plan.told_apart:.0%} of pairs, "
            "chance "
            "is 50 %): it was not made for such pictures, and will hardly follow prompts"
        )
    elif plan.told_apart < TELLS_APART:
        lines.append(
            "it follows prompts loosely: it tells your pictures apart by their captions in "
            f"{plan.told_apart:.0%} "
            "of pairs (50 % is chance)"
        )
    return lines


def _minutes(seconds: float) -> str:
    """A time in words: "35 minutes"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    if seconds < 2 * 3600:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"


def _hours(seconds: float) -> str:
    return f"{math.ceil(seconds / 36) / 100:.2f}"
