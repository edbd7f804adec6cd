"""The noisy classifier's task: the class of a noised picture (section 4 of 2105.05233)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.models.adm import Classifier, ClassifierConfig
from unclip.train.batches import to_device
from unclip.train.labelled import ClassBy, Labelled, LabelledConfig, labels_of
from unclip.train.loop import Judged, Task
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.adm import ADMTaskConfig
from unclip.train.tasks.diffusion import check_grid, random_steps
from unclip.train.tasks.drawing import HELD_OUT_BATCH
from unclip.train.tasks.noised import JUDGED_SHARES, diffusion_of, noised, noised_alike
from unclip.train.tasks.stage import StageTask


@dataclass(frozen=True)
class ClassifierTaskConfig:
    """The training of the classifier."""

    pictures: LabelledConfig = field(default_factory=LabelledConfig)


class ClassifierTask(StageTask):
    """Cross entropy over the noise levels of the model that it is to guide."""

    name = "classifier"
    model: Classifier
    task: ClassifierTaskConfig

    def __init__(
        self,
        model: ClassifierConfig,
        labels: tuple[str, ...],
        task: ClassifierTaskConfig,
        diffusion: DiffusionConfig,
        train: Corpus,
        held_out: Corpus,
    ) -> None:
        self.model = Classifier(model)
        self.task = task
        self.diffusion = diffusion
        self.schedule = diffusion.build()
        self.pictures = Labelled(train, task.pictures, labels, model.image_size)
        seen = Labelled(held_out, LabelledConfig(task.pictures.by), labels, model.image_size)
        self.split, self.held_out = held_out.split, seen.batches(HELD_OUT_BATCH)

    def batch(self, places: Places) -> tuple[Tensor, Tensor | None]:
        return self.pictures.draw(places)

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        images, classes = batch
        steps, noise = random_steps(places, self.schedule), places.randn(*images.shape[1:])
        logits = model(*noised(images, self.schedule, steps, noise)).float()  # (B, classes)
        right = (logits.argmax(dim=1) == classes).float().mean()
        return F.cross_entropy(logits, classes), {"accuracy": right}

    @property
    def judged(self) -> Judged:
        return Judged(self.split, sum(len(images) for images, _ in self.held_out))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of held-out pictures whose class is found, at some shares of the schedule's steps.

        Where no held-out picture has a class, there is no figure.
        """
        if not self.held_out:
            return {}
        device = next(model.parameters()).device
        figures = {}
        for share in JUDGED_SHARES:
            generator, right = torch.Generator(device).manual_seed(0), []
            for batch in self.held_out:
                images, classes = to_device(batch, device)
                found = model(*noised_alike(images, self.schedule, share, generator)).argmax(dim=1)
                right.append(found == classes)
            figures[f"accuracy_at_{share:.0%}"] = float(torch.cat(right).float().mean())
        return figures


def settings_of(run: Results, stage: str) -> Settings:
    settings = run.part(stage, "task", ClassifierTaskConfig)
    by = settings.pictures.by
    if by is None:
        raise InputError(f"{stage}.task.pictures.by: say what the classes are: {', '.join(ClassBy)}")
    diffusion = diffusion_of(run, "adm")
    drawn = run.part("adm", "task", ADMTaskConfig).pictures.by
    if drawn not in (None, by):
        raise InputError(f"adm is drawn by {drawn}, {stage} tells by {by}: class both alike")
    model = run.part(stage, "model", ClassifierConfig, classes=len(labels_of(run.train, by)))
    check_grid(f"{stage}.model", model.image_size, model.patch, len(model.widths))
    return Settings(model, settings, diffusion)


def task_of(run: Results, stage: str) -> Task:
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    labels = labels_of(run.train, settings.pictures.by)
    return ClassifierTask(model, labels, settings, diffusion, run.train, run.held_out)
