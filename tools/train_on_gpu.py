"""Packs a corpus into little, trains on it for minutes on a rented GPU, and brings the weights home in parts.

    python tools/train_on_gpu.py pack DATA PACK             # at home: 60 MB of it, and the tokenizer
    python tools/train_on_gpu.py train PACK RUN --minutes 9 # there; cut off, the same command goes on
    python tools/train_on_gpu.py join RUN/result            # at home again

It runs from a checkout, uninstalled. `train` needs Python 3.11 or later with torch, numpy, Pillow, tokenizers
and safetensors, no network, and nothing of the project but `src`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import numpy as np
import torch

from unclip import native, recipes
from unclip.data import packing
from unclip.data.corpus import Corpus
from unclip.errors import InputError, UnclipError
from unclip.runtime import pick_device
from unclip.tokenizer import TOKENIZER_FILE
from unclip.train.log import METRICS
from unclip.train.run import Run
from unclip.train.timed import train_for

RECIPE = "pictograms-gpu"
SHARES = {"clip": 0.25, "layout": 0.05, "decoder": 0.7}  # of the minutes
SIDE = 64  # pixels: CLIP's, the layout's and the decoder's
MB = 10**6
RESULT, WEIGHTS = "result", "weights.tar"


def pack(arguments: argparse.Namespace) -> None:
    """Packs a corpus by the weights of the stages, and makes the recipe's tokenizer of all of it."""
    recipe = recipes.load(arguments.recipe, arguments.set)
    run = Run(
        recipe, arguments.corpus, arguments.pack.with_name(f"{arguments.pack.name}-run"), torch.device("cpu")
    )
    settings = [run.settings(stage).task.pictures for stage in SHARES if stage in run.trained]

    def weights(corpus: Corpus) -> np.ndarray:
        each = [corpus.weights(one.sources, one.kinds, one.shares) for one in settings]
        mean: np.ndarray = np.mean(each, axis=0)
        return mean

    limit = int(arguments.mb * MB)
    run.tokenizer()
    tokenizer = run.result("tokenizer")
    packed, there = packing.pack(
        arguments.corpus, arguments.pack, side=SIDE, limit=limit - tokenizer.stat().st_size, weights=weights
    )
    shutil.copy(tokenizer, arguments.pack / TOKENIZER_FILE)
    shutil.rmtree(run.out)
    if arguments.part_mb:
        packing.cut(arguments.pack / packing.PICTURES, int(arguments.part_mb * MB))
    size = sum(path.stat().st_size for path in arguments.pack.iterdir())
    print(f"{packed:,} of {there:,} pictures to learn from, {size / MB:.1f} MB in {arguments.pack}")


def train(arguments: argparse.Namespace) -> None:
    """Trains for some minutes, and writes what came of it."""
    began = time.monotonic()
    packing.join(arguments.pack)
    recipe = recipes.load(arguments.recipe, arguments.set)
    shares = dict(SHARES)
    if arguments.shares:
        shares = {name: float(value) for name, _, value in (one.partition("=") for one in arguments.shares)}
    run = Run(recipe, arguments.pack, arguments.run, pick_device(arguments.device), threading.Event())
    own = run.result("tokenizer")
    if "bundle" not in recipe["tokenizer"] and not own.exists():
        run.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(arguments.pack / TOKENIZER_FILE, own)

    def say(text: str) -> None:
        print(f"{(time.monotonic() - began) / 60:5.1f} min  {text}", file=sys.stderr, flush=True)

    found = train_for(run, arguments.minutes, shares, say)
    say(f"trained {', '.join(found)}")
    paths = write_result(run, found, arguments.run / RESULT, int(arguments.part_mb * MB))
    say(f"{', '.join(path.name for path in paths)} in {arguments.run / RESULT}")


def write_result(run: Run, found: Mapping[str, Path], folder: Path, part: int) -> list[Path]:
    """Writes weights (matrices in bfloat16), tokenizer and logs into one archive, cut into parts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive, half = folder / WEIGHTS, folder / "half.safetensors"
    with tarfile.open(archive, "w") as tar:
        if (tokenizer := run.result("tokenizer")).parent == run.out:
            tar.add(tokenizer, TOKENIZER_FILE)
        for stage, path in found.items():
            native.save_model(half, native.load_model(path, dtype=torch.float32), dtype=torch.bfloat16)
            tar.add(half, str(path.relative_to(run.out)))
            tar.add(run.out / stage / METRICS, f"{stage}/{METRICS}")
            half.unlink()
    return packing.cut(archive, part) if part else [archive]


def join(arguments: argparse.Namespace) -> None:
    """Puts the parts of a result together and unpacks it into the folder above, as a run that has ended."""
    packing.join(arguments.folder)
    with tarfile.open(arguments.folder / WEIGHTS) as tar:
        tar.extractall(arguments.folder.parent, filter="data")
    print(arguments.folder.parent)


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--recipe", default=RECIPE, help="name of a recipe, or path of a TOML file")
    common.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the recipe"
    )
    common.add_argument(
        "--part-mb", type=float, default=0, help="cut what is larger into parts of so many MB"
    )
    one = commands.add_parser("pack", parents=[common], help="pack a corpus")
    one.add_argument("corpus", type=Path, help="folder of the corpus")
    one.add_argument("pack", type=Path, help="new folder")
    one.add_argument("--mb", type=float, default=60, help="most that it may have")
    one.set_defaults(go=pack)
    one = commands.add_parser("train", parents=[common], help="train on a packed corpus")
    one.add_argument("pack", type=Path, help="folder of the packed corpus")
    one.add_argument("run", type=Path, help="folder of the run; one that stands there goes on")
    one.add_argument("--minutes", type=float, required=True, help="time for all of it")
    one.add_argument("--shares", nargs="+", metavar="STAGE=SHARE", help=f"of the time; by default {SHARES}")
    one.add_argument("--device", help="cpu, cuda, cuda:N; by default CUDA if there is")
    one.set_defaults(go=train)
    one = commands.add_parser("join", help="put parts together")
    one.add_argument("folder", type=Path, help="RUN/result")
    one.set_defaults(go=join)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed or interrupted."""
    arguments = parsed(words)
    try:
        arguments.go(arguments)
    except (UnclipError, OSError, InputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
