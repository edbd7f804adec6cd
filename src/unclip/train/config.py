"""The training of a stage: what the `[train]` table of a recipe holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from unclip.errors import InputError
from unclip.train.failures import GPU_HOURS_BETWEEN_FAILURES


class Optimiser(StrEnum):
    ADAMW = "adamw"
    MUON = "muon"  # hidden matrices and convolutions by Muon, everything else by AdamW


class RateSchedule(StrEnum):
    CONSTANT = "constant"
    COSINE = "cosine"
    WSD = "wsd"  # warm up, stay, decay


class Precision(StrEnum):
    AUTO = "auto"  # bfloat16 where the machine computes in it
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Parallel(StrEnum):
    DDP = "ddp"  # every process holds the whole model
    FSDP = "fsdp"  # every process holds a share of it
    HYBRID = "hybrid"  # the processes of a machine share it, every machine holds it


class GradientHook(StrEnum):
    NONE = "none"
    POWERSGD = "powersgd"


@dataclass(frozen=True)
class LoopConfig:
    """The settings of `unclip.train.loop.train`. A step is one update of the weights."""

    steps: int
    batch: int  # pictures that one update sees; several processes share them out
    accumulate: int = 1  # parts that a batch is cut into, to fit in memory; the update stays the same
    learning_rate: float = 2e-4
    schedule: RateSchedule = RateSchedule.WSD
    warmup: int = 500  # steps
    decay_fraction: float = 0.2  # of the steps; how long WSD decays
    optimiser: Optimiser = Optimiser.ADAMW
    adamw_only: tuple[str, ...] = ()  # patterns of parameter names that Muon must leave to AdamW
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)  # AdamW's
    eps: float = 1e-8  # AdamW's
    clip: float = 1.0  # the longest gradient allowed; 0 = any
    sam_rho: float = 0.0  # rho of SAM (train/sam.py), at twice the price a step; 0 = without
    ema: tuple[float, ...] = (0.999,)  # below 1: decay per step; from 1 on: half-life in pictures
    ema_ramp: float = 0.05  # a half-life is at most this share of the pictures seen; 0 = no such limit
    precision: Precision = Precision.AUTO
    seed: int = 0  # of first weights, batches, noise and dropout
    checkpoint_minutes: float | None = None  # None: by the time that writing one takes (train/failures.py)
    failure_hours: float = GPU_HOURS_BETWEEN_FAILURES  # of one process, which the former reckons with
    keep: int = 3  # checkpoints
    log_steps: int = 50
    preview_steps: int = 1000  # 0 = never
    evaluate_steps: int = 0  # 0 = never
    best: str = (
        ""  # the figure of evaluations whose highest value the weights `best` had; empty: no such ones
    )
    tensorboard: bool = True
    compile: bool = False
    channels_last: bool = False
    lanes: int = 8  # of a streamed corpus: parts of a batch that read shards of their own (`data.order`)
    parallel: Parallel = Parallel.DDP  # matters only when torchrun starts several processes
    gradient_hook: GradientHook = GradientHook.NONE  # of ddp, and of hybrid between the machines
    powersgd_rank: int = 4  # columns of the factors that a process sends
    powersgd_start: int = 1000  # steps with whole gradients first: early ones do not compress well

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "keep", "log_steps", "lanes", "powersgd_rank"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            *("warmup", "weight_decay", "clip", "sam_rho"),
            *("preview_steps", "evaluate_steps", "ema_ramp", "powersgd_start"),
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("learning_rate", "eps", "failure_hours"):
            self._require(name, getattr(self, name) > 0, "above 0")
        minutes = self.checkpoint_minutes
        self._require("checkpoint_minutes", minutes is None or minutes > 0, "above 0, or left out")
        self._require("decay_fraction", 0 < self.decay_fraction <= 1, "above 0 and at most 1")
        self._require("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1")
        self._require("ema", all(value > 0 for value in self.ema), "decays below 1 or half-lives in pictures")
        self._require("accumulate", self.batch % self.accumulate == 0, f"a divisor of the batch {self.batch}")
        self._require(
            "best", not self.best or self.evaluate_steps > 0, "empty unless evaluate_steps is above 0"
        )
        muon = self.optimiser is Optimiser.MUON
        self._require("adamw_only", muon or not self.adamw_only, "empty unless optimiser = 'muon'")
        self._require("parallel", not muon or self.parallel is Parallel.DDP, "'ddp' with optimiser = 'muon'")
        hook = self.gradient_hook is not GradientHook.NONE
        self._require(
            "gradient_hook", not hook or self.parallel is not Parallel.FSDP, "'none' with parallel = 'fsdp'"
        )
        # torch's hook needs whole gradients first
        few = hook and self.parallel is Parallel.DDP and self.powersgd_start < 2
        self._require("powersgd_start", not few, "at least 2 with parallel = 'ddp'")
        # it would compress the gradient of the climb as if a step were made of it
        self._require("gradient_hook", not (hook and self.sam_rho), "'none' with sam_rho")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise InputError(f"{name}: got {getattr(self, name)!r}, allowed is {allowed}")
