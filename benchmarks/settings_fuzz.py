"""Tries settings of a recipe that make no sense: each must end in good order, and soon.

    python benchmarks/settings_fuzz.py --count 300 --seed 0 --out benchmarks/results/settings-fuzz.json

Draws keys of a toy recipe (`toy.toml`), some with a slip of the pen, and values: of the key's own type, and
of all others, huge, negative, NaN, infinite, nested. With each a process of its own runs `unclip train --set
KEY=VALUE --redo`, up to the bundle, over a run that is there. Good ends are: done; refused or failed with one
line; and, of a run that goes on and on, stopped by Ctrl-C. Bad ones are a traceback, a death, silence for 10
seconds of the processor, and 2 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from unclip import __version__, cli, recipes
from unclip.config import to_dict
from unclip.data.prepare.run import build_folder
from unclip.train.config import LoopConfig
from unclip.train.run import Run
from unclip.train.stages import TASKS

RECIPE = Path(__file__).parent / "toy.toml"
PICTURES = 24
SILENCE = 10.0  # seconds of the processor without a line or a step
ENOUGH = 20.0  # seconds after which a run that makes progress is stopped
LONGEST = 300.0  # seconds by the clock, on a busy machine
MEMORY = 2 * 2**30
VALUES = (
    *(
        "0",
        "1",
        "2",
        "3",
        "7",
        "16",
        "64",
        "1000",
        "-1",
        "-7",
        "2147483648",
        "9223372036854775808",
        "1" + "0" * 40,
    ),
    *("0.0", "0.5", "1.0", "1.5", "-0.5", "1e-12", "1e12", "1e308", "-1e308", "nan", "inf", "-inf", "1e999"),
    *(
        "true",
        "false",
        "null",
        '""',
        '"text"',
        "text",
        "\u00fcml\u00e4ut",
        "\U0001f34e",
        '"\\u0000"',
        "../../etc/passwd",
    ),
    *(
        "[]",
        "[1]",
        "[0, 0]",
        "[1, 2, 3]",
        "[-1, 2]",
        "[nan]",
        '["a"]',
        "[[1]]",
        "[" * 200 + "]" * 200,
        "[1, 2",
    ),
    *(
        "{}",
        "{a = 1}",
        "{a = {b = {c = 1}}}",
        "{ = }",
        "1979-05-27",
        "0x7f",
        "=",
        "''",
        "x" * 5000,
        "\x1b[31mred",
    ),
)


# Of a setting's own type, which nothing but a check of values can refuse.
ALIKE: dict[type, tuple[str, ...]] = {
    bool: ("true", "false"),
    int: (
        "-3",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "8",
        "12",
        "13",
        "24",
        "32",
        "48",
        "100",
        "1000",
        "16777217",
    ),
    float: (
        "-1.0",
        "-1e-9",
        "0.0",
        "1e-9",
        "0.1",
        "0.5",
        "0.999",
        "1.0",
        "1.5",
        "3.0",
        "100.0",
        "1e6",
        "1e30",
    ),
    str: (
        *("cosine", "linear", "geometric", "x0", "epsilon", "v", "score", "muon", "adamw", "constant", "wsd"),
        *("clip", "siglip", "supervised", "text", "image", "uniform", "soft-min-snr", "bsr", "blur", "none"),
        *(
            "ddim",
            "dpm++",
            "ancestral",
            "langevin",
            "heun",
            "static",
            "dynamic",
            "gelu",
            "quick_gelu",
            "before",
        ),
        *("bfloat16", "float16", "fsdp", "powersgd", "all", "resnet", "cbow", "pictograms", "raw", "ema-0"),
    ),
    list: (
        "[]",
        "[1]",
        "[1, 2]",
        "[2, 1, 3]",
        "[0.5, 0.5]",
        "[0, 0, 0]",
        "[0.9, 0.99, 40.0]",
        "[4, 8]",
        "[16]",
    ),
    dict: ("{}", "{en = 1.0}", "{folder = 2.0}", "{folder = 0.0}", "{other = 0}", "{steps = 2}", "{x = 1}"),
}


def dotted(table: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of tables with their values, those of tables themselves too."""
    for name, value in table.items():
        yield f"{where}{name}", value
        if isinstance(value, Mapping):
            yield from dotted(value, f"{where}{name}.")


def known(corpus: Path, folder: Path) -> dict[str, Any]:
    """All settings that the recipe has, those that it leaves to their defaults too, with their values."""
    recipe = recipes.load(RECIPE)
    run = Run(recipe, corpus, folder, torch.device("cpu"))
    found = dict(dotted(recipe))
    found |= {"bundle.name": "", "bundle.licence": "", "bundle.shares": False, "bundle.trained_on": {}}
    for stage in run.trained:
        tables = {**run.settings(stage)._asdict(), "train": run.part(stage, "train", LoopConfig)}
        for name, config in tables.items():
            if config is not None:
                found |= dict(dotted(to_dict(config), f"{stage}.{name}."))
        found |= {f"{stage}.{name}": "" for name in ("start", "weights", "bundle")}
        found[f"{stage}.old_weights"] = 0.0
    return found


