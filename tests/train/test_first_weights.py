"""The promise that a run is a function of its recipe and its seeds, from the first weights on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.tiny_recipe import every_stage
from unclip.train.loop import Task
from unclip.train.run import Run
from unclip.train.stages import TASKS

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage there is, in order. Do not change it."""
    torch.set_num_threads(1)  # made before the fixture that sees to it
    torch.manual_seed(1)
    return Run(every_stage(), corpus, tmp_path_factory.mktemp("whole"), DEVICE).go()


def bits(run: Path) -> dict[str, bytes]:
    """The files of a run, but for logs and checkpoints, with their bytes."""
    kinds = ("*.safetensors", "*.npy", "tokenizer.json")
    return {str(path.relative_to(run)): path.read_bytes() for kind in kinds for path in run.rglob(kind)}


def weights(task: Task) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in task.model.state_dict().items()}


def test_the_same_recipe_ends_with_the_same_bits_in_every_stage(
    whole: Path, corpus: Path, tmp_path: Path
) -> None:
    """Whatever torch's own random state is, and in whatever order the stages were asked for."""
    run = Run(every_stage(), corpus, tmp_path, DEVICE)
    for number, stage in enumerate(reversed(TASKS)):
        torch.manual_seed(100 + number)
        run.go(stage)
    first, again = bits(whole), bits(tmp_path)
    assert {f"{stage}/final/raw.safetensors" for stage in TASKS} < first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


@pytest.mark.parametrize("stage", TASKS)
def test_first_weights_are_of_the_seed_and_the_stage_alone(stage: str, whole: Path, corpus: Path) -> None:
    """And torch's own random state stays as it is."""
    torch.manual_seed(2)
    before = torch.get_rng_state()
    first = weights(Run(every_stage(), corpus, whole, DEVICE).task(stage))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again = weights(Run(every_stage(), corpus, whole, DEVICE).task(stage))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = weights(Run(every_stage(f"{stage}.train.seed=1"), corpus, whole, DEVICE).task(stage))
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_training_leaves_torchs_random_state_as_it_was(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Run(every_stage(), corpus, tmp_path, DEVICE).go("clip")
    assert torch.equal(torch.get_rng_state(), before)


def test_what_finished_weights_lack_is_of_the_seed_too(run: Path, corpus: Path) -> None:
    """A decoder of a bundle gets channels to fill in, and a layer that is told of augmentation."""
    new = ("decoder.model.inpainting=true", "decoder.task.augment=0.5")
    recipe, found = every_stage(f"decoder.start={run / 'bundle'}", *new), []
    for seed in (4, 5):
        torch.manual_seed(seed)
        found.append(weights(Run(recipe, corpus, run, DEVICE).task("decoder")))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
