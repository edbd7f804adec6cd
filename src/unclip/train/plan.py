"""`unclip plan`: what a recipe costs on so many GPUs, stage by stage and for each way of sharing the work.

The work of a step is counted (`train.workload`); everything else follows from it by arithmetic:

- memory of a GPU: numbers that a process holds times their bytes, as `unclip train` keeps them;
- bytes between machines: those of rings, 2 (n - 1) / n of what is averaged, (n - 1) / n of what is gathered;
- time of a step: operations over the speed that a GPU reaches, and the exchange that they do not hide;
- days: steps, times what failures and checkpoints add (`train.failures`).

It leaves out delays of the network, the reading of pictures, and the evaluations. `benchmarks/plan.py` holds
it against measured runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from unclip.config import choices, to_dict
from unclip.data.records import Split
from unclip.data.streamed import opened
from unclip.errors import DataError, InputError
from unclip.train import workload
from unclip.train.config import GradientHook, LoopConfig, Parallel, Precision
from unclip.train.failures import GPU_HOURS_BETWEEN_FAILURES, interval_of, stretched
from unclip.train.powersgd import factors, numbers_sent
from unclip.train.results import Results
from unclip.train.workload import Workload

GIB = 2**30
DAY = 86_400.0
BITS = 8
UTILISATION = 0.3  # of the peak: table 7 of 2105.05233, for its largest models
RESTART_SECONDS = 300.0  # from a failure until steps are taken again: the machine is replaced, files are read
CONTEXT_BYTES = 3 * 2**28  # that CUDA, cuDNN and NCCL take of a GPU
BUFFERS = 2  # of a unit's weights and of its gradients: one is used while the next is gathered
CONTRASTIVE = ("clip", "noised-clip")
STYLES = 32  # of the pictures of a corpus that is not there


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, as its maker describes it.

    Attributes:
        memory: bytes.
        tflops: peak of matrix products in 16 bits that add up in 32, without sparsity.
        inside: gigabytes a second that it sends to the others of its machine.
    """

    memory: float
    tflops: float
    inside: float


# The makers' data sheets; the last two speak over PCI Express.
GPUS: dict[str, Gpu] = {
    "v100": Gpu(16 * GIB, 125, 150),
    "rtx-4090": Gpu(24 * GIB, 165, 32),
    "v100-32": Gpu(32 * GIB, 125, 150),
    "a100": Gpu(40 * GIB, 312, 300),
    "l40s": Gpu(48 * GIB, 362, 32),
    "a100-80": Gpu(80 * GIB, 312, 300),
    "h100": Gpu(80 * GIB, 989, 450),
    "h200": Gpu(141e9, 989, 450),
}
USUAL = "a100-80"


class Numbers(StrEnum):
    """The number formats that a run is kept in."""

    FLOAT32 = "float32"  # as `unclip train`: products alone are in 16 bits
    PAPER = "paper"  # 16 bits for everything, gradients added up in PowerSGD's errors: 2102.12092, 2.4 and E

    @classmethod
    def named(cls, name: str) -> Numbers:
        """Raises InputError for an unknown one."""
        if name not in [*cls]:
            raise InputError(f"unknown numbers {name!r}: {choices(name, [*cls])}")
        return cls(name)


def kind_of_gpu(
    name: str | None = None,
    memory: float | None = None,
    tflops: float | None = None,
    inside: float | None = None,
) -> Gpu:
    """A GPU by its kind, with what is said of it in other words.

    Args:
        name: in `GPUS`; None is the largest that has no more memory than is said, or else the usual one.
        memory: in GiB.
        tflops, inside: as of `Gpu`.

    Raises:
        InputError: there is no such kind.
    """
    if name is not None and name not in GPUS:
        raise InputError(f"unknown GPU {name!r}: {choices(name, GPUS)}")
    if name is None:
        name = USUAL if memory is None else _largest_of(memory * GIB)
    found = GPUS[name]
    return Gpu(
        found.memory if memory is None else memory * GIB,
        found.tflops if tflops is None else tflops,
        found.inside if inside is None else inside,
    )


