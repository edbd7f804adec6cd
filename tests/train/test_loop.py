"""Promises of the training loop: exact resume, good order in every kind of trouble, a record of it all."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from support.tiny_task import Recorded, TinyTask
from unclip import native
from unclip.errors import CheckpointError, InputError, Interrupted, TrainingError, UnclipWarning
from unclip.train import state
from unclip.train.config import LoopConfig, Optimiser, Precision, RateSchedule
from unclip.train.log import read_metrics
from unclip.train.loop import BAD_STEPS, train
from unclip.train.places import Places


def settings(steps: int = 10, **changes: Any) -> LoopConfig:
    defaults: dict[str, Any] = {
        "batch": 8,
        "warmup": 3,
        "learning_rate": 1e-2,
        "log_steps": 2,
        "preview_steps": 0,
        "tensorboard": False,
        "precision": Precision.FLOAT32,
        "ema": (0.9, 40.0),
    }
    return LoopConfig(steps=steps, **{**defaults, **changes})


class StopsAt(TinyTask):
    """Asks for the end of the run in the middle of a step, as a signal would."""

    def __init__(self, step: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stop, self.left = threading.Event(), step

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        self.left -= 1
        if self.left == 0:
            self.stop.set()
        return super().loss(model, batch, places)


def stopped(out: Path, config: LoopConfig, step: int) -> None:
    task = StopsAt(step)
    with pytest.raises(
        Interrupted, match=rf"stopped at step {step} of {config.steps}; start the same command"
    ):
        train(task, config, out, stop=task.stop)


def everything(out: Path) -> dict[str, Any]:
    found = state.load_checkpoint(out)
    assert found is not None
    return {key: value for key, value in found.items() if key != "seconds"}


def assert_same_bits(one: Any, other: Any, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(left, right, f"{where}[{index}]")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


class Fails(TinyTask):
    """Fails in the loss of one step."""

    def __init__(self, step: int, error: Exception) -> None:
        super().__init__()
        self.left, self.error = step, error

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return super().loss(model, batch, places)


def test_settings_that_no_network_can_be_trained_with_are_said_as_such(tmp_path: Path) -> None:
    """In the first step. Later ones have shown that they can, and another error is a mistake of ours."""
    error = RuntimeError("sizes of tensors must match")
    with pytest.raises(TrainingError, match=r"step 1 of tiny fails.*\(sizes of tensors .*\): settings"):
        train(Fails(1, error), settings(), tmp_path / "first")
    with pytest.raises(RuntimeError) as caught:
        train(Fails(2, error), settings(), tmp_path / "second")
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate"), torch.OutOfMemoryError("CUDA")],
)
def test_full_memory_is_said_with_what_helps(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"out of memory in step 2 of tiny: take a smaller batch"):
        train(Fails(2, error), settings(), tmp_path)


# --- exact resume


@pytest.mark.parametrize("optimiser", Optimiser)
@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_stopped_and_resumed_is_the_same_to_the_bit(
    tmp_path: Path, optimiser: Optimiser, precision: Precision, channels_last: bool
) -> None:
    config = settings(optimiser=optimiser, precision=precision, channels_last=channels_last)
    train(TinyTask(), config, tmp_path / "whole")
    stopped(tmp_path / "parts", config, 4)
    train(TinyTask(init=1), config, tmp_path / "parts")  # other first weights: they must not matter
    assert_same_bits(everything(tmp_path / "whole"), everything(tmp_path / "parts"))
    for name in ("raw", "ema-0", "ema-1"):
        files = [tmp_path / run / "final" / f"{name}.safetensors" for run in ("whole", "parts")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_run_with_sam_is_resumed_to_the_bit(tmp_path: Path) -> None:
    config = settings(sam_rho=0.1, precision=Precision.BFLOAT16)
    train(TinyTask(), config, tmp_path / "whole")
    task = StopsAt(7)  # losses: two a step
    with pytest.raises(Interrupted, match="stopped at step 4 of 10"):
        train(task, config, tmp_path / "parts", stop=task.stop)
    train(TinyTask(init=1), config, tmp_path / "parts")
    assert_same_bits(everything(tmp_path / "whole"), everything(tmp_path / "parts"))
    train(TinyTask(), settings(precision=Precision.BFLOAT16), tmp_path / "plain")
    weights = [everything(tmp_path / run)["model"]["hidden.weight"] for run in ("whole", "plain")]
    assert not torch.equal(*weights)


def test_looking_does_not_change_the_run(tmp_path: Path) -> None:
    class Noisy(TinyTask):
        def preview(self, model: nn.Module) -> Image.Image | None:
            torch.rand(3)
            return super().preview(model)

    train(TinyTask(), settings(evaluate_steps=0), tmp_path / "blind")
    train(Noisy(), settings(evaluate_steps=2, preview_steps=1), tmp_path / "seeing")
    assert_same_bits(everything(tmp_path / "blind")["model"], everything(tmp_path / "seeing")["model"])


KILLED = """
import sys, os, signal
import torch
torch.set_num_threads(1)
from pathlib import Path
from support.tiny_task import TinyTask
from unclip.train.loop import train
from unclip.train.config import *

