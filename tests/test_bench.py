"""Promises of the benchmark: it measures what it names, and its last line of stdout is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unclip import cli
from unclip.bench import Benchmark
from unclip.errors import InputError, UnclipError


@pytest.mark.slow
def test_the_last_line_of_stdout_is_json_and_the_table_is_on_stderr(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--model", str(tiny_bundle), "--size", "64", "--repeats", "1"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out.splitlines()[-1])
    assert report["size"] == 64
    assert report["machine"]["model"] == "tiny"
    cold = report["cold"]
    stages = ["start", "import", "load", "prompt", "prior", "decoder", "pictures", "files"]
    assert list(cold["stages"]) == stages
    assert sum(cold["stages"].values()) == pytest.approx(cold["total"], abs=0.05)
    assert 0 < cold["help"] < cold["total"]
    assert [warm["pictures"] for warm in report["warm"]] == [1, 4]
    for warm in report["warm"]:
        assert sum(warm["stages"].values()) <= warm["total"]
    assert report["decoder"]["gigaflop"] > 0
    assert 0 < report["decoder"]["share"] < 1
    assert 10**7 < cold["peak_memory_bytes"] < 2 * 10**9
    for line in (
        "unclip --help",
        "1 picture, new process",
        "4 pictures, loaded model",
        "peak memory",
        "decoder",
    ):
        assert line in said.err
    assert str(Path.home()) not in said.out


def test_the_error_of_a_measured_process_is_told(tmp_path: Path) -> None:
    benchmark = Benchmark(str(tmp_path / "nothing"), repeats=1)
    with pytest.raises(UnclipError, match="no bundle"):
        list(benchmark.run())
    assert benchmark.report is None


def test_repeats_are_checked() -> None:
    with pytest.raises(InputError, match="repeats is 0"):
        Benchmark(repeats=0)
