"""The promise that a run notices what its stages were trained on, and mixes nothing that does not belong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support.tiny_recipe import draw_shapes
from unclip import recipes
from unclip.bundle import Bundle
from unclip.data.prepare.run import build_folder
from unclip.errors import TrainingError
from unclip.runtime import folder_lock
from unclip.train import record
from unclip.train.run import Run
from unclip.train.state import checkpoint_paths, newest_step, read_checkpoint, save_checkpoint

CPU = torch.device("cpu")
COMMAND = "unclip train tiny.toml --data corpus --out run"
Make = Callable[..., Run]


@pytest.fixture
def again(run: Path, corpus: Path, recipe: Path, tmp_path: Path) -> Make:
    """A run of these settings in a copy of a whole one."""
    copy = Path(shutil.copytree(run, tmp_path / "again"))

    def make(*settings: str, data: Path = corpus) -> Run:
        return Run(recipes.load(recipe, settings), data, copy, CPU, command=COMMAND)

    return make


@pytest.fixture(scope="module")
def other_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures and captions, but for one colour."""
    folder = tmp_path_factory.mktemp("other")
    draw_shapes(folder / "shapes")
    changed = sorted((folder / "shapes").glob("*.svg"))[3]
    changed.write_text(changed.read_text().replace("red", "tan").replace("black", "navy"))
    for path in (folder / "shapes").rglob("*.svg"):
        text = path.read_text()
        path.write_text(text.replace('"green"', '"olive"'))
    for _ in build_folder(folder / "shapes", folder / "corpus", large=3):
        pass
    return folder / "corpus"


def weights(run: Run) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.out.glob("*/final/*.safetensors")}


def test_every_stage_says_what_it_was_trained_on(run: Path, corpus: Path, recipe: Path) -> None:
    training = Run(recipes.load(recipe), corpus, run, CPU)
    for stage in ("tokenizer", *training.trained):
        found = record.read(training.record_path(stage))
        assert found is not None
        assert found.corpus == training.train.fingerprint
        assert found.parts == {need: training.digest(need) for need in training.needs(stage)}
    decoder = json.loads((run / "decoder" / record.NAME).read_text())
    assert set(decoder["parts"]) == {"tokenizer", "clip", "layout"}
    assert decoder["settings"]["train"]["batch"] == 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["clip.train.learning_rate=1e-3"],
            r"clip \(train\.learning_rate: was 0\.0002, is 0\.001\); prior, .*decoder \(its clip is trained",
        ),
        (["prior.model.layers=2"], r"prior \(model\.layers: was 1, is 2\)\. "),
        (["prior.task={text_drop=0.2}"], r"prior \(task\.text_drop: was 0\.1, is 0\.2\)"),
        (["decoder.diffusion.shift=-1.0"], r"decoder \(diffusion\.shift"),
        (["decoder.train.seed=5"], r"decoder \(train\.seed: was 0, is 5\)"),
        (["decoder.train.steps=2"], r"decoder \(train\.steps: 3 were taken, is 2\)"),
        (
            ["tokenizer.vocabulary=280"],
            r"tokenizer \(tokenizer\.vocabulary: was 300, is 280\); clip, .*decoder \(its tokenizer",
        ),
        (["clip.train.steps=4"], r"are stale: prior, ar-prior, layout, decoder \(its clip goes on\)"),
        (["layout.train.steps=61"], r"are stale: decoder \(its layout goes on\)"),
        (["clip.weights=raw"], r"are stale: prior, ar-prior, layout, decoder \(its clip is another\)"),
    ],
)
def test_a_finished_stage_does_not_ignore_other_settings(again: Make, settings: list[str], said: str) -> None:
    """It says which stages are stale and why, and the exact command; and nothing is changed."""
    training = again(*settings)
    before = weights(training)
    with pytest.raises(TrainingError, match=said) as caught:
        training.go()
    assert str(caught.value).endswith(f"`{COMMAND} --redo`")
    assert weights(training) == before


def test_settings_that_change_no_weights_make_nothing_stale(again: Make) -> None:
    training = again(
        "clip.train.log_steps=7",
        "clip.train.evaluate_steps=0",
        "decoder.train.keep=9",
        "prior.sampling.steps=2",
    )
    before = weights(training)
    training.go()
    assert weights(training) == before


