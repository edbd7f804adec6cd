"""Promises of `unclip plan`: the papers' figures, arithmetic that can be checked by hand, clear errors."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from unclip import recipes
from unclip.errors import InputError
from unclip.train.config import LoopConfig
from unclip.train.plan import (
    CONTEXT_BYTES,
    GIB,
    GPUS,
    Cluster,
    Numbers,
    Outline,
    StagePlan,
    Way,
    document,
    kind_of_gpu,
    plan,
)
from unclip.train.plan_report import text

SMALL = ("width=256", "layers=8", "heads=4", "text_context=32", "grid=8")
V100S = Cluster(1024, gpu=GPUS["v100"])


def outline(name: str = "dalle1-12b", *settings: str) -> Outline:
    return Outline(recipes.load(name, settings))


def small(*settings: str) -> Outline:
    """The recipe of DALL-E 1's paper with a small transformer."""
    return outline("dalle1-12b", *(f"dalle1.model.{size}" for size in SMALL), *settings)


@cache
def twelve_billion() -> StagePlan:
    return planned(outline(), V100S)


def planned(of: Outline, cluster: Cluster, stage: str = "dalle1") -> StagePlan:
    (one,) = plan(of, cluster, stage)
    return one


def way(one: StagePlan, name: str = "") -> Way:
    (found,) = [way for way in one.ways if (way.name == name if name else way.chosen)]
    return found


# --- the papers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "stage", "figure", "within"),
    [
        ("dalle1-12b", "dalle1", 12e9, 0.03),
        ("unclip-dalle2", "decoder", 3.5e9, 0.03),
        ("unclip-dalle2", "upsampler-256", 700e6, 0.05),
        ("unclip-dalle2", "upsampler-1024", 300e6, 0.07),
        ("glide", "glide", 3.5e9, 0.03),
        ("adm-512", "adm", 558_997_638, 0.0),  # the released network's
    ],
)
def test_recipes_have_the_parameters_of_the_papers(
    recipe: str, stage: str, figure: float, within: float
) -> None:
    one = planned(outline(recipe), V100S, stage)
    assert one.parameters == pytest.approx(figure, rel=within)


@pytest.mark.slow
def test_powersgd_leaves_out_85_percent_as_in_table_1_of_the_paper() -> None:
    found = way(twelve_billion())
    assert found.name == "hybrid+powersgd"
    assert 1 - found.sent == pytest.approx(0.86, abs=0.015)


@pytest.mark.slow
def test_twelve_billion_fit_16_gb_as_the_paper_stored_them_and_not_as_they_are_trained_here() -> None:
    """The paper held shares of them in a machine, 16 bits a number; here weights and moments have 32."""
    here = twelve_billion()
    assert not way(here).fits
    assert way(here).parts is None
    assert way(here, "fsdp").fits
    paper = replace(V100S, numbers=Numbers.PAPER)
    total = way(planned(outline("dalle1-12b", "dalle1.train.ema=[]"), paper)).memory.total
    assert total == pytest.approx(16 * GIB, rel=0.03)


@pytest.mark.slow
def test_adm_takes_the_v100_days_of_its_paper() -> None:
    """1,878 of the 512-pixel model, at 30 % of the peak: tables 10 and 7 of 2105.05233."""
    one = planned(outline("adm-512"), V100S, "adm")
    days = one.total_operations / (125e12 * 0.3) / 86_400
    assert days == pytest.approx(1878, rel=0.1)


# --- arithmetic


def test_memory_of_ddp_is_what_a_process_alone_holds_and_its_buckets() -> None:
    one = planned(small("dalle1.train.ema=[0.9, 0.99]"), Cluster(16))
    held, numbers = way(one, "ddp").memory, one.parameters
    assert (held.weights, held.gradients, held.buffers) == (4 * numbers,) * 3
    assert (held.moments, held.averages) == (8 * numbers, 8 * numbers)
    assert held.total == sum(getattr(held, name) for name in held.__dataclass_fields__)
    alone = way(planned(small("dalle1.train.batch=64"), Cluster(1)))
    assert (alone.memory.buffers, alone.between, alone.inside, alone.exchange) == (0, 0, 0, 0)


def test_shares_are_cut_by_the_processes_that_share() -> None:
    one = planned(small(), Cluster(32, per_machine=8))
    numbers = one.parameters
    assert way(one, "fsdp").memory.moments == pytest.approx(8 * numbers / 32)
    assert way(one, "hybrid").memory.moments == pytest.approx(8 * numbers / 8)