def _largest_of(memory: float) -> str:
    """The kind of the most memory up to so many bytes, of two the older; the smallest where none is."""
    fitting = [kind for kind, one in GPUS.items() if one.memory <= memory] or [next(iter(GPUS))]
    return max(fitting, key=lambda kind: GPUS[kind].memory)


@dataclass(frozen=True)
class Cluster:
    """The machines that a plan is for.

    Attributes:
        gpus: of all machines together.
        per_machine: GPUs of one.
        gpu: their kind.
        link: gigabits a second that a machine sends to the others, and as many back.
        utilisation: share of its peak that a GPU reaches.
        failure_hours: mean hours from one failure of a GPU, or what stands around it, to the next.
        write: gigabytes a second at which a checkpoint is written, all processes together.
        numbers: see `Numbers`.
    """

    gpus: int
    per_machine: int = 8
    gpu: Gpu = field(default_factory=lambda: GPUS[USUAL])
    link: float = 100.0
    utilisation: float = UTILISATION
    failure_hours: float = GPU_HOURS_BETWEEN_FAILURES
    write: float = 2.0
    numbers: Numbers = Numbers.FLOAT32

    def __post_init__(self) -> None:
        for name in ("gpus", "per_machine"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, allowed is at least 1")
        for name in ("link", "failure_hours", "write"):
            _require_above_0(name, getattr(self, name))
        for name in ("memory", "tflops", "inside"):
            _require_above_0(name, getattr(self.gpu, name))
        if not 0 < self.utilisation <= 1:
            raise InputError(f"utilisation: got {self.utilisation}, allowed is above 0 and at most 1")
        if self.gpus > self.per_machine and self.gpus % self.per_machine:
            raise InputError(
                f"gpus: got {self.gpus}, allowed is a multiple of the {self.per_machine} of a machine: "
                "every machine has as many"
            )

    @property
    def machines(self) -> int:
        return max(1, self.gpus // self.per_machine)

    @property
    def here(self) -> int:
        """GPUs of a machine that are used."""
        return min(self.gpus, self.per_machine)


def _require_above_0(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name}: got {value}, allowed is a number above 0")


@dataclass(frozen=True)
class Memory:
    """The bytes of one GPU, by what they are for.

    Attributes:
        weights, gradients, moments, averages: what a process holds of them.
        frozen: networks of earlier stages, buffers.
        kept: activations for the backward pass.
        cast: weights in the number format of matrix products.
        working: activations and gradients on their way, at the worst moment.
        buffers: what is gathered, reduced or left by compression.
        context: of the libraries.
    """

    weights: float
    gradients: float
    moments: float
    averages: float
    frozen: float
    kept: float
    cast: float
    working: float
    buffers: float
    context: float = CONTEXT_BYTES

    @property
    def total(self) -> float:
        return sum(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True)
class Way:
    """A way of sharing the work, with what it costs.

    Attributes:
        name: ddp, fsdp, hybrid, hybrid+powersgd.
        chosen: it is what the recipe says.
        memory: of a GPU.
        fits: it does.
        parts: the least `accumulate` with which it fits; None where none is enough.
        host: bytes of a machine's own memory while the run is set up.
        between: bytes that a machine sends to others in a step, once PowerSGD compresses.
        sent: those, as a share of the bytes without PowerSGD.
        inside: bytes that a GPU sends within its machine in a step.
        compute, exchange: seconds of a step; the second is what the first does not hide.
        write, interval: seconds that a checkpoint takes, and between two of them.
        stretch: factor of failures and checkpoints on the time.
        days: of all steps.
    """

    name: str
    chosen: bool
    memory: Memory
    fits: bool
    parts: int | None
    host: float
    between: float
    sent: float
    inside: float
    compute: float
    exchange: float
    write: float
    interval: float
    stretch: float
    days: float

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.compute + self.exchange


@dataclass(frozen=True)
class StagePlan:
    """A stage and its ways.

    Attributes:
        stage: its name.
        parameters: that are trained.
        steps, batch, accumulate: as the recipe says.
        gpus: that are used; fewer than there are where the batch gives no more.
        per_gpu: pictures that a GPU takes at once.
        operations: floating-point operations of a picture, forward and backward.
        again: of them, what checkpointing computes a second time.
        views: times that a picture of the data is seen; None where their number is not known.
        ways: in the order of `names`.
    """

    stage: str
    parameters: int
    steps: int
    batch: int
    accumulate: int
    gpus: int
    per_gpu: int
    operations: float
    again: float
    views: float | None
    ways: tuple[Way, ...]

    @property
    def total_operations(self) -> float:
        """Of all steps."""
        return self.operations * self.batch * self.steps


class Outline(Results):
    """A recipe without a run: its settings, as far as they are known before anything is there.

    Args:
        recipe: as `recipes.load` gives it.
        data: folder of the corpus, or its address; without one pictures are taken to be of so many `classes`.
    """

    def __init__(self, recipe: dict[str, Any], data: Path | str | None = None, classes: int = 1000) -> None:
        if classes < 2:
            raise InputError(f"classes: got {classes}, allowed is 2 or more")
        self.recipe, self.out, self.command = recipe, Path(), ""
        self.device, self.stop = torch.device("cpu"), None
        self.train: Any = _NoCorpus(classes) if data is None else opened(data, Split.TRAIN)
        self._bundles = {}


class _NoCorpus:
    """The place of a corpus that is not there: what settings ask of one."""

    where = "no corpus (give --data)"

    def __init__(self, classes: int) -> None:
        names = [f"class {number}" for number in range(classes) for _ in range(STYLES)]
        styles = [f"style {number}" for _ in range(classes) for number in range(STYLES)]
        self.records = pa.table({"concept": names, "style": styles, "tone": [0] * len(names)})

    def file(self, name: str) -> Path:
        """A file that is there, whatever it is called: nobody reads it."""
        return Path(__file__)

    def large(self) -> Sequence[int]:
        return range(1)

    def column(self, name: str) -> list[str]:
        return list(self.records["concept"].to_pylist()) if name != "style" else self.styles

    @property
    def styles(self) -> list[str]:
        return list(self.records["style"].to_pylist())

    def names(self, position: int, language: str) -> list[str]:
        return [self.records["concept"][position].as_py()]


def plan(
    outline: Outline, cluster: Cluster, only: str | None = None, pictures: int | None = None
) -> Iterator[StagePlan]:
    """The plan of each stage that trains a network, or of one.

    Args:
        outline: of the recipe.
        cluster: that it is to run on.
        only: a stage, in place of all.
        pictures: of the data; None where that is not known.

    Raises:
        InputError: a setting of the recipe is wrong, there is no such stage, or it takes a bundle's.
    """
    if pictures is not None and pictures < 1:
        raise InputError(f"pictures: got {pictures}, allowed is at least 1")
    if only is not None and only not in outline.trained:
        raise InputError(f"unknown stage {only!r}: this recipe trains {', '.join(outline.trained) or 'none'}")
    for stage in outline.trained if only is None else [only]:
        yield _stage(outline, cluster, stage, pictures)


def _stage(outline: Outline, cluster: Cluster, stage: str, pictures: int | None) -> StagePlan:
    try:
        config = outline.part(stage, "train", LoopConfig)
        gpus = _used(config, cluster)
        cluster = replace(cluster, gpus=gpus)
        per_gpu = config.batch // (gpus * config.accumulate)
        precision = torch.float32 if config.precision is Precision.FLOAT32 else torch.bfloat16
        work = workload.count(outline, stage, config, per_gpu, precision)
    except DataError as error:
        raise InputError(f"{stage}: {error}") from error
    again = max(0, work.backward - 2 * work.forward) if work.light is not work.held else 0
    views = None if pictures is None else config.steps * config.batch / pictures
    most = 1 if stage in CONTRASTIVE else per_gpu  # every pair of the batch counts: it is never cut
    ways = tuple(_way(name, work, config, cluster, most) for name in _names(cluster))
    return StagePlan(
        stage=stage,
        parameters=work.parameters,
        steps=config.steps,
        batch=config.batch,
        accumulate=config.accumulate,
        gpus=gpus,
        per_gpu=per_gpu,
        operations=(work.forward + work.backward) / per_gpu,
        again=again / per_gpu,
        views=views,
        ways=ways,
    )


def _used(config: LoopConfig, cluster: Cluster) -> int:
    """The most of the GPUs that the batch of a stage can be shared out among, whole machines of them."""
    parts = config.batch // config.accumulate
    for gpus in range(min(cluster.gpus, parts), 0, -1):
        whole = gpus % cluster.per_machine == 0 or gpus < cluster.per_machine
        if parts % gpus == 0 and whole:
            return gpus
    return 1


def _names(cluster: Cluster) -> list[str]:
    """The ways that there are: one GPU has nothing to share, one machine nothing to send."""
    if cluster.gpus == 1:
        return ["ddp"]
    if cluster.machines == 1:
        return ["ddp", "fsdp"]
    return ["ddp", "fsdp", "hybrid", "hybrid+powersgd"]


def _chosen(config: LoopConfig, cluster: Cluster) -> str:
    """The way that a recipe says, by its name here; with DDP PowerSGD is torch's, and is not planned."""
    if cluster.gpus == 1 or config.parallel is Parallel.DDP:
        return "ddp"
    if cluster.machines == 1:
        return "fsdp"
    powersgd = config.parallel is Parallel.HYBRID and config.gradient_hook is GradientHook.POWERSGD
    return f"{config.parallel}+powersgd" if powersgd else str(config.parallel)


@dataclass(frozen=True)
class _Bytes:
    """The bytes of a number, by what it is for."""

    weight: int
    gradient: int
    moment: int
    sent: int


BYTES = {Numbers.FLOAT32: _Bytes(4, 4, 4, 4), Numbers.PAPER: _Bytes(2, 2, 2, 2)}


def _way(name: str, work: Workload, config: LoopConfig, cluster: Cluster, most: int) -> Way:
    size = BYTES[cluster.numbers]
    shares = {"ddp": 1, "fsdp": cluster.gpus}.get(name, cluster.here)
    memory = _memory(name, work, config, cluster, shares)
    inside, between, whole = _exchanged(name, work, config, cluster, shares)
    compute, exchange = _times(name, work, config, cluster, inside, between)
    numbers = work.parameters * (1 + len(config.ema)) * size.weight + work.moments * size.moment
    write = numbers / (cluster.write * 1e9)
    fails = cluster.failure_hours * 3600 / cluster.gpus
    minutes = config.checkpoint_minutes
    interval = interval_of(write, fails) if minutes is None else minutes * 60
    stretch = stretched(interval, write, RESTART_SECONDS, fails)
    copies = (2 if shares > 1 else 1) + len(
        config.ema
    )  # a sharded model is kept whole once more, on the host
    return Way(
        name=name,
        chosen=name == _chosen(config, cluster),
        memory=memory,
        fits=memory.total <= cluster.gpu.memory,
        parts=_parts(memory, work, config, cluster, most),
        host=4.0 * work.parameters * copies * cluster.here,
        between=between,
        sent=between / whole if whole else 1.0,
        inside=inside,
        compute=compute,
        exchange=exchange,
        write=write,
        interval=interval,
        stretch=stretch,
        days=config.steps * (compute + exchange) * stretch / DAY,
    )


def _memory(name: str, work: Workload, config: LoopConfig, cluster: Cluster, shares: int) -> Memory:
    size = BYTES[cluster.numbers]
    paper = cluster.numbers is Numbers.PAPER
    own = work.parameters / shares
    powersgd = name == "hybrid+powersgd"
    held = work.held if shares == 1 and not paper else work.light
    buffers = 0.0
    if shares > 1:
        *layers, root = work.units
        unit = BUFFERS * max(layers, default=0) + root
        buffers += unit * (size.weight + size.gradient)
    elif cluster.gpus > 1:
        buffers += own * size.gradient  # DDP's buckets
    if powersgd:
        buffers += _lost(work, cluster) * size.gradient
    return Memory(
        weights=own * size.weight,
        gradients=0.0 if paper and powersgd else own * size.gradient,
        moments=work.moments / shares * size.moment,
        averages=own * size.weight * len(config.ema),
        frozen=float(work.fixed * size.weight),
        kept=held.kept,
        cast=0.0 if paper else held.cast,
        working=held.working,
        buffers=buffers,
    )


def _local(shape: tuple[int, ...], shares: int) -> tuple[int, ...]:
    """The shape of a process's share: FSDP cuts the first dimension."""
    return (math.ceil(shape[0] / shares), *shape[1:]) if shape else shape


def _lost(work: Workload, cluster: Cluster) -> int:
    """Numbers of a share's matrices: what compression leaves out of them is kept for the next step."""
    shapes = [_local(shape, cluster.here) for shape in work.shapes]
    return sum(math.prod(shape) for shape in shapes if len(shape) > 1)


def _parts(memory: Memory, work: Workload, config: LoopConfig, cluster: Cluster, most: int) -> int | None:
    """The least `accumulate` with which a GPU's pictures fit, of at most `most` times as many parts."""
    of_pictures = memory.kept + memory.working
    for parts in (parts for parts in range(1, most + 1) if work.pictures % parts == 0):
        if memory.total - of_pictures * (1 - 1 / parts) <= cluster.gpu.memory:
            return parts * config.accumulate
    return None


def _exchanged(
    name: str, work: Workload, config: LoopConfig, cluster: Cluster, shares: int
) -> tuple[float, float, float]:
    """Bytes that a GPU sends inside its machine, that a machine sends to others, and those uncompressed."""
    size, parts = BYTES[cluster.numbers], config.accumulate
    machines, here, gpus = cluster.machines, cluster.here, cluster.gpus
    numbers = float(work.parameters)
    if gpus == 1:
        return 0.0, 0.0, 0.0
    root = work.units[-1]
    # gathered for the forward pass and, but for the root, once more for the backward pass
    gathers = parts * (2 * numbers - root) * size.weight
    scatters = parts * numbers * size.gradient
    outside = (machines - 1) / machines
    if name == "ddp":
        each = 2 * (gpus - 1) / gpus * numbers * size.sent
        across = each if machines > 1 else 0.0
        return (each if here > 1 else 0.0), across, across
    if name == "fsdp":
        each = (gpus - 1) / gpus * (gathers + scatters)
        across = each if machines > 1 else 0.0
        return (each if here > 1 else 0.0), across, across
    inside = (here - 1) / here * (gathers + scatters)
    whole = 2 * outside * numbers * size.sent
    if name == "hybrid":
        return inside, whole * parts, whole * parts
    local = [_local(shape, here) for shape in work.shapes]
    sent = sum(numbers_sent(shape, config.powersgd_rank) for shape in local) * here
    return inside, 2 * outside * sent * size.sent, whole


def _times(
    name: str, work: Workload, config: LoopConfig, cluster: Cluster, inside: float, between: float
) -> tuple[float, float]:
    """Seconds of a step that are computing, and those that are exchange and nothing else."""
    speed = cluster.gpu.tflops * 1e12 * cluster.utilisation
    passes = config.accumulate * (2 if config.sam_rho else 1)
    forward, backward = passes * work.forward / speed, passes * work.backward / speed
    near = inside / (cluster.gpu.inside * 1e9)
    far = between / (cluster.link * 1e9 / BITS)
    if name == "ddp":  # averages while the backward pass goes on
        return forward + backward, max(0.0, near + far - backward)
    if name == "fsdp":
        return forward + backward, max(0.0, near + far - forward - backward)
    hidden = max(0.0, near - forward - backward)
    if name == "hybrid":
        return forward + backward, hidden + max(0.0, far - backward)
    # PowerSGD comes behind the backward pass, and has products of its own: P, Q and their product
    local = [_local(shape, cluster.here) for shape in work.shapes]
    sides = [found for shape in local if (found := factors(shape, config.powersgd_rank)) is not None]
    products = sum(6 * rows * columns * config.powersgd_rank for rows, columns in sides)
    return forward + backward + products / speed, hidden + far


def document(plans: Sequence[StagePlan], cluster: Cluster) -> dict[str, Any]:
    """All of it as JSON."""
    stages = []
    for one in plans:
        found = to_dict(one) | {"total_operations": one.total_operations}
        for way, table in zip(one.ways, found["ways"], strict=True):
            table["memory"]["total"] = way.memory.total
            table["seconds"] = way.seconds
            table["stretch"] = _finite(way.stretch)
            table["days"] = _finite(way.days)
        stages.append(found)
    return {"cluster": to_dict(cluster) | {"machines": cluster.machines}, "stages": stages}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
