"""ADM's task: the picture from its class, or from nothing (2105.05233).

Without classes, over geometric noise levels and with `prediction = "epsilon"`, it is NCSN's: the network
gives -sigma times the score (technique 3 of 2006.09011), and the uniform weighting is NCSN's
lambda = sigma^2 (Eq. 6 of 1907.05600).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.diffusion.denoiser import Network
from unclip.diffusion.loss import Weighting
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.models.adm import ADM, ADMConfig
from unclip.train.labelled import Labelled, LabelledConfig, labels_of
from unclip.train.loop import Task
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.diffusion import check_grid
from unclip.train.tasks.drawing import HELD_OUT_BATCH, DrawingTask

Batch = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class ADMTaskConfig:
    """The training of ADM: pictures and classes, and the weighting of the loss over noise levels."""

    pictures: LabelledConfig = field(default_factory=LabelledConfig)
    weighting: Weighting = Weighting.UNIFORM


class ADMTask(DrawingTask):
    """Class-conditional, or with `pictures.by` null unconditional; guidance is the classifier's business."""

    name = "adm"
    model: ADM
    task: ADMTaskConfig

    def __init__(
        self,
        model: ADMConfig,
        task: ADMTaskConfig,
        diffusion: DiffusionConfig,
        train: Corpus,
        held_out: Corpus,
    ) -> None:
        super().__init__(diffusion, task.weighting)
        self.model = ADM(model)
        self.task = task
        self.pictures = Labelled(train, task.pictures, model.labels, model.image_size)
        seen = Labelled(held_out, LabelledConfig(task.pictures.by), model.labels, model.image_size)
        self.split, self.held_out = held_out.split, seen.batches(HELD_OUT_BATCH)

    def batch(self, places: Places) -> Batch:
        return self.pictures.draw(places)

    def network(self, model: nn.Module, batch: Batch) -> Network:
        return partial(model, classes=batch[1])


def settings_of(run: Results, stage: str) -> Settings:
    settings = run.part(stage, "task", ADMTaskConfig)
    diffusion = run.part(stage, "diffusion", DiffusionConfig)
    labels = labels_of(run.train, settings.pictures.by)
    sizes = {"classes": len(labels) or None, "labels": labels, "learned_range": diffusion.learned_range}
    model = run.part(stage, "model", ADMConfig, **sizes)
    if model.low_size is not None:
        raise InputError(
            f"{stage}.model.low_size: got {model.low_size}, but what is trained here enlarges nothing: leave "
            "it out"
        )
    check_grid(f"{stage}.model", model.image_size, model.patch, len(model.widths))
    return Settings(model, settings, diffusion)


def task_of(run: Results, stage: str) -> Task:
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    return ADMTask(model, settings, diffusion, run.train, run.held_out)