def test_another_corpus_makes_all_stages_stale(again: Make, other_corpus: Path) -> None:
    with pytest.raises(TrainingError, match=r"tokenizer, clip, .*decoder \(the corpus is another\)"):
        again(data=other_corpus).go()


def test_a_corpus_that_moved_or_was_built_again_is_the_same(
    again: Make, corpus: Path, tmp_path: Path
) -> None:
    training = again(data=Path(shutil.copytree(corpus, tmp_path / "moved")))
    before = weights(training)
    training.go()
    assert weights(training) == before


def test_redo_trains_stale_stages_alone_and_keeps_the_old_ones(again: Make) -> None:
    training = again("prior.train.learning_rate=1e-3")
    before = weights(training)
    training.go(redo=True)
    changed = {
        name.removeprefix(f"{training.out}/") for name in before if weights(training)[name] != before[name]
    }
    assert changed == {"prior/final/raw.safetensors", "prior/final/ema-0.safetensors"}
    kept = training.out / "before" / "prior" / "final" / "raw.safetensors"
    assert kept.read_bytes() == before[str(training.out / "prior/final/raw.safetensors")]
    training.go()  # and now it is as it should be


def test_redo_over_another_corpus_is_as_a_run_from_the_beginning(
    again: Make, other_corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    """What was computed once of the old corpus is not used for the new one."""
    training = again("upsampler-1024=false", data=other_corpus)
    for path in training.out.glob("embeddings-*.npy"):  # as runs of before called it
        path.rename(path.with_name("-".join(path.stem.split("-")[:3]) + ".npy"))
    training.go(redo=True)
    fresh = Run(recipes.load(recipe, ["upsampler-1024=false"]), other_corpus, tmp_path / "fresh", CPU)
    fresh.go()
    for stage in fresh.trained:
        name = f"{stage}/final/raw.safetensors"
        assert (fresh.out / name).read_bytes() == (training.out / name).read_bytes(), stage


def test_a_bundle_of_parts_of_different_clips_is_never_written(again: Make) -> None:
    """However it came: here one stage was trained alone, over the head of those that stand on it."""
    training = again("clip.train.seed=3")
    old = Bundle.load(training.out / "bundle").identity
    training.go("clip", redo=True)
    for only in (None, "bundle"):
        with pytest.raises(
            TrainingError, match=r"are stale: prior, ar-prior, layout, decoder \(its clip is another\)"
        ):
            training.go(only)
    with pytest.raises(TrainingError, match=r"prior, .*decoder \(its clip is another\)"):
        training.bundle()
    assert Bundle.load(training.out / "bundle").identity == old
    training.go(redo=True)
    assert Bundle.load(training.out / "bundle").identity != old


def test_a_stopped_stage_does_not_go_on_over_another_corpus(
    again: Make, other_corpus: Path, corpus: Path
) -> None:
    training = again("prior.train.steps=5", data=other_corpus)
    with pytest.raises(TrainingError, match=r"prior \(the corpus is another"):
        training.go("prior")
    goes_on = again("prior.train.steps=5", "prior.train.learning_rate=1e-3")
    goes_on.go("prior")  # a lower rate after trouble is a use of this, and is said in the log
    with pytest.raises(TrainingError, match=r"prior \(train\.optimiser: was 'adamw', is 'muon'"):
        again("prior.train.steps=6", "prior.train.optimiser=muon").go("prior")


def test_start_weights_of_the_same_name_are_told_apart(
    run: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "bundle", tmp_path / "begun")
    settings = [f"upsampler-256.start={tmp_path / 'begun'}"]

    def training() -> Run:
        return Run(recipes.load(recipe, settings), corpus, tmp_path / "run", CPU)

    training().go("upsampler-256")
    training().go("upsampler-256")
    manifest = tmp_path / "begun" / "bundle.json"
    manifest.write_text(manifest.read_text().replace('"data": "shapes"', '"data": "circles"'))
    with pytest.raises(TrainingError, match=r"upsampler-256 \(start: was tiny \w+, is tiny \w+\)"):
        training().go("upsampler-256")


def test_a_run_of_before_there_were_records_goes_on_and_says_so_in_one_line(
    again: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    training = again("prior.train.steps=5", "ar-prior.train.seed=1")
    for path in training.out.rglob(f"*{record.NAME}"):
        path.unlink()
    (file,) = training.out.glob("embeddings-*.npy")
    older = file.with_name("-".join(file.stem.split("-")[:3]) + ".npy")
    file.rename(older)
    before = weights(training)
    training.go()
    lines = [line for line in capsys.readouterr().err.splitlines() if "before runs noted" in line]
    assert len(lines) == 1
    assert lines[0].startswith("tokenizer, clip, prior, ar-prior, upsampler-256, ")
    changed = {name for name, found in weights(training).items() if found != before[name]}
    assert {Path(name).parent.parent.name for name in changed} == {"prior"}
    assert not list(training.out.rglob(f"*{record.NAME}"))  # nobody knows what they were trained on
    assert list(training.out.glob("embeddings-*.npy")) == [older]


def test_a_setting_that_came_since_makes_nothing_stale(again: Make) -> None:
    """A record lacks it, and its default is what was before."""
    training = again()
    path = training.record_path("prior")
    told = json.loads(path.read_text())
    del told["settings"]["task"]["pictures"]["hard_negatives"]
    del told["settings"]["train"]["sam_rho"]
    told["settings"]["train"]["sharpness"] = 0.0  # its name of before
    path.write_text(json.dumps(told))
    training.check()
    training.go("prior")
    told["settings"]["train"]["sharpness"] = 0.5
    path.write_text(json.dumps(told))
    with pytest.raises(TrainingError, match=r"sam_rho: was 0\.5, is 0\.0"):
        training.check()


def test_a_run_that_was_begun_before_a_setting_came_goes_on(again: Make) -> None:
    """Its checkpoint lacks it, and its default is what was before."""
    training = again("prior.train.steps=4")
    (path,) = checkpoint_paths(training.out / "prior")
    found = read_checkpoint(path)
    path.unlink()
    del found["about"]["config"]["task"]["pictures"]["hard_negatives"], found["loop"]["sam_rho"]
    save_checkpoint(training.out / "prior", 3, {key: found[key] for key in found if key != "step"}, keep=1)
    training.go("prior")
    assert newest_step(training.out / "prior") == 4


# --- one process at a time


def test_a_second_trainer_is_refused_and_a_dead_one_forgotten(again: Make) -> None:
    training = again("clip.train.steps=4")
    with (
        folder_lock(training.out, TrainingError("busy")),
        pytest.raises(TrainingError, match=r"another process trains in .*again: wait"),
    ):
        training.go(redo=True)
    (training.out / ".lock").write_text("left by a process that was killed")
    half = training.out / "clip" / "checkpoints" / ".next.0123abcd.pt"
    for path in (
        half,
        half.with_name("next.pt"),
        training.out / "prior" / "final" / ".raw.0123abcd.safetensors",
    ):
        path.write_text("half")
    training.go("clip")
    assert not [path for path in training.out.rglob(".*") if path.is_file()]
    assert not half.with_name("next.pt").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from unclip import recipes
from unclip.train import loop
from unclip.train.run import Run
torch.set_num_threads(1)
steps = int(sys.argv[4])
change = loop.Trainer._change_weights
def dies(self, *rest):
    rate = change(self, *rest)
    if self.task.name == sys.argv[5] and self.step == steps:
        os.kill(os.getpid(), signal.SIGKILL)
    return rate
loop.Trainer._change_weights = dies
Run(recipes.load(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), torch.device("cpu")).go()
"""


@pytest.fixture(scope="module")
def by_one_thread(corpus: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return Run(recipes.load(recipe), corpus, tmp_path_factory.mktemp("one-thread"), CPU).go()


@pytest.mark.parametrize("stage", ["clip", "decoder"])
def test_a_run_that_was_killed_ends_with_the_same_bits(
    stage: str, by_one_thread: Path, corpus: Path, recipe: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    arguments = [str(recipe), str(corpus), str(killed), "2", stage]
    assert subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False).returncode == -9
    assert not checkpoint_paths(killed / stage)
    training = Run(recipes.load(recipe), corpus, killed, CPU)
    training.go()
    for name in training.trained:
        path = f"{name}/final/raw.safetensors"
        assert (killed / path).read_bytes() == (by_one_thread / path).read_bytes(), name
    assert not list(killed.rglob(".*"))
