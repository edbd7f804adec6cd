"""Promises of `unclip plan`: tables for people, JSON for programs, errors that say what to do."""

from __future__ import annotations

import json

import pytest

from unclip.cli import main

SMALL = [
    *("--set", "dalle1.model.width=64", "--set", "dalle1.model.layers=2", "--set", "dalle1.model.heads=2"),
    *("--set", "dalle1.model.text_context=16", "--set", "dalle1.model.grid=4", "--only", "dalle1"),
]


def test_a_plan_is_tables(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "dalle1-12b", "--gpus", "16", "--gpu-memory", "16", "--link", "10", *SMALL]
    assert main([*command, "--pictures", "1000000"]) == 0
    said = capsys.readouterr().out
    assert "16 GPUs of 16 GiB, 8 a machine; 10 Gbit/s between machines" in said
    assert "each seen 440.3 times" in said
    for word in ("weights", "gradients", "moments", "averages", "kept", "out of a machine", "days"):
        assert word in said
    for way in ("ddp", "fsdp", "hybrid ", "* hybrid+powersgd"):
        assert way in said


def test_a_plan_as_json_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "dalle1-12b", "--gpus", "8", *SMALL, "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err == ""
    assert found["cluster"]["gpus"] == 8
    assert [way["name"] for way in found["stages"][0]["ways"]] == ["ddp", "fsdp"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "unknown recipe 'nothing'"),
        (["dalle1-12b", "--gpus", "12"], "gpus: got 12, allowed is a multiple of the 8 of a machine"),
        (["dalle1-12b", "--gpu-memory", "0"], "memory: got 0.0, allowed is a number above 0"),
        (["dalle1-12b", "--gpu", "tpu"], "unknown GPU 'tpu'"),
        (["dalle1-12b", "--numbers", "int8"], "unknown numbers 'int8'"),
        (
            ["dalle1-12b", "--only", "decoder"],
            "unknown stage 'decoder': this recipe trains clip, vqvae, dalle1",
        ),
        (["dalle1-12b", "--set", "dalle1.model.heads=7", "--only", "dalle1"], "heads"),
        (["dalle1-12b", "--gpus", "eight"], "--gpus"),
    ],
)
def test_what_cannot_be_planned_is_wrong_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
