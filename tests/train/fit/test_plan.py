"""Promises of the plan: it says in plain words what will be done, for how long, and what to expect."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from unclip.errors import InputError
from unclip.evaluate.names import frozen
from unclip.train.fit.corpus import Folder
from unclip.train.fit.plan import Plan, expected, planned, told
from unclip.train.fit.recipe import LEAST_STEPS, MOST_STEPS, kept_share, steps_of
from unclip.train.fit.things import THINGS, prompts
from unclip.train.fit.trial import Trial
from unclip.train.fit.verdict import Verdict

PLAN = Plan(
    pictures=40,
    judged=4,
    common="",
    base="pictograms",
    machine="a laptop, 2 threads",
    steps={"prior": 600, "decoder": 600},
    seconds={"prior": 400.0, "decoder": 1500.0},
    evaluate={"prior": 50, "decoder": 50},
    kept=240,
    share=0.5,
    told_apart=0.9,
    rest=200.0,
)


def test_the_first_line_says_it_all() -> None:
    first, *lines = told(PLAN, now=datetime(2026, 1, 1, 20, 0)).splitlines()
    assert first == "40 pictures: decoder and prior fine-tuned, CLIP kept, 35 minutes"
    assert "  pictures  40, 4 of them held out to judge by" in lines
    assert "  prior     600 steps of 64, 7 minutes" in lines
    assert lines[-1] == "  done      in 35 minutes, at about 20:35"
    late = told(PLAN, 600.0, now=datetime(2026, 1, 1, 20, 0)).splitlines()
    assert (late[0], late[-1]) == (first, "  done      in 10 minutes, at about 20:10")  # it goes on


def test_it_says_which_prompts_are_drawn_as_the_pictures() -> None:
    assert "are all drawn in the style of your pictures" in told(PLAN)
    assert 'that say "sks cup", as all your captions do, are drawn as yours' in told(
        replace(PLAN, common="sks cup")
    )


def test_it_says_when_the_bundle_does_not_know_such_pictures() -> None:
    assert len(expected(PLAN)) == 1
    assert "will hardly follow prompts" in expected(replace(PLAN, told_apart=0.52))[1]
    assert "follows prompts loosely" in expected(replace(PLAN, told_apart=0.7))[1]


def test_more_pictures_take_more_steps_and_fewer_drawings_of_the_bundle() -> None:
    assert LEAST_STEPS <= steps_of(12) < steps_of(200) < steps_of(10**6) == MOST_STEPS
    assert kept_share(12) > kept_share(200) > kept_share(10**6) == 0


def test_evaluations_take_a_tenth_of_the_time_at_most() -> None:
    folder = Folder(Path(), 40, frozenset({1, 2, 3, 4}), "", "")
    how: dict[str, Any] = {
        "base": "b",
        "machine": "m",
        "kept": 0,
        "share": 0.0,
        "told_apart": 1.0,
        "rest": 60.0,
    }
    for each, most in ((0.1, 12), (60.0, 4)):
        plan = planned(folder, dict.fromkeys(("prior", "decoder"), Trial(1.0, each)), seconds=3600.0, **how)
        assert plan.training == 3600
        assert most - 1 <= plan.steps["decoder"] / plan.evaluate["decoder"] <= most + 1
    slow = dict.fromkeys(("prior", "decoder"), Trial(100.0, 100.0))
    with pytest.raises(InputError, match="give --hours") as refused:
        planned(folder, slow, seconds=600.0, **how)
    hours = float(str(refused.value).split("--hours ")[1].split()[0])
    assert (
        min(planned(folder, slow, seconds=3600 * hours - 60, **how).steps.values()) >= 12
    )  # what is asked for


def test_what_is_drawn_to_be_remembered_is_not_what_bundles_are_measured_by() -> None:
    measured = {name.prompt.casefold() for name in frozen()[0]}
    assert not measured & {thing.casefold() for things in THINGS.values() for thing in things}
    assert all(len(things) == len({*things}) for things in THINGS.values())


def test_prompts_are_in_the_languages_that_are_read() -> None:
    assert {"apple", "사과", "Apfel"} & {*prompts(9, ("en", "ko", "de"))} == {"사과", "Apfel"}
    assert prompts(3, ()) == ["red apple", "banana", "cherry"]
    assert len({*prompts(240, ("en", "ko", "de"))}) == 240


def test_a_verdict_says_whether_a_stage_learned() -> None:
    learned = Verdict("decoder", 0.55, 0.71, 400, 600, 4, held_out=True)
    assert learned.told() == (
        "decoder learned: 0.55 before, 0.71 now (of 4 held-out pictures), best at step 400 of 600"
    )
    assert "did not learn: none of its evaluations was better" in replace(learned, best=0.55, step=0).told()
    assert "hardly learned" in replace(learned, best=0.552).told()
