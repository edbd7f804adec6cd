"""Promises of `unclip generate`: files, names, documents, refusals in one line, nothing half-written."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from unclip import cli
from unclip.images import read_metadata

Generate = Callable[..., int]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def generate(tiny_bundle: Path) -> Generate:
    """The verb, with the tiny bundle; returns the exit code."""

    def run(*arguments: str) -> int:
        return cli.main(["generate", "--model", str(tiny_bundle), *arguments])

    return run


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_pictures_are_named_after_prompt_and_seed(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("a red apple", "빨간 사과", "--n", "2", "--seed", "1") == 0
    expected = [f"{prompt}-seed1-{k}.png" for prompt in ("a-red-apple", "빨간-사과") for k in (0, 1)]
    said = capsys.readouterr()
    assert said.out.splitlines() == expected
    assert files() == sorted(expected)
    assert "decoder" in said.err
    with Image.open(expected[0]) as image:
        assert image.size == (256, 256)
    found = read_metadata(expected[3])
    assert (found["prompt"], found["seed"], found["index"], found["model"]) == ("빨간 사과", "1", "1", "tiny")


def test_the_same_command_writes_the_same_files_and_another_one_others(generate: Generate) -> None:
    command = ("a red apple", "--size", "64", "--seed", "1")
    assert generate(*command) == 0
    first = Path("a-red-apple-seed1-0.png").read_bytes()
    assert generate(*command) == 0
    assert Path("a-red-apple-seed1-0.png").read_bytes() == first
    assert generate(*command, "--guidance", "5") == 0
    assert generate("A Red Apple!", *command[1:]) == 0
    assert Path("a-red-apple-seed1-0.png").read_bytes() == first
    assert files() == [f"a-red-apple-seed1-0{suffix}.png" for suffix in ("-2", "-3", "")]


def test_a_random_seed_is_told(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a red apple", "--size", "64") == 0
    said = capsys.readouterr()
    seed = said.err.splitlines()[-1].removeprefix("seed ")
    assert said.out == f"a-red-apple-seed{seed}-0.png\n"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_formats_and_metadata(generate: Generate, format: str) -> None:
    with_metadata = ("a red apple", "--size", "64", "--seed", "1", "--format", format)
    assert generate(*with_metadata, "--out", "a-{seed}-{index}") == 0
    assert generate(*with_metadata, "--out", "b-{seed}-{index}", "--no-metadata") == 0
    a, b = files()
    with Image.open(a) as image:
        assert image.format == format.upper()
    assert read_metadata(a)["prompt"] == "a red apple"
    assert read_metadata(b) == {}


def test_json_is_one_document_on_stdout(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a red apple", "🍎", "--n", "2", "--size", "512", "--json", "--out", "pictures") == 0
    document = json.loads(capsys.readouterr().out)
    assert [picture["prompt"] for picture in document["pictures"]] == ["a red apple"] * 2 + ["🍎"] * 2
    assert sorted(picture["path"] for picture in document["pictures"]) == files()
    first = document["pictures"][0]
    assert (first["index"], first["size"], first["format"]) == (0, 512, "png")
    assert -1 <= first["score"] <= 1
    assert first["path"] == f"pictures/a-red-apple-seed{first['seed']}-0.png"
    assert document["model"]["name"] == "tiny"
    drawing = ["prompt", "prior", "decoder", "upsampler-256", "upsampler-1024", "pictures"]
    assert list(document["seconds"]) == ["import", "load", *drawing, "files", "total"]
    assert document["peak_memory_bytes"] > 10**7
    assert sum(list(document["seconds"].values())[:-1]) <= document["seconds"]["total"] + 0.01


def test_prompts_come_from_a_file_or_stdin(
    generate: Generate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prompts.txt").write_text("\ufeffa red apple\r\n\n  빨간 사과  \n", encoding="utf-8")
    command = ("--size", "64", "--seed", "1")
    assert generate("ein roter Apfel", *command, "--from-file", "prompts.txt") == 0
    expected = ["ein-roter-apfel-seed1-0.png", "a-red-apple-seed1-0.png", "빨간-사과-seed1-0.png"]
    assert capsys.readouterr().out.splitlines() == expected
    stdin = io.TextIOWrapper(io.BytesIO(b"a green apple\n"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert generate(*command, "--from-file", "-") == 0
    assert capsys.readouterr().out == "a-green-apple-seed1-0.png\n"


def test_preview_shows_the_picture_on_stderr(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a red apple", "--size", "64", "--preview", "--seed", "1") == 0
    said = capsys.readouterr()
    assert "▀" in said.err
    assert said.out == "a-red-apple-seed1-0.png\n"


def test_rerank_writes_only_the_best(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("a red apple", "--size", "64", "--n", "2", "--rerank", "9", "--seed", "1", "--json") == 0
    pictures = json.loads(capsys.readouterr().out)["pictures"]
    assert len(pictures) == len(files()) == 2
    assert pictures[0]["score"] >= pictures[1]["score"]


def test_names_of_the_best_of_many_say_their_order(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("a red apple", "--size", "64", "--n", "3", "--rerank", "12", "--seed", "1")
    assert generate(*command) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == sorted(told) == files()
    assert [path.rpartition("-")[0] for path in told] == [f"a-red-apple-seed1-best{k}" for k in (1, 2, 3)]
    assert generate(*command, "--out", "{rank}-{seed}.png") == 0
    assert capsys.readouterr().out.splitlines() == ["1-1.png", "2-1.png", "3-1.png"]


@pytest.mark.parametrize("format", ["png", "webp"])
def test_one_picture_goes_to_stdout_alone(tiny_bundle: Path, tmp_path: Path, format: str) -> None:
    command = [sys.executable, "-m", "unclip", "generate", "a red apple", "--size", "64", "--out", "-"]
    options = ["--format", format, "--model", str(tiny_bundle)]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.format == format.upper()
        image.load()
    assert read_metadata(done.stdout)["prompt"] == "a red apple"
    assert b"seed " in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]


def test_a_long_prompt_is_warned_of_in_one_line(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("a red apple " * 6 + "and a worm", "--size", "64", "--seed", "1") == 0
    warning = next(line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert warning.startswith("unclip: warning: the prompt is longer than the 16 tokens")
    assert "and a worm" in warning


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no prompt given"),
        ([""], 2, "the prompt is empty"),
        (["a", " "], 2, "the prompt is empty"),
        (["a", "--n", "0"], 2, "n is 0: choose from 1 to 100"),
        (["a", "--n", "two"], 2, "valid int"),
        (["a", "--size", "257"], 2, "size 257 is not drawn: choose 64, 256, 512, 1024"),
        (["a", "--sampler", "dim"], 2, "unknown sampler 'dim': choose ancestral, ddim"),
        (["a", "--steps", "0"], 2, "0 steps"),
        (["a", "--rerank", "2", "--n", "3"], 2, "rerank is 2"),
        (["a", "--seed", "-1"], 2, "seed is -1"),
        (["a", "--format", "gif"], 2, "unknown picture format 'gif'"),
        (["a", "--device", "abacus"], 2, "unknown device 'abacus'"),
        (["a", "--out", "{colour}.png"], 2, "unknown field {colour}"),
        (["a", "--out", "{seed:99999999999}.png"], 2, "is no way to write a field, write {seed}"),
        (["a", "--n", "2", "--out", "-"], 2, "writes one picture to stdout, and 2 are asked for"),
        (["a", "b", "--out", "-"], 2, "writes one picture to stdout, and 2 are asked for"),
        (["a", "--json", "--out", "-"], 2, "and nothing else: leave out --json"),
        (["-a red apple"], 2, "begins with a dash stands behind --: unclip generate -- '-a red apple'"),
        (["-old car"], 2, "begins with a dash stands behind --: unclip generate -- '-old car'"),
        (["-n 3 apples"], 2, "begins with a dash stands behind --: unclip generate -- '-n 3 apples'"),
        (["-red"], 2, "begins with a dash stands behind --: unclip generate -- -red"),
        (["a", "--out", "x.png", "--n", "2"], 2, "several pictures would be written to x.png"),
        (["a", "--out", "/dev/null/x.png"], 2, "cannot write into /dev/null"),
        (["a", "--from-file", "nothing.txt"], 2, "cannot read prompts from nothing.txt"),
        (["a", "--model", "nothing"], 1, "no bundle 'nothing'"),
        (["a", "--colour"], 2, "No such option"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    generate: Generate, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert generate(*arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = [line for line in said.err.splitlines() if not line.startswith("load:")]
    assert line.startswith("unclip: error: ")
    assert message in line
    assert files() == []


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_bundle_is_one_line_that_names_the_file(
    tiny_bundle_copy: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path = tiny_bundle_copy / "decoder.safetensors"
    data = path.read_bytes()
    path.unlink()
    if damage == "altered":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert cli.main(["generate", "a red apple", "--model", str(tiny_bundle_copy)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unclip: error: bundle tiny: ")
    assert "decoder.safetensors" in line
    assert damage in line
    assert files() == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_interrupting_leaves_whole_pictures_and_code_130(tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "unclip", "generate", "a red apple", "--n", "100", "--size", "1024"]
    process = subprocess.Popen(
        [*command, "--seed", "1", "--model", str(tiny_bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    first = process.stdout.readline().strip()  # it is drawing
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "unclip: interrupted"
    printed = [first, *out.split()]
    assert 1 <= len(printed) < 100
    assert set(printed) <= set(files())
    assert len(files()) <= len(printed) + 1  # one may have been written and not yet told
    for name in files():
        assert name.startswith("a-red-apple-seed1-")  # no temporary file
        with Image.open(name) as image:
            image.load()


def test_settings_of_json_are_numbers_where_they_are_numbers(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("a red apple", "--size", "64", "--steps", "fast27", "--seed", "1", "--json") == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    assert (picture["settings"]["size"], picture["settings"]["guidance"]) == (64, 2)
    assert picture["settings"]["steps"] == "fast27"


@pytest.mark.parametrize(
    ("closed", "code"),
    [("2>&-", 0), ("2>/dev/null", 0), (">&-", 0), ("2>/dev/full", 0), (">/dev/full", 1), ("2> >(true)", 0)],
)
def test_streams_that_cannot_show_end_no_drawing(
    tiny_bundle: Path, tmp_path: Path, closed: str, code: int
) -> None:
    if "full" in closed and not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    options = f"--n 3 --seed 1 --size 64 --model {tiny_bundle}"
    command = f"{sys.executable} -m unclip generate '빨간 사과' {options} {closed}"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == code, done.stderr
    assert len(list(tmp_path.glob("*.png"))) == 3
    if code:
        told = done.stderr.splitlines()[-1]
        assert told == b"unclip: error: cannot write to stdout: no space left on device"


def test_results_are_whole_where_python_does_not_buffer(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "unclip", "generate", "🍎", "--seed", "1", "--size", "64"]
    done = subprocess.run([*command, "--model", str(tiny_bundle)], cwd=tmp_path, capture_output=True)
    assert done.stdout == b"red-apple-seed1-0.png\n"


def test_prompts_go_through_a_program_and_are_kept(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("빨간 사과", "사과", "--size", "64", "--seed", "1", "--json", "--translate", "tr 빨간사과 x")
    assert generate(*command) == 0
    document = json.loads(capsys.readouterr().out)
    assert [picture["prompt"] for picture in document["pictures"]] == ["빨간 사과", "사과"]
    assert all("x" in picture["settings"]["translation"] for picture in document["pictures"])
    assert files() == ["빨간-사과-seed1-0.png", "사과-seed1-0.png"]
    assert generate("a", "--translate", "no-such-program") == 2
    assert "'no-such-program' is no program that is here" in capsys.readouterr().err
    assert generate("a", "--translate", "false", "--size", "64") == 1
    assert "the translator 'false' failed with exit code 1" in capsys.readouterr().err


def test_a_text_that_is_taken_for_a_file_name_is_told_of(
    generate: Generate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("a cat", "-old car", "--size", "64") == 0
    said = capsys.readouterr()
    assert said.out.startswith("ld car/a-cat-")
    assert "warning: '-old car' was read as --out 'ld car': a text that begins with a dash" in said.err
    assert generate("a cat", "-omy pictures/", "--size", "64") == 0
    assert "was read as" not in capsys.readouterr().err