class Dies(TinyTask):
    left = 8
    def loss(self, model, batch, places):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch, places)

config = LoopConfig(
    steps=10, batch=8, warmup=3, learning_rate=1e-2, log_steps=2, preview_steps=0, tensorboard=False,
    precision=Precision.FLOAT32, ema=(0.9, 40.0), checkpoint_minutes=1e-9,
)
train(Dies(), config, Path(sys.argv[1]))
"""


def test_killed_in_the_middle_then_resumed_is_the_same_to_the_bit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    code = subprocess.run(command, env=environment, check=False).returncode
    assert code == -signal.SIGKILL
    assert state.newest_step(tmp_path / "killed") == 7
    config = settings(checkpoint_minutes=1e-9)
    train(TinyTask(), config, tmp_path / "killed")
    train(TinyTask(), config, tmp_path / "whole")
    assert_same_bits(everything(tmp_path / "whole"), everything(tmp_path / "killed"))
    steps = [line["step"] for line in read_metrics(tmp_path / "killed")]
    assert steps == [2, 4, 6, 8, 10]


def test_a_finished_run_is_not_trained_again_and_can_be_made_longer(tmp_path: Path) -> None:
    constant = {"schedule": RateSchedule.CONSTANT, "ema_ramp": 0.0}
    train(TinyTask(), settings(5, **constant), tmp_path / "a")
    before = (tmp_path / "a/final/raw.safetensors").read_bytes()
    train(TinyTask(), settings(5, **constant), tmp_path / "a")
    assert (tmp_path / "a/final/raw.safetensors").read_bytes() == before
    train(TinyTask(), settings(10, **constant), tmp_path / "a")
    train(TinyTask(), settings(10, **constant), tmp_path / "b")
    assert_same_bits(everything(tmp_path / "a")["model"], everything(tmp_path / "b")["model"])


def test_changes_on_resume_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped(tmp_path, settings(), 4)
    capsys.readouterr()
    train(TinyTask(), settings(batch=16, learning_rate=1e-3, weight_decay=0.5), tmp_path)
    said = capsys.readouterr().err
    assert "goes on from step 4" in said
    assert "changed since: batch: was 8, is 16" in said
    assert "changed since: learning_rate: was 0.01, is 0.001" in said
    groups = everything(tmp_path)["optimisers"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


@pytest.mark.parametrize(
    ("task", "changes", "named"),
    [
        (TinyTask(width=16), {}, "config.model.width: was 8, is 16"),
        (TinyTask(), {"optimiser": Optimiser.MUON}, "optimiser: was 'adamw', is 'muon'"),
        (TinyTask(), {"ema": (0.5,)}, r"ema: was \[0.9, 40.0\], is \[0.5\]"),
    ],
)
def test_a_run_of_other_settings_is_not_resumed(
    tmp_path: Path, task: TinyTask, changes: dict[str, Any], named: str
) -> None:
    stopped(tmp_path, settings(), 4)
    with pytest.raises(TrainingError, match=named):
        train(task, settings(**changes), tmp_path)


def test_a_run_of_another_format_does_not_go_on(tmp_path: Path) -> None:
    """Until format 2 a batch was a process's own: the rest of the run would not be what it had been."""
    stopped(tmp_path, settings(), 4)
    found = everything(tmp_path)
    state.save_checkpoint(tmp_path, 5, {**found, "format": 1, "step": 5}, keep=9)
    with pytest.raises(TrainingError, match="cannot go on: its checkpoints have format 1, this") as said:
        train(TinyTask(), settings(), tmp_path)
    assert "\n" not in str(said.value)
    assert state.newest_step(tmp_path) == 5


def test_a_new_run_does_not_write_over_an_old_one(tmp_path: Path) -> None:
    stopped(tmp_path, settings(), 4)
    with pytest.raises(InputError, match="holds a run already"):
        train(TinyTask(), settings(), tmp_path, resume=False)