def test_bytes_between_machines_are_those_of_rings() -> None:
    one = planned(small(), Cluster(32, per_machine=8))
    whole = 4 * one.parameters
    assert way(one, "ddp").between == pytest.approx(2 * 31 / 32 * whole)
    assert way(one, "hybrid").between == pytest.approx(2 * 3 / 4 * whole)
    # the root is gathered once, the rest twice, and gradients are scattered
    assert 2 < way(one, "fsdp").between / (31 / 32 * whole) < 3
    squeezed = way(one, "hybrid+powersgd")
    assert squeezed.between == pytest.approx(squeezed.sent * 2 * 3 / 4 * whole)
    assert squeezed.sent < 1


def test_a_higher_rank_sends_more() -> None:
    shares = [
        way(planned(small(f"dalle1.train.powersgd_rank={rank}"), Cluster(32))).sent for rank in (2, 4, 8)
    ]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_a_thinner_link_makes_steps_longer_and_whole_gradients_most() -> None:
    def exchange(link: float) -> dict[str, float]:
        return {one.name: one.exchange for one in planned(small(), Cluster(32, link=link)).ways}

    thick, thin = exchange(100.0), exchange(1.0)
    assert all(thin[name] > thick[name] for name in thin)
    assert thin["hybrid+powersgd"] < thin["hybrid"] < thin["ddp"]


def test_seconds_are_operations_over_the_speed_that_is_reached() -> None:
    gpu = kind_of_gpu("a100-80", tflops=100.0)
    one = planned(small("dalle1.train.batch=64"), Cluster(1, gpu=gpu, utilisation=0.5))
    assert way(one).seconds == pytest.approx(64 * one.operations / 50e12)
    assert way(one).days == pytest.approx(way(one).stretch * 430_000 * way(one).seconds / 86_400)


def test_sam_takes_twice_the_time() -> None:
    alone = ("dalle1.train.batch=64", "dalle1.train.gradient_hook=none")
    plain, climbing = (
        way(planned(small(*alone, f"dalle1.train.sam_rho={rho}"), Cluster(1))).compute for rho in (0.0, 0.1)
    )
    assert climbing == pytest.approx(2 * plain)


def test_failures_lengthen_a_run_and_more_machines_have_more() -> None:
    few, many = (
        way(planned(small(), Cluster(gpus, failure_hours=2000)), "fsdp").stretch for gpus in (8, 512)
    )
    assert 1 < few < many
    never = way(planned(small(), Cluster(512, failure_hours=1e-3)), "fsdp")
    assert never.days == math.inf


def test_a_batch_that_gives_no_more_shares_leaves_gpus_out() -> None:
    one = planned(small("dalle1.train.batch=48"), Cluster(64))
    assert (one.gpus, one.per_gpu) == (48, 1)
    assert "it uses 48 of the 64 GPUs" in text([one], Cluster(64))


def test_a_batch_that_is_cut_as_advised_fits() -> None:
    gpu = kind_of_gpu(memory=2.0)
    cluster = Cluster(1, gpu=gpu)
    settings = ("dalle1.train.batch=256", "dalle1.task.checkpointing=false")
    before = way(planned(small(*settings), cluster))
    assert not before.fits
    assert before.parts is not None
    after = way(planned(small(*settings, f"dalle1.train.accumulate={before.parts}"), cluster))
    assert after.fits
    assert f"--set dalle1.train.accumulate={before.parts}" in text(
        [planned(small(*settings), cluster)], cluster
    )


def test_a_contrastive_batch_is_never_cut() -> None:
    one = planned(outline("dalle2"), Cluster(8, gpu=kind_of_gpu(memory=16.0)), "clip")
    assert not way(one).fits
    assert way(one).parts is None


def test_the_ways_are_those_that_there_are() -> None:
    assert [one.name for one in planned(small(), Cluster(1)).ways] == ["ddp"]
    assert [one.name for one in planned(small(), Cluster(8)).ways] == ["ddp", "fsdp"]
    assert way(planned(small(), Cluster(8))).name == "fsdp"  # a hybrid of one machine


def test_what_a_recipe_says_of_checkpoints_holds() -> None:
    one = way(planned(small("dalle1.train.checkpoint_minutes=3"), Cluster(8)))
    assert one.interval == 180.0


def test_pictures_of_the_data_say_how_often_each_is_seen() -> None:
    (one,) = plan(small(), Cluster(8), "dalle1", pictures=250_000_000)
    assert one.views == pytest.approx(430_000 * 1024 / 250e6)


