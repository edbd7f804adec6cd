"""The tasks of unCLIP's ancestors: GLIDE and its noised CLIP, ADM and its classifier; NCSN is an ADM.

A network that guides is trained over the noise levels of the one that it guides: its diffusion is that one's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from unclip.config import Config, from_dict
from unclip.data.corpus import Corpus
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.models.adm import ADMConfig, ClassifierConfig
from unclip.models.glide import GlideConfig
from unclip.models.noised_clip import NoisedCLIPConfig
from unclip.tokenizer import Tokenizer
from unclip.train import loop
from unclip.train.labelled import ClassBy, labels_of
from unclip.train.tasks.adm import ADMTask, ADMTaskConfig
from unclip.train.tasks.classifier import ClassifierTask, ClassifierTaskConfig
from unclip.train.tasks.clip import CLIPTaskConfig
from unclip.train.tasks.glide import GlideTask, GlideTaskConfig
from unclip.train.tasks.noised_clip import NoisedCLIPTask

GLIDE, NOISED_CLIP, ADM, CLASSIFIER = "glide", "noised-clip", "adm", "classifier"


class Run(Protocol):
    """What of a sequence of stages these tasks are made from."""

    recipe: Mapping[str, Any]
    train: Corpus
    held_out: Corpus

    def tokenizer(self) -> Tokenizer: ...

    def part(self, stage: str, name: str, cls: type[Config], **fixed: Any) -> Config: ...


def glide_task(run: Run) -> loop.Task:
    tokenizer, diffusion = run.tokenizer(), _diffusion(run, GLIDE)
    caption = {**run.recipe[GLIDE]["model"]["caption"], "vocabulary": tokenizer.vocabulary}
    settings = {"caption": caption, "learned_range": diffusion.learned_range}
    model = run.part(GLIDE, "model", GlideConfig, **settings)
    task = run.part(GLIDE, "task", GlideTaskConfig)
    return GlideTask(model, task, diffusion, tokenizer, run.train, run.held_out)


def noised_clip_task(run: Run) -> loop.Task:
    tokenizer, diffusion = run.tokenizer(), _diffusion(run, GLIDE)
    table = dict(run.recipe[NOISED_CLIP]["model"])
    table["text"] = {**table["text"], "vocabulary": tokenizer.vocabulary}
    model = from_dict(NoisedCLIPConfig, {**table, "end_token": tokenizer.end}, f"{NOISED_CLIP}.model")
    task = run.part(NOISED_CLIP, "task", CLIPTaskConfig)
    if task.locked:
        raise InputError(f"{NOISED_CLIP}.task.locked: pictures are noised anew each time, so leave it out")
    return NoisedCLIPTask(model, task, diffusion, tokenizer, run.train, run.held_out)


def adm_task(run: Run) -> loop.Task:
    task, diffusion = run.part(ADM, "task", ADMTaskConfig), _diffusion(run, ADM)
    labels = labels_of(run.train, task.pictures.by)
    settings = {"classes": len(labels) or None, "labels": labels, "learned_range": diffusion.learned_range}
    model = run.part(ADM, "model", ADMConfig, **settings)
    return ADMTask(model, task, diffusion, run.train, run.held_out)


def classifier_task(run: Run) -> loop.Task:
    task = run.part(CLASSIFIER, "task", ClassifierTaskConfig)
    if task.pictures.by is None:
        raise InputError(f"{CLASSIFIER}.task.pictures.by: say what the classes are: {', '.join(ClassBy)}")
    diffusion, drawn = _diffusion(run, ADM), run.part(ADM, "task", ADMTaskConfig).pictures.by
    if drawn not in (None, task.pictures.by):
        raise InputError(
            f"{ADM} is drawn by {drawn}, {CLASSIFIER} tells by {task.pictures.by}: class both alike"
        )
    labels = labels_of(run.train, task.pictures.by)
    model = run.part(CLASSIFIER, "model", ClassifierConfig, classes=len(labels))
    return ClassifierTask(model, labels, task, diffusion, run.train, run.held_out)


TASKS: dict[str, Callable[[Run], loop.Task]] = {
    NOISED_CLIP: noised_clip_task,
    GLIDE: glide_task,
    CLASSIFIER: classifier_task,
    ADM: adm_task,
}


def _diffusion(run: Run, stage: str) -> DiffusionConfig:
    if stage not in run.recipe:
        raise InputError(f"the recipe has no stage {stage}, whose noise levels the guide has to know")
    return run.part(stage, "diffusion", DiffusionConfig)
