"""`unclip plan` against what it forecasts: steps of every kind of stage, really taken on a CPU.

    python benchmarks/plan.py --data CORPUS [RECIPE] [--threads 1] [--out benchmarks/results/plan.json]

Each stage of the recipe (benchmarks/plan.toml) takes its own step: its task's batch and loss, forward and
backward. Counted beside the forecast are its operations (torch's FlopCounterMode), the bytes of the
activations that it keeps (saved-tensor hooks), the most that is alive at once, and the numbers that its
optimiser keeps. Seconds are processor time, the median of some steps; those of some networks at another width
are forecast by the speed that was reached at the first. Captions are filled up to the context, as the
forecast takes them. Attention goes the way of a CPU in both.

Beside them stand figures of the papers: parameters, PowerSGD's share, operations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from unclip import recipes
from unclip.errors import InputError
from unclip.runtime import atomic_path, autocast, processor_name
from unclip.tokenizer import Tokens
from unclip.train import workload
from unclip.train.config import LoopConfig
from unclip.train.live_bytes import LiveBytes
from unclip.train.loop import Task
from unclip.train.optim import Optimisers
from unclip.train.places import Places
from unclip.train.plan import GIB, GPUS, Cluster, Outline, plan
from unclip.train.run import Run
from unclip.train.workload import Workload

RECIPE = Path(__file__).parent / "plan.toml"
RESULT = Path(__file__).parent / "results" / "plan.json"
STEPS = 3  # whose median is taken
CPU = torch.device("cpu")
PRECISION = torch.bfloat16
NEEDED = ("clip", "vqvae", "layout")  # what others learn from
WIDER = {"dalle1": ("dalle1.model.width=384", "dalle1.model.heads=6"), "adm": ("adm.model.widths=[96, 192]",)}
# Figures of the papers: the stage, what is meant, the figure, and where it stands
PARAMETERS = (
    ("dalle1-12b", "dalle1", 12e9, "2102.12092, section 2.2"),
    ("unclip-dalle2", "prior", 1e9, "2204.06125, table 3"),
    ("unclip-dalle2", "ar-prior", 1e9, "2204.06125, table 3"),
    ("unclip-dalle2", "decoder", 3.5e9, "2204.06125, table 3"),
    ("unclip-dalle2", "upsampler-256", 700e6, "2204.06125, table 3"),
    ("unclip-dalle2", "upsampler-1024", 300e6, "2204.06125, table 3"),
    ("glide", "glide", 3.5e9, "2112.10741, section 4"),
    ("adm-512", "adm", 559e6, "2105.05233, table 11"),
)
COMPRESSED = (  # width, heads, rank of all eight GPUs, share that is left out: table 1 of 2102.12092
    (1920, 30, 512, 0.83),
    (2688, 42, 640, 0.85),
    (3968, 62, 896, 0.86),
)
ADM_DAYS = 1878  # V100-days of the 512-pixel model, its classifier's 36 left out: table 10 of 2105.05233


def filled(value: Any, context: int) -> Any:
    """A batch whose captions are as long as the context."""
    if isinstance(value, Tokens):
        count = len(value.ids)
        ids = torch.zeros(count, context, dtype=torch.int64)
        ids[:, : value.ids.shape[1]] = value.ids
        return Tokens(ids, torch.ones(count, context, dtype=torch.bool), value.truncated)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(filled(item, context) for item in value))
    if isinstance(value, tuple):
        return tuple(filled(item, context) for item in value)
    return value


class Step:
    """A step of a task, forward and backward."""

    def __init__(self, task: Task, config: LoopConfig) -> None:
        self.task, self.size = task, config.batch
        batch = task.batch(Places.whole(config.batch))
        pictures = getattr(task, "pictures", None)
        context = getattr(pictures, "context", None)
        self.batch = batch if context is None else filled(batch, context)
        self.model = task.model.train()

    def forward(self) -> torch.Tensor:
        with autocast(CPU, PRECISION):
            loss, _ = self.task.loss(self.model, self.batch, Places.whole(self.size, step=1))
        return loss

    def take(self) -> None:
        self.model.zero_grad(set_to_none=True)
        self.forward().backward()


def measured(step: Step, config: LoopConfig) -> dict[str, float]:
    """Operations, bytes and seconds of a step that is really taken."""
    step.take()  # caches fill
    with FlopCounterMode(display=False) as operations:
        step.take()
    weights = {parameter.untyped_storage().data_ptr() for parameter in step.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    step.model.zero_grad(set_to_none=True)
    with saved_tensors_hooks(note, lambda tensor: tensor):
        loss = step.forward()
    saved = sum(kept.values())
    loss.backward()
    step.model.zero_grad(set_to_none=True)
    hooks = [
        parameter.register_post_accumulate_grad_hook(_forget)
        for parameter in step.model.parameters()
        if parameter.requires_grad
    ]
    with LiveBytes() as live:
        step.forward().backward()
    for hook in hooks:
        hook.remove()
    seconds = []
    for _ in range(STEPS):
        started = time.process_time()
        step.take()
        seconds.append(time.process_time() - started)
    optimisers = Optimisers(step.model, config)
    optimisers.step()
    moments = [
        value.numel()
        for part in optimisers.parts
        for state in part.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim
    ]
    return {
        "operations": operations.get_total_flops(),
        "kept_bytes": saved,
        "alive_bytes": live.peak,
        "moments": sum(moments),
        "parameters": sum(p.numel() for p in step.model.parameters() if p.requires_grad),
        "seconds": statistics.median(seconds),
    }


def _forget(parameter: torch.Tensor) -> None:
    parameter.grad = None


def forecast(work: Workload) -> dict[str, float]:
    return {
        "operations": work.forward + work.backward,
        "kept_bytes": work.held.kept + work.held.cast,
        "alive_bytes": work.held.kept + work.held.cast + work.held.working,
        "moments": work.moments,
        "parameters": work.parameters,
    }


def quick(name: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe that draws no previews."""
    tables = [key for key, _ in recipes.train_tables(recipes.load(name))]
    quiet = [f"{table}.{one}" for table in tables for one in ("preview_steps=0", "tensorboard=false")]
    return recipes.load(name, [*quiet, *settings])