# --- trouble


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    config = settings(checkpoint_minutes=1e-9)
    stopped(tmp_path / "parts", config, 6)
    newest = state.checkpoint_paths(tmp_path / "parts")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-100], "flipped": content, "empty": b""}[damage])
    with pytest.warns(UnclipWarning, match=f"{newest.name} is damaged; going back to the one before"):
        train(TinyTask(), config, tmp_path / "parts")
    train(TinyTask(), config, tmp_path / "whole")
    assert_same_bits(everything(tmp_path / "whole"), everything(tmp_path / "parts"))


def test_no_checkpoint_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    stopped(tmp_path, settings(), 4)
    for path in state.checkpoint_paths(tmp_path):
        path.write_bytes(b"")
    with pytest.warns(UnclipWarning), pytest.raises(TrainingError, match="none of the 1 checkpoints"):
        train(TinyTask(), settings(), tmp_path)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(TinyTask(), settings(checkpoint_minutes=1e-9, keep=2), tmp_path)
    assert [path.name[:14] for path in state.checkpoint_paths(tmp_path)] == [
        "step-000000010",
        "step-000000009",
    ]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


class Poisoned(TinyTask):
    """The batches of some steps hold a number that is not finite."""

    def __init__(self, steps: range | tuple[int, ...]) -> None:
        super().__init__()
        self.steps, self.drawn = steps, 0

    def batch(self, places: Places) -> Any:
        batch = super().batch(places)
        if self.drawn in self.steps:
            batch.images.fill_(math.nan)
        self.drawn += 1
        return batch


def test_a_step_that_is_not_finite_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(Poisoned((3,)), settings(), tmp_path)
    found = everything(tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in found["model"].values())
    assert found["skipped"] == 1
    assert found["optimisers"][0]["state"][0]["step"] == 9
    assert "step 4 is left out: loss nan" in capsys.readouterr().err
    lines = read_metrics(tmp_path)
    assert lines[1]["skipped"] == 1
    assert math.isfinite(lines[1]["loss"])


def test_many_steps_in_a_row_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"20 steps in a row up to step 25.*lower learning_rate"):
        train(Poisoned(range(5, 99)), settings(99), tmp_path)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN is not JSON


def test_single_bad_steps_do_not_add_up(tmp_path: Path) -> None:
    train(Poisoned(range(0, 60, 2)), settings(60), tmp_path)
    assert everything(tmp_path)["skipped"] == 30 > BAD_STEPS


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    config = settings(checkpoint_minutes=1e-9)
    stopped(tmp_path, config, 4)
    kept = [path.name for path in state.checkpoint_paths(tmp_path)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, before[1])
    )  # a file that grows past it fails, as on a full disk
    try:
        with pytest.raises(
            TrainingError, match=r"cannot write the checkpoint of step 5 .* is intact. Make room"
        ):
            train(TinyTask(), config, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == set(
        kept
    )  # and nothing half-written
    train(TinyTask(), config, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    class Signals(TinyTask):
        calls = 0

        def loss(self, *arguments: Any) -> tuple[Tensor, dict[str, Any]]:
            self.calls += 1
            if self.calls == 3:
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            return super().loss(*arguments)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at step 3 of 10") as raised:
        train(Signals(), settings(), tmp_path)
    assert raised.value.exit_code == 130
    assert signal.getsignal(number) is handler
    assert state.newest_step(tmp_path) == 3


def test_a_stop_in_the_last_step_ends_a_sequence_of_stages_too(tmp_path: Path) -> None:
    task = StopsAt(10)
    with pytest.raises(Interrupted, match="done, and stopped before what comes next"):
        train(task, settings(), tmp_path, stop=task.stop)
    assert (tmp_path / "final/raw.safetensors").exists()


def test_an_error_in_the_batches_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(TinyTask):
        def batch(self, places: Places) -> Any:
            raise ZeroDivisionError("in the second thread")

    with pytest.raises(TrainingError, match="in the second thread") as caught:
        train(Broken(), settings(), tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "batches" not in "".join(thread.name for thread in threading.enumerate())


def test_a_model_whose_weights_could_not_be_read_back_is_refused_at_once(tmp_path: Path) -> None:
    task = TinyTask()
    task.model = nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match="no kind of model is a Linear"):
        train(task, settings(), tmp_path)


# --- the sums


class Plain(TinyTask):
    """All random numbers are drawn with the batch, so that a batch in parts is the batch."""

    def batch(self, places: Places) -> Any:
        return places.randint(0, 4)

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Any]]:
        images = (batch[:, None, None, None] / 2 - 1).expand(-1, 3, 4, 4)
        return (model(images, batch) - images).square().mean(), {"first": float(batch[0])}


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_equal_the_batch(tmp_path: Path, parts: int) -> None:
    train(Plain(dropout=0), settings(schedule=RateSchedule.CONSTANT), tmp_path / "whole")
    train(Plain(dropout=0), settings(schedule=RateSchedule.CONSTANT, accumulate=parts), tmp_path / "parts")
    for one, other in zip(read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "parts"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], abs=1e-5)
        assert one["pictures"] == other["pictures"]


