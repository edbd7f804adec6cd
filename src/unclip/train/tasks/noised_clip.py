"""The noised CLIP's task: CLIP's, over pictures at the noise levels of the model that it is to guide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.models.clip_loss import in_parts
from unclip.models.noised_clip import NoisedCLIP, NoisedCLIPConfig
from unclip.tokenizer import Tokenizer
from unclip.train.loop import Task
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.clip import CLIPTaskConfig, ContrastiveTask, check_bias
from unclip.train.tasks.diffusion import random_steps
from unclip.train.tasks.noised import JUDGED_SHARES, diffusion_of, noised, noised_alike


class NoisedCLIPTask(ContrastiveTask):
    """Section 4.4 of 2112.10741. The factor of the cosines is the config's: it is not learned."""

    name = "noised-clip"

    def __init__(
        self,
        model: NoisedCLIPConfig,
        task: CLIPTaskConfig,
        diffusion: DiffusionConfig,
        tokenizer: Tokenizer,
        train: Corpus,
        held_out: Corpus,
    ) -> None:
        super().__init__(NoisedCLIP(model), task, tokenizer, train, held_out)
        self.diffusion = diffusion
        self.schedule = diffusion.build()

    def images(self, model: nn.Module, images: Tensor, places: Places) -> Tensor:
        assert isinstance(model, NoisedCLIP)
        steps, noise = random_steps(places, self.schedule), places.randn(*images.shape[1:])
        seen, part = noised(images, self.schedule, steps, noise), self.task.part
        return in_parts(model.encode_image, part, *seen) if part else model.encode_image(*seen)

    def texts(self, model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(model, NoisedCLIP)
        return model.encode_text(ids, mask)

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Recall at 1 of the right one among held-out pictures, at some shares of the schedule's steps."""
        assert isinstance(model, NoisedCLIP)
        device, figures = next(model.parameters()).device, {}
        images = self.held_out.images.to(device)
        for share in JUDGED_SHARES:
            generator = torch.Generator(device).manual_seed(0)
            seen = model.encode_image(*noised_alike(images, self.schedule, share, generator))
            for name, value in self.recall(model, seen).items():
                figures[f"{name}_at_{share:.0%}"] = value
        return figures


def settings_of(run: Results, stage: str) -> Settings:
    vocabulary, end = run.ids()
    model = run.part(stage, "model", NoisedCLIPConfig, text={"vocabulary": vocabulary}, end_token=end)
    settings = run.part(stage, "task", CLIPTaskConfig)
    check_bias(settings, False)
    if settings.locked:
        raise InputError(f"{stage}.task.locked: pictures are noised anew each time, so leave it out")
    if settings.teacher is not None:
        raise InputError(f"{stage}.task.teacher: a guide says what a picture shows, so leave it out")
    return Settings(model, settings, diffusion_of(run, "glide"))


def task_of(run: Results, stage: str) -> Task:
    tokenizer = run.tokenizer()
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    return NoisedCLIPTask(model, settings, diffusion, tokenizer, run.train, run.held_out)
