"""The promise that a Ray cluster draws the same bytes as this process, and says why it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.planted import captioned, digests
from unclip.cli import main
from unclip.data import draw_workers
from unclip.data.prepare.rules import STANDING, chosen
from unclip.data.prepare.run import prepare
from unclip.data.records import Drawing
from unclip.errors import DataError
from unclip.ray_cluster import HERE, settle

settle(HERE)  # before Ray is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed: `make test-cluster`")
    from unclip.data import ray_pool

pytestmark = [
    pytest.mark.slow,
    # Ray's own, when its threads and sockets end
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SOURCE = str(Path(ray_pool.__file__).parents[2])


@pytest.fixture(autouse=True)
def _cluster_ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([SOURCE, *filter(None, [os.environ.get("PYTHONPATH")])]))
    yield
    ray.shutdown()


def test_one_process_a_local_pool_and_a_cluster_make_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = captioned(tmp_path / "in", {f"p{number}": f"thing number {number}" for number in range(30)})
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "bad.txt").write_text("a broken thing")
    monkeypatch.setattr("unclip.data.build.CHUNK", 5)
    ways = {"one": {}, "pool": {"workers": 2}, "ray": {"ray": HERE, "workers": 2}}
    for name, way in ways.items():
        for _ in prepare([folder], tmp_path / name, rules=chosen(), size=32, **way):
            pass
    assert digests(tmp_path / "one") == digests(tmp_path / "pool") == digests(tmp_path / "ray")
    pages = [(tmp_path / name / "report" / "index.html").read_bytes() for name in ways]
    assert pages[0] == pages[1] == pages[2]


def test_a_machine_with_another_version_is_named(tmp_path: Path) -> None:
    content, killed, fault = ray_pool.draw_elsewhere("0.0", [], 32, STANDING, b"")
    assert (content, killed) == (b"", "")
    assert "this one 0.0: install the same" in fault


def test_a_picture_at_which_a_task_is_killed_twice_is_given_up(tmp_path: Path) -> None:
    drawing = Drawing("a", "s", "", "c", {"en": ["a"]}, "", "", svg="<svg/>")
    code = (
        "from unclip.processes import Died\n"
        "def draw(*arguments, **keywords): raise Died(9)\n"
        "import unclip.data.draw_workers as d; d.draw = draw\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    os.environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    path = tmp_path / "part.arrow"
    with ray_pool.ray_pool(HERE, 1) as pool:
        with pytest.raises(DataError, match="drawing process was killed"):
            pool.submit([drawing], path, 32, STANDING).result()
        assert path.with_suffix(".killed").read_bytes() == b"a"
        pool.submit([drawing], path, 32, STANDING).result()
    assert draw_workers.open_staged([path])["reason"].to_pylist() == ["broken"]


def test_the_command_line_draws_on_a_cluster_that_it_makes(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "in", {"a": "a red ball", "b": "a blue box"})
    command = [sys.executable, "-m", "unclip", "data", "prepare", str(folder), str(tmp_path / "out")]
    subprocess.run([*command, "--size", "32", "--ray"], check=True, capture_output=True)
    assert (tmp_path / "out" / "manifest.parquet").is_file()


def test_no_cluster_and_processes_elsewhere_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = captioned(tmp_path / "in", {"a": "a red ball"})
    command = ["data", "prepare", str(folder), str(tmp_path / "out"), "--ray", "127.0.0.1:9"]
    assert main(command) == 1
    assert "no Ray cluster at 127.0.0.1:9" in capsys.readouterr().err
    assert main([*command, "--workers", "2"]) == 2
    assert "leave it out" in capsys.readouterr().err