def compared(run: Run, stage: str) -> dict[str, Any]:
    """A stage of a run, measured and forecast."""
    config = run.part(stage, "train", LoopConfig)
    for need in [*run.needs(stage), stage] if stage in NEEDED else run.needs(stage):
        run.go(need)
    real = measured(Step(run.task(stage), config), config)
    planned = forecast(workload.count(run, stage, config, config.batch, PRECISION, on_gpu=False))
    ratios = {key: planned[key] / real[key] for key in planned if real[key]}
    print(stage, {key: round(value, 3) for key, value in ratios.items()}, flush=True)
    return {"measured": real, "forecast": planned, "ratios": ratios}


def at_another_width(wider: Run, stage: str, first: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a wider network, forecast by the speed of the first one."""
    config = wider.part(stage, "train", LoopConfig)
    work = workload.count(wider, stage, config, config.batch, PRECISION, on_gpu=False)
    speed = first["measured"]["operations"] / first["measured"]["seconds"]
    seconds = forecast(work)["operations"] / speed
    real = measured(Step(wider.task(stage), config), config)["seconds"]
    print(f"{stage}, wider: {seconds:.3f} s forecast, {real:.3f} s measured", flush=True)
    return {"settings": WIDER[stage], "measured": real, "forecast": seconds, "ratio": seconds / real}


def papers() -> Iterator[tuple[str, Any]]:
    """Forecasts beside the papers' own figures, by name."""
    cluster = Cluster(1024, gpu=GPUS["v100"])
    for name, stage, figure, source in PARAMETERS:
        (one,) = plan(Outline(recipes.load(name)), cluster, stage)
        row: dict[str, Any] = {"paper": figure, "source": source, "forecast": one.parameters}
        row["operations"] = one.total_operations
        (way,) = [way for way in one.ways if way.chosen]
        row |= {"gpus": one.gpus, "way": way.name, "gib_a_gpu": way.memory.total / GIB}
        row |= {"seconds_a_step": way.seconds, "days": way.days}
        fitting = [other for other in one.ways if other.fits]
        row["shortest_that_fits"] = min(fitting, key=lambda other: other.days).name if fitting else None
        if name == "adm-512":
            speed = cluster.gpu.tflops * 1e12 * cluster.utilisation
            row["v100_days"] = {"paper": ADM_DAYS, "forecast": one.total_operations / speed / 86_400}
        print(f"{name} {stage}: {one.parameters:,} parameters, {one.total_operations:.3g}", flush=True)
        yield f"{name} {stage}", row
    for width, heads, rank, figure in COMPRESSED:
        sizes = [f"dalle1.model.width={width}", f"dalle1.model.heads={heads}"]
        outline = Outline(recipes.load("dalle1-12b", [*sizes, f"dalle1.train.powersgd_rank={rank // 8}"]))
        (one,) = plan(outline, cluster, "dalle1")
        (way,) = [way for way in one.ways if way.chosen]
        print(f"width {width}, rank {rank}: {1 - way.sent:.3f} left out, {figure} in the paper", flush=True)
        yield f"powersgd {width}", {"rank": rank, "paper": figure, "forecast": 1 - way.sent}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=str(RECIPE))
    parser.add_argument(
        "--data", type=Path, help="any corpus of captioned pictures; without it the papers alone"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="stages, separated by commas, and no papers")
    parser.add_argument(
        "--out", type=Path, default=RESULT, help="what stands there and is not measured stays"
    )
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    report: dict[str, Any] = {"stages": {}, "another_width": {}, "papers": {}}
    if given.out.exists():
        report |= json.loads(given.out.read_text())
    report |= {"processor": processor_name(), "threads": given.threads, "torch": torch.__version__}

    def write() -> None:
        with atomic_path(given.out) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")

    if not given.only:
        for name, found in papers():
            report["papers"][name] = found
            write()
    if given.data is None:
        return
    recipe = quick(given.recipe)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, given.data, Path(folder), CPU)
        stages = given.only.split(",") if given.only else run.trained
        if unknown := set(stages) - set(run.trained):
            raise InputError(f"unknown stages {', '.join(unknown)}: the recipe has {', '.join(run.trained)}")
        for stage in stages:
            first = report["stages"][stage] = compared(run, stage)
            write()
            if stage in WIDER:
                wider = Run(quick(given.recipe, WIDER[stage]), given.data, Path(folder), CPU)
                report["another_width"][stage] = at_another_width(wider, stage, first)
                write()


if __name__ == "__main__":
    main()
