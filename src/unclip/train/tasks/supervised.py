"""A supervised classifier's task: which class of the corpus a picture shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.classes import Classes
from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.supervised import Supervised, SupervisedConfig
from unclip.train.loop import Judged, Task
from unclip.train.pictures import check_shift, shifted
from unclip.train.places import Places, chooser
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.stage import StageTask

EVALUATION_BATCH = 128


@dataclass(frozen=True)
class SupervisedTaskConfig:
    """The training of a classifier.

    Attributes:
        styles: a class is a name that the training split shows in at least so many styles.
        smoothing: share of the target that all classes have alike (1512.00567, section 7).
        shift: pictures are moved by up to so many pixels each way, on white.
    """

    styles: int = 6
    smoothing: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        check_shift(self.shift)
        if self.styles < 1:
            raise InputError(f"styles {self.styles}: it must be 1 or more")
        if not 0 <= self.smoothing < 1:
            raise InputError(f"smoothing {self.smoothing}: it must be from 0 to below 1")


class SupervisedTask(StageTask):
    """Cross entropy over the classes."""

    name = "supervised"
    model: Supervised
    task: SupervisedTaskConfig

    def __init__(
        self,
        model: SupervisedConfig,
        task: SupervisedTaskConfig,
        classes: Classes,
        train: Corpus,
        held_out: Corpus,
    ) -> None:
        self.model = Supervised(model)
        self.task = task
        size = model.image.image_size
        self.pixels = train.pixels(size)
        self.classes = torch.from_numpy(classes.of_pictures(train))  # (N,)
        weights = torch.from_numpy(train.weights()).double()
        self.chosen = chooser(train, weights.masked_fill(self.classes < 0, 0.0))
        self.split, held = held_out.split, classes.of_pictures(held_out)
        self.held_out = from_uint8(held_out.pixels(size)[held >= 0])  # (M, 3, S, S)
        self.held_out_classes = torch.from_numpy(held[held >= 0])  # (M,)

    def batch(self, places: Places) -> tuple[Tensor, Tensor]:
        index = self.chosen(places)
        pixels = shifted(self.pixels[index.numpy()], self.task.shift, places)
        return from_uint8(pixels), self.classes[index]

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], places: Places
    ) -> tuple[Tensor, dict[str, Any]]:
        images, classes = batch
        logits = model(images).float()  # (B, C)
        right = (logits.argmax(1) == classes).float().mean()
        return F.cross_entropy(logits, classes, label_smoothing=self.task.smoothing), {"accuracy": right}

    @property
    def judged(self) -> Judged:
        return Judged(self.split, len(self.held_out))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of held-out pictures whose class is the likeliest, where there are such pictures."""
        if not len(self.held_out):
            return {}
        device = next(model.parameters()).device
        found = [model(images.to(device)).argmax(1).cpu() for images in self.held_out.split(EVALUATION_BATCH)]
        return {"accuracy": float((torch.cat(found) == self.held_out_classes).float().mean())}


def settings_of(run: Results, stage: str) -> Settings:
    settings = run.part(stage, "task", SupervisedTaskConfig)
    classes = Classes.drawn_in(run.train, settings.styles)
    return Settings(run.part(stage, "model", SupervisedConfig, labels=classes.labels), settings)


def task_of(run: Results, stage: str) -> Task:
    model, settings, _ = settings_of(run, stage)
    classes = Classes.drawn_in(run.train, settings.styles)
    return SupervisedTask(model, settings, classes, run.train, run.held_out)
