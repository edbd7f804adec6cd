"""Promises of `tools/train_on_gpu.py`, at toy size on the CPU: packed, trained, cut off, brought home."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from support.tiny_recipe import UNCLIP, draw_shapes
from unclip import native, recipes
from unclip.data.corpus import Corpus
from unclip.data.prepare.run import build_folder
from unclip.train.state import checkpoint_paths, newest_step

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tools" / "train_on_gpu.py"
# What the machine has: torch and what it needs, numpy, Pillow, tokenizers, safetensors.
ALONE = """
import sys, runpy
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is not on this machine")
sys.meta_path.insert(0, Refuse())
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MISSING = (
    "pyarrow",
    "typer",
    "rich",
    "click",
    "usearch",
    "huggingface_hub",
    "resvg_py",
    "tensorboard",
    "yaml",
)


def alone(*words: object) -> list[str]:
    argv = [str(SCRIPT), *map(str, words)]
    return [sys.executable, "-c", ALONE.format(names=set(MISSING), argv=argv)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A recipe, a corpus, and what was packed of it, cut into parts."""
    folder = tmp_path_factory.mktemp("gpu")
    draw_shapes(folder / "shapes")
    for _ in build_folder(folder / "shapes", folder / "corpus"):
        pass
    recipe = folder / "tiny.toml"
    recipe.write_text(UNCLIP.replace("[clip.train]", "[clip.train]\ntensorboard = false"))
    words = ["pack", folder / "corpus", folder / "pack", "--recipe", recipe, "--mb", 1, "--part-mb", 0.005]
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pictures to learn from" in done.stdout
    return recipe, folder / "corpus", folder / "pack"


def test_weights_come_home_from_a_machine_that_has_little_and_the_run_goes_on_there(
    packed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe, corpus, pack = packed
    assert len(list(pack.glob("pictures.bin.part-*"))) > 1
    assert not list(pack.parent.glob("pack-run"))
    words = ["train", pack, tmp_path / "run", "--recipe", recipe, "--minutes", 0.1, "--device", "cpu"]
    done = subprocess.run(alone(*words, "--part-mb", 0.02), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "trained clip, layout, decoder" in done.stderr
    assert len(Corpus(pack)) == len(Corpus(corpus))

    home = tmp_path / "home"
    (home / "result").mkdir(parents=True)
    parts = list((tmp_path / "run" / "result").iterdir())
    assert len(parts) > 1
    for part in parts:
        assert part.stat().st_size <= 20_000
        (home / "result" / part.name).write_bytes(part.read_bytes())
    joined = subprocess.run([sys.executable, SCRIPT, "join", home / "result"], capture_output=True, text=True)
    assert joined.returncode == 0, joined.stderr
    for stage in ("clip", "layout", "decoder"):
        (there,) = (
            (tmp_path / "run" / stage / "final").glob("*.safetensors")
            if stage == "layout"
            else (tmp_path / "run" / stage / "final" / "ema-0.safetensors",)
        )
        own = native.load_model(home / there.relative_to(tmp_path / "run"), dtype=torch.float32).state_dict()
        for name, weight in native.load_model(there, dtype=torch.float32).state_dict().items():
            assert torch.allclose(own[name], weight, rtol=0.01, atol=1e-6)

    from unclip.train.run import Run

    run = Run(recipes.load(recipe), corpus, home, torch.device("cpu"))
    told = run.check("prior")  # what came home is done, and what it did not train goes on from it
    assert "done" in next(line for line in told.splitlines() if line.startswith("clip"))
    run.go("prior")


def test_a_run_that_is_killed_goes_on_with_the_same_command(
    packed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe, _, pack = packed
    setting = "clip.train.checkpoint_minutes=0.001"
    words = ["train", pack, tmp_path / "run", "--recipe", recipe, "--shares", "clip=1", "--device", "cpu"]
    words += ["--set", setting, "--minutes"]
    with subprocess.Popen(alone(*words, 5), stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not checkpoint_paths(tmp_path / "run" / "clip") and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = newest_step(tmp_path / "run" / "clip")
    assert before
    done = subprocess.run(alone(*words, 0.05), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"goes on from step {before:,}" in done.stderr
    assert (tmp_path / "run" / "result" / "weights.tar").exists()


def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    packed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    recipe, _, pack = packed
    words = ["train", pack, tmp_path / "run", "--recipe", recipe, "--shares", "clip=1", "--minutes", 5]
    with subprocess.Popen(alone(*words, "--device", "cpu"), stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not (tmp_path / "run" / "clip" / "metrics.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "start the same command again" in text
    assert newest_step(tmp_path / "run" / "clip")


def test_the_recipe_for_a_gpu_trains_the_stages_that_the_script_shares_its_time_out_to() -> None:
    recipe = recipes.load("pictograms-gpu")
    for stage, signs in (("clip", 0.1), ("layout", 0), ("decoder", 0)):
        pictures = recipe[stage]["task"]["pictures"]
        assert pictures["sources"]["signs"] == signs
        assert set(pictures["shares"]) == {"scenes", "faces"}
        assert recipe[stage]["train"]["checkpoint_minutes"] == 1
        assert recipe[stage]["train"]["schedule"] == "wsd"
        assert recipe[stage]["train"]["tensorboard"] is False
    assert "teacher" not in recipe["clip"]["task"]  # nobody carries its words


def test_mistakes_are_said_in_a_line(tmp_path: Path) -> None:
    words = ["train", tmp_path, tmp_path / "run", "--minutes", "1"]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "is no corpus" in done.stderr
