"""The promises of the command line's frame: one line an error, documented exit codes, an instant --help."""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from unclip import __version__, cli
from unclip.cli.options import grouped
from unclip.cli.progress import StageProgress
from unclip.errors import BundleError, CheckpointError, InputError, PolicyError, UnclipWarning

Run = Callable[..., int]


def run_process(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unclip", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def run_failing(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the frame around a verb that raises what it is told."""

    def run(error: BaseException | None = None, *arguments: str, warning: str = "") -> int:
        app = typer.Typer(rich_markup_mode=None)
        app.callback(invoke_without_command=True)(cli.unclip)

        @app.command()
        def verb(n: Annotated[int, typer.Option(max=9)] = 1) -> None:
            if warning:
                warnings.warn(warning, UnclipWarning, stacklevel=2)
            if error is not None:
                raise error

        group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
        group.command("verb-of-group")(verb)
        group.command("another")(verb)
        app.add_typer(group, name="group")
        monkeypatch.setattr(cli, "app", app)
        return cli.main(arguments or ["verb"])

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 0, ""),
        (InputError("unknown sampler 'dim':\n choose ddim"), 2, "error: unknown sampler 'dim': choose ddim"),
        (CheckpointError("a\x1b[2J\x9b\u202eb \udcff 🍎"), 1, r"error: a\x1b[2J\x9b\u202eb \udcff 🍎"),
        (CheckpointError("a" * 5000), 1, f"error: {'a' * 3993}..."),
        (BundleError("altered"), 1, "error: altered"),
        (PolicyError("refused"), 3, "error: refused"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: Permission denied: /x"),
        (MemoryError(), 1, "error: out of memory: draw fewer pictures at once, or smaller ones"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4503 bytes."),
            1,
            "error: out of memory: draw fewer pictures at once, or smaller ones",
        ),
        (KeyError("x"), 1, "error: KeyError: 'x' (this is a bug in unclip; --debug shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (typer.Exit(5), 5, ""),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException | None, code: int, line: str, run_failing: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(error) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (f"unclip: {line}\n" if line else "")


@pytest.mark.parametrize("arguments", [["verb", "--n", "10"], ["verb", "--m"], ["wrong"], ["verb", "extra"]])
def test_wrong_usage_is_one_line_that_points_to_help(
    arguments: list[str], run_failing: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_failing(None, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("unclip: error: ")
    assert said.count("\n") == 1
    assert "--help`)" in said


def test_a_group_without_a_verb_shows_its_help(run_failing: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_failing(None, "group") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Usage: ")
    assert "verb-of-group\n" in said.err


@pytest.mark.parametrize("way", ["option", "variable"])
def test_debug_shows_the_traceback(
    way: str, run_failing: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if way == "variable":
        monkeypatch.setenv("UNCLIP_DEBUG", "1")
    arguments = ["--debug", "verb"] if way == "option" else ["verb"]
    assert run_failing(InputError("wrong"), *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.endswith("unclip: error: wrong\n")


def test_a_warning_is_one_line(run_failing: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_failing(warning="the prompt is cut after 'apple'") == 0
    assert capsys.readouterr().err == "unclip: warning: the prompt is cut after 'apple'\n"


@dataclass(frozen=True)
class Fruit:
    colour: Annotated[str, typer.Option(help="Of Fruit.")] = "red"
    ripe: Annotated[bool, typer.Option("--ripe")] = False


@dataclass(frozen=True)
class Apple(Fruit):
    leaf: Annotated[bool, typer.Option("--leaf")] = False
    colour: Annotated[str, typer.Option(help="Of Apple.")] = "green"


@pytest.mark.parametrize(
    ("record", "options"),
    [
        (Fruit, ("--n", "--colour", "--ripe", "--weight")),
        (Apple, ("--colour", "--ripe", "--leaf", "--weight")),
    ],
)
def test_a_record_of_options_stands_in_its_place_and_reaches_the_verb(
    record: type[Fruit], options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    got: list[object] = []

    def pick(tree: str, n: int = 1, *, fruit: Fruit, weight: float = 2.0) -> None:
        """Pick fruit."""
        got.extend((tree, n, fruit, weight))

    pick.__annotations__["fruit"] = record
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(grouped(pick))
    app(["oak", "--ripe", "--weight", "3"], standalone_mode=False)
    assert got == ["oak", 1, record(ripe=True), 3.0]
    app(["--help"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "Pick fruit." in said
    assert f"Of {record.__name__}." in said
    places = [said.index(option) for option in options]
    assert places == sorted(places)


def test_no_verb_is_forgotten() -> None:
    files = [
        path.stem
        for path in Path(cli.__file__).parent.glob("*.py")
        if "app = typer.Typer(" in path.read_text()
    ]
    assembled = {group.typer_instance for group in cli.app.registered_groups}
    for name in set(files) - {"__init__"}:
        assert importlib.import_module(f"unclip.cli.{name}").app in assembled, name


def test_version_and_help() -> None:
    assert run_process("--version").stdout == f"unclip {__version__}\n"
    for arguments in ([], ["--help"], ["-h"]):
        done = run_process(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: unclip" in done.stdout


def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "unclip", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_help_loads_no_library_of_a_server() -> None:
    libraries = ("fastapi", "starlette", "uvicorn", "pydantic", "multipart", "prometheus_client", "greenlet")
    libraries = (*libraries, "ray", "sqlite3", "asyncio", "ssl", "unclip.serve.app", "unclip.serve.service")
    code = (
        "import sys; from unclip.cli import main; main(['--help']);"
        f"print([name for name in {libraries} if name in sys.modules], file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "[]\n"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; from unclip.cli import main; main(['--help']);"
        "print([name for name in ('torch', 'numpy', 'PIL', 'rich') if name in sys.modules], file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "[]\n"
    # Computing time, not time on the clock: a machine that is busy with other things must not fail this.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_process("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_progress_is_a_line_a_stage_outside_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress() as progress:
        progress.update("unknown", 7, 0)
        for step in (1, 2):
            for stage in ("prior", "decoder"):
                progress.update(stage, step, 2)
        progress.print("a picture")
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["prior", "decoder", "a picture", "unknown"]
    assert [line.endswith(" s") for line in lines] == [True, True, False, True]


def test_progress_can_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with StageProgress(quiet=True) as progress:
        progress.update("prior", 1, 1)
        progress.print("a picture")
    assert capsys.readouterr() == ("", "")


def test_progress_draws_bars_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with StageProgress() as progress:
        progress.update("prior", 3, 4)
        progress.print("\x1b[1mpicture\x1b[0m")
    said = capsys.readouterr()
    assert said.out == ""
    assert "prior" in said.err
    assert "3/4" in said.err
    assert "picture" in said.err
