"""The codec's task: pictures to a grid of codes and back (section 2.1 of 2102.12092, and 1711.00937)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.images import from_uint8, resize
from unclip.models.clip import CLIP
from unclip.models.codec import CodecTraining, CodecTrainingConfig
from unclip.models.quantiser import Codebook, GumbelConfig, NearestConfig, follow_, quantise, relax
from unclip.models.vqgan import VQGAN
from unclip.models.vqvae import VQVAE, map_pixels, unmap_pixels
from unclip.models.vqvae_loss import (
    Reconstruction,
    clip_distance,
    code_figures,
    judge,
    logit_laplace,
    pixel_loss,
    psnr,
)
from unclip.train.loop import Judged, Task
from unclip.train.pictures import spread
from unclip.train.places import Places, chooser
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.stage import PREVIEW_PICTURES, StageTask, rows_of_pictures

EVALUATED = 512  # held-out pictures
EVALUATION_BATCH = 32


@dataclass(frozen=True)
class VQVAETaskConfig:
    """The training of a codec.

    Attributes:
        size: side of the pictures in pixels.
        reconstruction: the loss of the pixels.
        nearest: the quantiser of a VQGAN.
        gumbel: the relaxation of a discrete VAE.
        adversarial: weight of what the critic says; 0 where the codec has none.
        adversarial_pictures: seen before the critic's word counts; it learns from the beginning.
        perceptual: weight of the distance in CLIP's features.
        sources: factor on a source's share of the pictures.
    """

    size: int = 256
    reconstruction: Reconstruction = Reconstruction.MSE
    nearest: NearestConfig = field(default_factory=NearestConfig)
    gumbel: GumbelConfig = field(default_factory=GumbelConfig)
    adversarial: float = 0.0
    adversarial_pictures: int = 0
    perceptual: float = 0.0
    sources: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("adversarial", "adversarial_pictures", "perceptual"):
            if not (value := getattr(self, name)) >= 0:
                raise InputError(f"{name}: got {value}, allowed is 0 or more")


class VQVAETask(StageTask):
    """Pictures in, pictures out, through codes."""

    name = "vqvae"
    model: CodecTraining
    task: VQVAETaskConfig

    def __init__(
        self,
        model: CodecTrainingConfig,
        task: VQVAETaskConfig,
        train: Corpus,
        held_out: Corpus,
        clip: CLIP | None = None,
    ) -> None:
        _check(model, task, clip is not None)
        self.model = CodecTraining(model)
        self.task = task
        self.clip = clip
        if isinstance(self.model.codec, VQGAN) and task.nearest.codebook is Codebook.AVERAGE:
            self.model.codec.codebook.requires_grad_(False)  # it follows without a gradient
        self.pixels = train.pixels(task.size)
        self.chosen = chooser(train, torch.from_numpy(train.weights(task.sources)).double())
        chosen = spread(len(held_out), EVALUATED)
        self.held_out = from_uint8(held_out.pixels(task.size)[chosen])  # (M, 3, S, S)
        self.split = held_out.split

    def batch(self, places: Places) -> Tensor:
        return from_uint8(self.pixels[self.chosen(places).numpy()])

    def loss(self, model: nn.Module, batch: Tensor, places: Places) -> tuple[Tensor, dict[str, Any]]:
        assert isinstance(model, CodecTraining)
        if isinstance(model.codec, VQGAN):
            drawn, loss, parts = self._nearest(model, model.codec, batch, places)
        else:
            drawn, loss, parts = self._relaxed(model, model.codec, batch, places)
        if self.task.perceptual:
            assert self.clip is not None  # checked when the task was made
            side = self.clip.config.image.image_size
            distance = clip_distance(self.clip, resize(drawn, side), resize(batch, side))
            loss = loss + self.task.perceptual * distance
            parts["perceptual"] = distance.detach()
        if self.task.adversarial:
            judged = judge(model.critic, drawn, batch)
            heard = int(model.pictures) >= self.task.adversarial_pictures
            loss = loss + judged.learning + self.task.adversarial * heard * judged.drawing
            parts |= {"critic": judged.learning.detach(), "adversarial": judged.drawing.detach()}
        model.pictures += len(batch) * (dist.get_world_size() if dist.is_initialized() else 1)
        return loss, parts

    def _nearest(
        self, model: CodecTraining, codec: VQGAN, images: Tensor, places: Places
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Drawn pictures, the loss, and its parts."""
        latents = codec.latents(images)
        quantised = quantise(codec, latents, self.task.nearest)
        drawn = codec.from_vectors(quantised.vectors)
        error = pixel_loss(self.task.reconstruction, drawn, images)
        chance = torch.rand(codec.config.vocabulary, generator=places.common).to(latents.device)
        dead = follow_(codec, model.use, latents, quantised.codes, self.task.nearest, chance)
        parts = {
            "reconstruction": error.detach(),
            "quantisation": quantised.loss.detach(),
            "dead": dead,
            "perplexity": code_figures(quantised.codes, codec.config.vocabulary).perplexity,
        }
        return drawn, error + quantised.loss, parts

    def _relaxed(
        self, model: CodecTraining, codec: VQVAE, images: Tensor, places: Places
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """As `_nearest`. All are sums over a picture divided by its values: appendix A.2 of 2102.12092."""
        seen = float(model.pictures)
        gumbel = self.task.gumbel
        logits = codec.logits(images)
        relaxed = relax(logits, gumbel.temperature_at(seen), places.exponential(*logits.shape[1:]))
        said = codec.decoder(relaxed.weights.to(images.dtype))  # (B, 6, S, S)
        mean, log_scale = said.chunk(2, dim=1)
        truth = map_pixels((images + 1) / 2)
        if self.task.reconstruction is Reconstruction.LOGIT_LAPLACE:
            error = logit_laplace(mean, log_scale, truth).mean()
        else:
            error = pixel_loss(self.task.reconstruction, torch.sigmoid(mean.float()), truth)
        divergence = relaxed.divergence / images[0].numel()
        loss = error + gumbel.divergence_at(seen) * divergence
        parts = {
            "reconstruction": error.detach(),
            "divergence": relaxed.divergence.detach(),
            "temperature": gumbel.temperature_at(seen),
        }
        return unmap_pixels(torch.sigmoid(mean.float())) * 2 - 1, loss, parts

    @property
    def judged(self) -> Judged:
        return Judged(self.split, len(self.held_out))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """PSNR of held-out pictures, the share of the codes that they use, and those codes' perplexity."""
        assert isinstance(model, CodecTraining)
        device = model.pictures.device
        codes, ratios = [], []
        for images in self.held_out.split(EVALUATION_BATCH):
            images = images.to(device)
            found = model.codec.encode(images)
            codes.append(found.cpu())
            ratios.append(psnr(model.codec.decode(found).float().clamp(-1, 1), images))
        figures = code_figures(torch.cat(codes), self.model.codec.config.vocabulary)
        return {"psnr": float(torch.cat(ratios).mean()), **figures._asdict()}

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-out pictures above, below what is left of them."""
        assert isinstance(model, CodecTraining)
        chosen = spread(len(self.held_out), PREVIEW_PICTURES)
        images = self.held_out[chosen].to(model.pictures.device)
        return rows_of_pictures(images, model.codec(images).float().clamp(-1, 1))


def _check(model: CodecTrainingConfig, task: VQVAETaskConfig, sees: bool) -> None:
    """Refuse settings that do not go together; `sees` is True where there is a CLIP."""
    if bool(task.adversarial) != (model.critic is not None):
        raise InputError(
            f"adversarial {task.adversarial} with critic {model.critic}: a critic needs a weight, "
            "and a weight a critic"
        )
    if task.perceptual and not sees:
        raise InputError("the perceptual loss needs a CLIP: give the recipe a clip")
    if task.reconstruction is Reconstruction.LOGIT_LAPLACE and model.dvae is None:
        raise InputError("the logit-Laplace loss needs a decoder with a scale: train a dvae, or take mse")
    if task.size < 1 or task.size % model.codec.factor:
        raise InputError(f"size {task.size}: must be a multiple of {model.codec.factor} pixels, a code's")


def settings_of(run: Results, stage: str) -> Settings:
    settings = run.part(stage, "task", VQVAETaskConfig)
    model = run.part(stage, "model", CodecTrainingConfig)
    _check(model, settings, "clip" in run.recipe)
    return Settings(model, settings)


def task_of(run: Results, stage: str) -> Task:
    model, settings, _ = settings_of(run, stage)
    clip = run.model("clip").to(run.device) if settings.perceptual else None
    assert clip is None or isinstance(clip, CLIP)
    return VQVAETask(model, settings, run.train, run.held_out, clip)
