"""The layout's task: the picture, coarsely, from its CLIP embedding."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.images import from_uint8, resize
from unclip.models.decoder import noise_embedding
from unclip.models.layout import Layout, LayoutConfig
from unclip.nn.layers import Whitening
from unclip.tokenizer import Tokenizer
from unclip.train.encoded import Encoded
from unclip.train.loop import Judged, Task
from unclip.train.pictures import Pictures, PicturesConfig
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.stage import PREVIEW_PICTURES, StageTask, rows_of_pictures

PREVIEW_SIDE = 64


@dataclass(frozen=True)
class LayoutTaskConfig:
    """The training of a layout.

    Attributes:
        embedding_noise: the embedding is noised by a level drawn from 0 to this, as the decoder's is.
        pictures: how often those of a source are seen; captions and shifts do not matter here.
    """

    embedding_noise: float = 0.5
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.embedding_noise <= 1:
            raise InputError(f"embedding_noise {self.embedding_noise}: choose from 0 to 1")


class LayoutTask(StageTask):
    """Least squares: the mean colour of each cell from the embedding of the picture."""

    name = "layout"
    model: Layout
    task: LayoutTaskConfig

    def __init__(
        self,
        model: LayoutConfig,
        task: LayoutTaskConfig,
        encoded: Encoded,
        tokenizer: Tokenizer,
        train: Corpus,
    ) -> None:
        self.model = Layout(model)
        self.task = task
        self.encoded = encoded
        clip = encoded.clip.config
        size = clip.image.image_size
        self.pictures = Pictures(train, task.pictures, tokenizer, clip.text.context, size)
        self.pixels = train.pixels(size)  # (N, S, S, 3) uint8
        self.whitening = Whitening(model.embedding)
        self.whitening.fit_(encoded.embeddings)

    def batch(self, places: Places) -> tuple[Tensor, Tensor]:
        index = self.pictures.positions(places)
        embedding = self.whitening.whiten(self.encoded.embeddings[torch.from_numpy(index)])
        return embedding, self.coarse(from_uint8(self.pixels[index]))

    def coarse(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 3, side, side), the mean colour of each cell."""
        return F.adaptive_avg_pool2d(images, self.model.config.side)

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        embedding, coarse = batch
        level = self.task.embedding_noise * places.rand()
        noise = places.randn(embedding.shape[1])
        return F.mse_loss(model(noise_embedding(embedding, noise, level), level).float(), coarse), {}

    @property
    def judged(self) -> Judged:
        return self.encoded.held_out.judged

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean squared error on held-out pictures from their embeddings, and that of the mean picture."""
        guess, truth = self._held_out(model)
        spread = (truth - truth.mean(dim=0)).square().mean()
        return {"error": float(F.mse_loss(guess, truth)), "error_of_the_mean_picture": float(spread)}

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-out pictures, coarsely, each before what is expected of it."""
        guess, truth = (rows[:PREVIEW_PICTURES].cpu() for rows in self._held_out(model))
        pairs = torch.stack([truth, guess.clamp(-1, 1)], dim=1).flatten(0, 1)
        return rows_of_pictures(*resize(pairs, PREVIEW_SIDE).split(PREVIEW_PICTURES // 2))

    def _held_out(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """The expected and the true held-out pictures, (M, 3, side, side) each."""
        embeddings = self.encoded.held_out_embeddings
        whitened = self.whitening.whiten(embeddings.cpu()).to(embeddings.device)
        guess = model(whitened, embeddings.new_zeros(len(embeddings)))
        return guess.float(), self.coarse(self.encoded.held_out.images.to(embeddings.device))


def settings_of(run: Results, stage: str) -> Settings:
    model = run.part(stage, "model", LayoutConfig, embedding=run.config("clip", stage).embedding)
    return Settings(model, run.part(stage, "task", LayoutTaskConfig))


def task_of(run: Results, stage: str) -> Task:
    encoded = Encoded.of(run)
    model, settings, _ = settings_of(run, stage)
    return LayoutTask(model, settings, encoded, run.tokenizer(), run.train)
