"""GLIDE's task: the picture from its caption alone (section 2 of 2112.10741)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.diffusion.denoiser import Network
from unclip.diffusion.loss import Weighting
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.glide import Glide, GlideCondition, GlideConfig
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.loop import Task
from unclip.train.pictures import HeldOut, Pictures, PicturesConfig
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.diffusion import check_grid, kept
from unclip.train.tasks.drawing import HELD_OUT_BATCH, DrawingTask

Batch = tuple[Tensor, Tokens]


@dataclass(frozen=True)
class GlideTaskConfig:
    """The training of GLIDE.

    Attributes:
        text_drop: share of captions that are replaced by the empty one, for classifier-free guidance
            (section 4.2 of 2112.10741: 0.2).
        weighting: of the loss over noise levels.
        pictures: which of the corpus, with which captions.
    """

    text_drop: float = 0.2
    weighting: Weighting = Weighting.UNIFORM
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.text_drop <= 1:
            raise InputError(f"text_drop: got {self.text_drop}, allowed is a share from 0 to 1")


class GlideTask(DrawingTask):
    """The base model: text encoder and UNet learn together."""

    name = "glide"
    model: Glide
    task: GlideTaskConfig

    def __init__(
        self,
        model: GlideConfig,
        task: GlideTaskConfig,
        diffusion: DiffusionConfig,
        tokenizer: Tokenizer,
        train: Corpus,
        held_out: Corpus,
    ) -> None:
        super().__init__(diffusion, task.weighting)
        self.model = Glide(model)
        self.task = task
        self.pictures = Pictures(train, task.pictures, tokenizer, model.caption.context, model.image_size)
        self.empty = tokenizer.batch([""], self.pictures.context)
        seen = HeldOut(held_out, tokenizer, self.pictures.context, model.image_size)
        self.split, tokens = held_out.split, seen.tokens["en"]
        self.held_out = [
            (images, Tokens(ids, mask, ()))
            for images, ids, mask in zip(
                *(rows.split(HELD_OUT_BATCH) for rows in (seen.images, tokens.ids, tokens.mask)), strict=True
            )
        ]

    def batch(self, places: Places) -> Batch:
        drawn = self.pictures.draw(places)
        return from_uint8(drawn.pixels), drawn.tokens

    def dropped(self, batch: Batch, places: Places) -> Batch:
        images, tokens = batch
        keep = kept(places, self.task.text_drop)[:, None]  # (B, 1)
        length = max(tokens.ids.shape[1], self.empty.ids.shape[1])

        def chosen(given: Tensor, empty: Tensor) -> Tensor:
            given, empty = (F.pad(part, (0, length - part.shape[1])) for part in (given, empty))
            return torch.where(keep, given, empty.to(given.device))  # (B, L)

        ids, mask = chosen(tokens.ids, self.empty.ids), chosen(tokens.mask, self.empty.mask)
        return images, Tokens(ids, mask, ())

    def network(self, model: nn.Module, batch: Batch) -> Network:
        assert isinstance(model, Glide)
        _, tokens = batch
        return partial(model, condition=GlideCondition(model.read(tokens.ids, tokens.mask)))


def settings_of(run: Results, stage: str) -> Settings:
    diffusion = run.part(stage, "diffusion", DiffusionConfig)
    sizes = {"caption": {"vocabulary": run.ids().vocabulary}, "learned_range": diffusion.learned_range}
    model = run.part(stage, "model", GlideConfig, **sizes)
    if model.low_size is not None or model.fills_in:
        raise InputError(
            f"{stage}.model: got low_size {model.low_size} and fills_in {model.fills_in}, but only the model "
            "that draws small pictures from a caption is trained here: leave both out"
        )
    check_grid(f"{stage}.model", model.image_size, model.patch, len(model.widths))
    return Settings(model, run.part(stage, "task", GlideTaskConfig), diffusion)


def task_of(run: Results, stage: str) -> Task:
    tokenizer = run.tokenizer()
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    return GlideTask(model, settings, diffusion, tokenizer, run.train, run.held_out)