def settings(found: Mapping[str, Any], count: int, seed: int) -> list[str]:
    """So many assignments: most of a value of the key's own type, and every tenth with a slip in its key."""
    draw, made = random.Random(seed), []
    for number in range(count):
        key = draw.choice(sorted(found))
        alike = ALIKE.get(type(found[key]), VALUES)
        value = draw.choice(alike if draw.random() < 0.6 else VALUES)
        if number % 10 == 9:
            place = draw.randrange(len(key))
            key = draw.choice([key[:place] + key[place + 1 :], key + ".more", f"{key[:place]}x{key[place:]}"])
        made.append(f"{key}={value}")
    return made


def make_corpus(folder: Path) -> Path:
    """A corpus of discs of several sizes and colours."""
    source, draw = folder / "pictures", random.Random(0)
    source.mkdir()
    for number in range(PICTURES):
        image = Image.new("RGB", (96, 96), "white")
        colour = tuple(draw.randrange(256) for _ in range(3))
        ImageDraw.Draw(image).ellipse((8, 8, 30 + 2 * number, 88), fill=colour)
        image.save(source / f"{number}.png")
        (source / f"{number}.txt").write_text(f"a disc of size {number}\n")
    for _ in build_folder(source, folder / "corpus"):
        pass
    return folder / "corpus"


def arguments(corpus: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(RECIPE), "--data", str(corpus), "--out", str(out), "--device", "cpu", *more]


def start(command: list[str], said: Path) -> int:
    """The command line in a process of its own, which ends with its exit code and writes to a file."""
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with said.open("wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        torch.set_num_threads(1)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY, used + 2 * MEMORY))
        code = cli.main(command)
        sys.stderr.flush()
        os._exit(code)
    return child


def processor_seconds(child: int) -> float:
    """Seconds that a process has computed for."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def progress(out: Path, said: Path) -> tuple[int, int]:
    """Something that changes with each line and each step."""
    files = [out / stage / name for stage in TASKS for name in ("metrics.jsonl", "checkpoints", "final")]
    changed = 0
    for path in files:
        with suppress(FileNotFoundError):
            changed += path.stat().st_mtime_ns
    return said.stat().st_size, changed


def watched(child: int, out: Path, said: Path) -> tuple[int, float, int, str]:
    """The end of a process: status, seconds by the clock, peak of memory in bytes, what was done to it."""
    began, computed, seen, done = time.monotonic(), 0.0, (-1, -1), ""
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        clock = time.monotonic() - began
        if ended:
            return status, clock, usage.ru_maxrss * 1024, done
        now, used = progress(out, said), processor_seconds(child)
        if now != seen:
            seen, computed = now, used
        if used - computed > SILENCE or clock > LONGEST:
            os.kill(child, signal.SIGKILL)
            done = "silent"
        elif not done and clock > ENOUGH and used > ENOUGH / 2:
            os.kill(child, signal.SIGINT)
            done = "stopped"
        time.sleep(0.02)


def judged(setting: str, base: Path, corpus: Path, folder: Path) -> dict[str, Any]:
    """A setting, and how a run with it ended."""
    out, said = folder / "run", folder / "said"
    shutil.copytree(base, out)
    child = start(arguments(corpus, out, "--redo", "--set", setting), said)
    status, seconds, memory, done = watched(child, out, said)
    text = said.read_text(errors="replace")
    shutil.rmtree(out)
    lines = [line for line in text.splitlines() if line.startswith("unclip: error:")]
    code = os.waitstatus_to_exitcode(status)
    ends = {0: "done", 1: "failed", 2: "refused", 130: "stopped"}
    end = ends.get(code, f"died of {code}")
    if done == "silent":
        end = "silent"
    elif "Traceback" in text or "bug in unclip" in text:
        end = "traceback"
    elif len(lines) != (code != 0):
        end = "no line that says why"
    elif memory > MEMORY:
        end = "too much memory"
    found = {"setting": setting[:80], "end": end, "seconds": round(seconds, 1)}
    if end not in ends.values():
        found["said"] = text[-1000:]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, base = make_corpus(folder), folder / "base"
        child = start(arguments(corpus, base), folder / "said")
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit((folder / "said").read_text())
        found = []
        for number, setting in enumerate(settings(known(corpus, base), options.count, options.seed)):
            if number % 25 == 0:
                print(f"{number} of {options.count}", file=sys.stderr, flush=True)
            found.append(judged(setting, base, corpus, folder))
            if "said" in found[-1]:
                print(json.dumps(found[-1], ensure_ascii=False, indent=1), flush=True)
    ends = Counter(one["end"] for one in found)
    bad = [one for one in found if "said" in one]
    results = {
        "version": __version__,
        "count": options.count,
        "seed": options.seed,
        "ends": dict(ends),
        "longest_seconds": max(one["seconds"] for one in found),
        "bad": bad,
        "settings": {end: [one["setting"] for one in found if one["end"] == end] for end in sorted(ends)},
    }
    print(json.dumps({key: results[key] for key in ("ends", "longest_seconds")}))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1, ensure_ascii=True) + "\n")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
