"""The upsamplers' task: the large picture from a degraded small one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.data.records import STORED_SIZE
from unclip.diffusion.loss import Weighting
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.upsampler import Upsampler, UpsamplerConfig, enlarge
from unclip.train.degradation import Degradation, degrade
from unclip.train.loop import Task
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.diffusion import DiffusionTask, check_grid, draw
from unclip.train.tasks.stage import PREVIEW_PICTURES, rows_of_pictures

CROPS_PER_PICTURE = 4  # of one batch: a large picture takes long to read
CROP_CANDIDATES = 3  # most of a pictogram is white: of so many crops the one with most in it is learned from


@dataclass(frozen=True)
class UpsamplerTaskConfig:
    """The training of an upsampler: crops of `crop` pixels of the large picture, the small one degraded."""

    crop: int = 64
    degradation: Degradation = Degradation.BLUR
    weighting: Weighting = Weighting.UNIFORM

    def __post_init__(self) -> None:
        if self.crop < 1:
            raise InputError(f"crop {self.crop}: learn from 1 pixel or more")


class SupportsPictures(Protocol):
    """Pictures by number, each uint8 (S, S, 3): an array of them, or a corpus that reads them one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


class LargePictures:
    """The large renderings of a corpus, read when they are asked for."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.index = corpus.large()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return np.asarray(self.corpus.large_image(self.index[index]).convert("RGB"))


class UpsamplerTask(DiffusionTask):
    """Section 2.1 of 2204.06125: the large picture from a degraded small one, unconditional otherwise."""

    model: Upsampler
    task: UpsamplerTaskConfig

    def __init__(
        self,
        model: UpsamplerConfig,
        task: UpsamplerTaskConfig,
        diffusion: DiffusionConfig,
        pictures: SupportsPictures,
    ) -> None:
        super().__init__(diffusion, task.weighting)
        self.model = Upsampler(model)
        self.name = f"upsampler-{model.high_size}"
        self.task = task
        self.pictures = pictures

    def _crop(self, picture: np.ndarray, chance: Tensor) -> np.ndarray:
        """(crop, crop, 3) of a picture, at a multiple of the scale, by numbers (candidates, 2) in [0, 1)."""
        crop, scale = self.task.crop, self.model.config.scale
        corners = (chance * ((len(picture) - crop) // scale + 1)).long() * scale
        candidates = [picture[y : y + crop, x : x + crop] for y, x in corners.tolist()]
        return max(candidates, key=lambda candidate: float(candidate[::scale, ::scale].std()))

    def batch(self, places: Places) -> tuple[Tensor, Tensor]:
        runs = [place // CROPS_PER_PICTURE for place in places.numbers]
        numbers = replace(places, numbers=runs, stream="pictures").randint(0, len(self.pictures)).tolist()
        crops: list[np.ndarray] = []
        chances = zip(numbers, places.rand(CROP_CANDIDATES, 2), strict=True)
        for number, run in groupby(chances, itemgetter(0)):
            picture = self.pictures[number]
            crops += [self._crop(picture, chance) for _, chance in run]
        high = from_uint8(np.stack(crops))  # (B, 3, crop, crop)
        low = F.avg_pool2d(high, self.model.config.scale)  # (B, 3, crop / scale, crop / scale)
        return high, degrade(low, self.task.degradation, places)

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        high, low = batch
        steps, noise = self.noise(high, places)
        losses = self.losses(partial(model, low=low), high, steps, noise)
        return losses.mean(), {}

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Crops enlarged by bicubic filtering above, drawn in the middle, the true ones below."""
        device = next(model.parameters()).device
        high, low = self.batch(Places.whole(PREVIEW_PICTURES))
        on_device = low.to(device)
        drawn = draw(lambda x, label: model(x, label, on_device), self.diffusion, high.shape, device)
        return rows_of_pictures(enlarge(low, self.model.config.scale), drawn, high)


def settings_of(run: Results, stage: str) -> Settings:
    model, settings = run.part(stage, "model", UpsamplerConfig), run.part(stage, "task", UpsamplerTaskConfig)
    if stage != f"upsampler-{model.high_size}":
        raise InputError(f"{stage}.model.high_size: got {model.high_size}, the stage is called {stage}")
    if model.low_size < 1 or model.high_size % model.low_size:
        raise InputError(
            f"{stage}.model.low_size: got {model.low_size}, allowed is a divisor of {model.high_size}"
        )
    if settings.crop > model.high_size or settings.crop % model.scale:
        raise InputError(
            f"{stage}.task.crop: got {settings.crop}, allowed is a multiple of {model.scale} up to "
            f"{model.high_size}"
        )
    for side in (settings.crop, model.high_size):
        check_grid(f"{stage}.model", side, model.patch, len(model.multipliers))
    if model.high_size > STORED_SIZE and not len(run.train.large()):
        raise InputError(
            f"{stage} learns from pictures of 1024 px, and the corpus {run.train.where} has none: build it "
            f"with --large 1000 (of SVG pictures), or leave the stage out with --set {stage}=false"
        )
    return Settings(model, settings, run.part(stage, "diffusion", DiffusionConfig))


def task_of(run: Results, stage: str) -> Task:
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    large = model.high_size > STORED_SIZE  # beyond it only the large renderings serve
    pictures = LargePictures(run.train) if large else run.train.pixels(model.high_size)
    return UpsamplerTask(model, settings, diffusion, pictures)