def test_the_largest_gpu_that_the_memory_allows_is_taken() -> None:
    assert kind_of_gpu(memory=16.0) == GPUS["v100"]
    assert kind_of_gpu(memory=100.0) == replace(GPUS["a100-80"], memory=100 * GIB)
    assert kind_of_gpu(memory=4.0) == replace(GPUS["v100"], memory=4 * GIB)
    assert kind_of_gpu() == GPUS["a100-80"]
    assert kind_of_gpu("h100", inside=10.0) == replace(GPUS["h100"], inside=10.0)


@pytest.mark.slow
def test_every_recipe_that_trains_without_a_bundle_is_planned() -> None:
    """Those that take parts of a bundle are planned as well: its configs are there."""
    for name in ("pictograms", "pictograms-dalle1", "pictograms-adm", "supervised"):
        stages = [one.stage for one in plan(outline(name), Cluster(1))]
        assert stages == outline(name).trained


# --- what cannot be


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpus": 0}, "gpus: got 0, allowed is at least 1"),
        ({"gpus": 12}, "gpus: got 12, allowed is a multiple of the 8 of a machine"),
        ({"gpus": 8, "per_machine": 0}, "per_machine: got 0"),
        ({"gpus": 8, "link": 0.0}, "link: got 0.0, allowed is a number above 0"),
        ({"gpus": 8, "utilisation": 1.5}, "utilisation: got 1.5, allowed is above 0 and at most 1"),
        ({"gpus": 8, "write": float("nan")}, "write: got nan"),
        ({"gpus": 8, "failure_hours": -1.0}, "failure_hours: got -1.0"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Cluster(**changes)


def test_unknown_kinds_and_stages_are_named() -> None:
    with pytest.raises(InputError, match="unknown GPU 'a10': did you mean 'a100'"):
        kind_of_gpu("a10")
    with pytest.raises(InputError, match="unknown numbers 'int8': known are float32, paper"):
        Numbers.named("int8")
    with pytest.raises(InputError, match="unknown stage 'prio': this recipe trains clip, vqvae, dalle1"):
        list(plan(outline(), V100S, "prio"))
    with pytest.raises(InputError, match="memory: got 0.0"):
        Cluster(8, gpu=kind_of_gpu(memory=0.0))
    with pytest.raises(InputError, match="pictures: got 0"):
        list(plan(outline(), V100S, "dalle1", pictures=0))
    with pytest.raises(InputError, match="classes: got 1"):
        Outline(recipes.load("adm-512"), classes=1)


def test_a_wrong_setting_is_named_by_its_key() -> None:
    with pytest.raises(InputError, match=r"dalle1\.model\.heads|heads"):
        planned(small("dalle1.model.heads=3"), Cluster(8))


# --- how it is said


def test_json_holds_what_the_tables_hold() -> None:
    cluster = Cluster(32)
    one = planned(small(), cluster)
    found = json.loads(json.dumps(document([one], cluster)))
    (stage,) = found["stages"]
    assert stage["parameters"] == one.parameters
    assert [row["name"] for row in stage["ways"]] == [row.name for row in one.ways]
    for row, own in zip(stage["ways"], one.ways, strict=True):
        assert row["memory"]["total"] == pytest.approx(own.memory.total)
        assert row["memory"]["context"] == CONTEXT_BYTES
        assert row["seconds"] == pytest.approx(own.seconds)
    assert found["cluster"]["machines"] == 4
    said = text([one], cluster)
    assert f"{one.parameters / 1e6:,.1f}M parameters" in said
    assert "* hybrid+powersgd" in said


def test_defaults_of_the_loop_are_those_of_the_plan() -> None:
    assert LoopConfig(steps=1, batch=1).failure_hours == Cluster(1).failure_hours


def test_forecasts_are_what_steps_really_taken_came_to() -> None:
    """The result file of benchmarks/plan.py: operations, activations, moments and seconds."""
    report = json.loads((Path(__file__).parents[2] / "benchmarks" / "results" / "plan.json").read_text())
    assert {"adm", "clip", "dalle1"} <= set(report["stages"])
    for stage, found in report["stages"].items():
        ratios = found["ratios"]
        if stage == "ar-prior":  # how many components it codes is known once there are embeddings
            assert ratios["operations"] > 1
            continue
        assert ratios["operations"] == pytest.approx(1, abs=0.02), stage
        assert ratios["parameters"] == 1, stage
        assert ratios["moments"] == pytest.approx(1, abs=1e-4), stage  # those of a single number apart
        assert ratios["kept_bytes"] == pytest.approx(1, abs=0.1), stage
        assert ratios["alive_bytes"] == pytest.approx(1, abs=0.15), stage
    for found in report["another_width"].values():
        assert found["ratio"] == pytest.approx(1, abs=0.5)