def test_accumulated_gradients_equal_the_batch_to_1e_6(tmp_path: Path) -> None:
    # One step of plain proportions: Adam's first step would turn a last bit into a whole learning rate.
    results = []
    for parts in (1, 4):
        config = settings(1, accumulate=parts, warmup=0, eps=1.0, clip=0.0, ema=(), weight_decay=0.0)
        train(Plain(dropout=0), config, tmp_path / str(parts))
        results.append(everything(tmp_path / str(parts))["model"])
    for name, tensor in results[0].items():
        if name != "seen":
            torch.testing.assert_close(tensor, results[1][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_draw_what_the_batch_draws_to_the_bit(tmp_path: Path, parts: int) -> None:
    whole, cut = Recorded(), Recorded()
    train(whole, settings(3), tmp_path / "whole")
    train(cut, settings(3, accumulate=parts), tmp_path / "cut")
    assert whole.drawn.keys() == cut.drawn.keys()
    assert all(map(torch.equal, chain(*whole.drawn.values()), chain(*cut.drawn.values())))


def test_a_loss_that_needs_the_whole_batch_is_not_cut(tmp_path: Path) -> None:
    task = TinyTask()
    task.accumulates = False
    with pytest.raises(InputError, match="accumulate: got 2, but the loss of tiny needs the whole batch"):
        train(task, settings(accumulate=2), tmp_path)
    train(task, settings(), tmp_path)


def test_it_learns(tmp_path: Path) -> None:
    train(TinyTask(), settings(100, log_steps=10), tmp_path)
    losses = [line["loss"] for line in read_metrics(tmp_path)]
    assert losses[-1] < 0.1 * losses[0]


# --- the record


def test_metrics_hold_what_is_promised(tmp_path: Path) -> None:
    train(TinyTask(), settings(evaluate_steps=5), tmp_path)
    lines = read_metrics(tmp_path)
    trained = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in trained] == [2, 4, 6, 8, 10]
    assert trained[-1]["pictures"] == 80
    assert set(trained[0]) == {
        *("kind", "step", "pictures", "loss", "gradient_norm", "parts", "learning_rate"),
        *("pictures_per_second", "seconds", "memory_bytes", "skipped"),
    }
    assert trained[0]["parts"]["mse"] == pytest.approx(trained[0]["loss"])
    assert [line for line in lines if line["kind"] == "evaluate"] == [
        {"kind": "evaluate", "step": 5, "seen": 5.0},
        {"kind": "evaluate", "step": 10, "seen": 10.0},
    ]


def test_previews_are_pictures(tmp_path: Path) -> None:
    train(TinyTask(), settings(preview_steps=4), tmp_path)
    names = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert names == ["step-000004.png", "step-000008.png", "step-000010.png"]
    Image.open(tmp_path / "previews" / names[0]).verify()


def test_tensorboard_has_the_losses(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import event_accumulator

    train(TinyTask(), settings(tensorboard=True), tmp_path)
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4, 6, 8, 10]
    assert "train/parts/mse" in events.Tags()["scalars"]


def test_without_tensorboard_it_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(TinyTask(), settings(tensorboard=True), tmp_path)
    assert capsys.readouterr().err.count("TensorBoard is not installed") == 1


def test_final_weights_are_read_back_with_their_story(tmp_path: Path) -> None:
    task = TinyTask()
    final = train(task, settings(), tmp_path)
    raw = native.load_model(final / "raw.safetensors", kind="tiny")
    assert_same_bits(dict(raw.state_dict()), {k: v.detach() for k, v in task.model.state_dict().items()})
    with safe_open(final / "ema-1.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()[native.METADATA_KEY])
    assert about["config"] == {"width": 8, "dropout": 0.1}
    assert about["details"]["ema"] == 40.0
    assert (about["details"]["step"], about["details"]["pictures"]) == (10, 80)
    average = native.load_model(final / "ema-1.safetensors")
    assert not torch.equal(average.get_parameter("first.weight"), raw.get_parameter("first.weight"))
