"""What each stage of unCLIP learns: a batch, its loss, figures and pictures to judge it by.

A task is a `train.loop.Task`. Every batch and every loss is a pure function of the generator it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.config import to_dict
from unclip.data.corpus import Corpus
from unclip.diffusion.denoiser import Network, denoiser
from unclip.diffusion.loss import Weighting, diffusion_loss
from unclip.diffusion.sample import ddim
from unclip.diffusion.schedule import DiffusionConfig, Schedule, respace
from unclip.errors import InputError
from unclip.images import contact_sheet, from_uint8, resize, to_pil
from unclip.models.clip import CLIP, CLIPConfig
from unclip.models.clip_loss import clip_loss, same_concept, sigmoid_loss, supervised_contrastive_loss
from unclip.models.decoder import Decoder, DecoderCondition, DecoderConfig, noise_embedding
from unclip.models.prior import DiffusionPrior, PriorCondition, PriorConfig
from unclip.models.upsampler import Upsampler, UpsamplerConfig, enlarge
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.degradation import Degradation, degrade
from unclip.train.pictures import HeldOut, Pictures, PicturesConfig, groups_by_length, text_by_length

PREVIEW_PICTURES = 12
PREVIEW_STEPS = 16
EVALUATED_DRAWINGS = 128  # pictures that a decoder draws to be judged while it trains
CROPS_PER_PICTURE = 4  # of one batch: a large picture takes long to read
CROP_CANDIDATES = 3  # most of a pictogram is white: of so many crops the one with most in it is learned from


def _keep(size: int, drop: float, generator: torch.Generator) -> Tensor:
    """(B,) bool, False with probability `drop`."""
    return torch.rand(size, generator=generator, device=generator.device) >= drop


def _steps(size: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """(B,) steps of the schedule, spread evenly over it with a common random offset (less variance)."""
    device = generator.device
    offset = torch.rand((), generator=generator, device=device)
    position = (torch.randperm(size, generator=generator, device=device) + offset) / size * len(schedule)
    return position.long().clamp(max=len(schedule) - 1)


# --- CLIP


class Contrast(StrEnum):
    CLIP = "clip"  # symmetric cross entropy
    SIGLIP = "siglip"
    SUPERVISED = "supervised"


class Splits(StrEnum):
    TRAIN = "train"
    ALL = "all"  # held-out ones too: for a judge of others, whose own figures then say nothing


@dataclass(frozen=True)
class CLIPTaskConfig:
    """How CLIP is trained.

    Attributes:
        contrast: which loss.
        positives: pictures of one concept are no negatives of each other's captions.
        splits: of the corpus that are learned from.
        pictures: which of their pictures, with which captions.
    """

    contrast: Contrast = Contrast.CLIP
    positives: bool = True
    splits: Splits = Splits.TRAIN
    pictures: PicturesConfig = field(default_factory=PicturesConfig)


class CLIPTask:
    """Section 2.3 of 2103.00020: which caption belongs to which picture of the batch."""

    name = "clip"
    accumulates = False  # every pair of the batch counts

    def __init__(
        self, model: CLIPConfig, task: CLIPTaskConfig, tokenizer: Tokenizer, train: Corpus, held_out: Corpus
    ) -> None:
        if (task.contrast is Contrast.SIGLIP) != model.logit_bias:
            raise InputError(
                f"contrast {task.contrast.value!r} with logit_bias {model.logit_bias}: "
                "the sigmoid loss has a bias, and no other has one"
            )
        self.model = CLIP(model)
        self.task = task
        size = model.image.image_size
        self.pictures = Pictures(train, task.pictures, tokenizer, model.text.context, size)
        self.held_out = HeldOut(held_out, tokenizer, model.text.context, size)

    @property
    def config(self) -> dict[str, Any]:
        return {"model": to_dict(self.model.config), "task": to_dict(self.task)}

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tokens, Tensor]:
        drawn = self.pictures.draw(size, generator)
        concept = torch.from_numpy(self.pictures.concepts[drawn.position])  # (B,)
        return from_uint8(drawn.pixels), drawn.tokens, concept

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tokens, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        images, tokens, concept = batch
        assert isinstance(model, CLIP)
        image, scale, bias = model.encode_image(images), model.scale, model.logit_bias
        text = text_by_length(model, tokens)
        group = dist.group.WORLD if dist.is_initialized() else None
        positives = same_concept(concept, group) if self.task.positives else None  # (B, M)
        if self.task.contrast is Contrast.SIGLIP:
            assert bias is not None  # checked when the task was made
            loss = sigmoid_loss(image, text, scale, bias, positives=positives, group=group)
        elif self.task.contrast is Contrast.SUPERVISED:
            both, labels = torch.cat([image, text]), torch.cat([concept, concept])  # (2B, E), (2B,)
            loss = supervised_contrastive_loss(both, labels, scale, group=group)
        else:
            loss = clip_loss(image, text, scale, positives=positives, group=group)
        return loss, {"scale": scale.detach()}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Recall at 1 of the right picture among the held-out ones, by name and language."""
        assert isinstance(model, CLIP)
        device = next(model.parameters()).device
        images = F.normalize(model.encode_image(self.held_out.images.to(device)), dim=1)  # (N, E)
        figures = {}
        for language, tokens in self.held_out.tokens.items():
            texts = F.normalize(
                model.encode_text(tokens.ids.to(device), tokens.mask.to(device)).embedding, dim=1
            )
            best = (texts @ images.T).argmax(dim=1).cpu()
            same = self.held_out.concepts[best] == self.held_out.concepts
            figures[f"recall_at_1_{language}"] = float(same.mean())
        return figures

    def preview(self, model: nn.Module) -> Image.Image | None:
        return None


# --- what the generative stages share


class Encoded:
    """A trained CLIP, frozen, with the embeddings of every picture of the corpus (computed once)."""

    def __init__(
        self, clip: CLIP, embeddings: Tensor, held_out: HeldOut, held_out_embeddings: Tensor
    ) -> None:
        self.clip = clip.eval().requires_grad_(False)
        self.embeddings = embeddings  # (N, E) L2-normalised
        self.held_out = held_out
        self.held_out_embeddings = held_out_embeddings  # (M, E)

    @torch.no_grad()
    def text(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """L2-normalised text embedding (B, E) and caption features (B, L, W)."""
        features = self.clip.encode_text(tokens.ids, tokens.mask)
        return F.normalize(features.embedding.float(), dim=1), features.sequence


class DiffusionTask:
    """A network, its diffusion, and the loss of what it predicts."""

    accumulates = True
    model: DiffusionPrior | Decoder | Upsampler
    task: PriorTaskConfig | DecoderTaskConfig | UpsamplerTaskConfig

    def __init__(self, diffusion: DiffusionConfig) -> None:
        self.diffusion = diffusion
        self.schedule = diffusion.build()

    @property
    def config(self) -> dict[str, Any]:
        return {
            "model": to_dict(self.model.config),
            "task": to_dict(self.task),
            "diffusion": to_dict(self.diffusion),
        }

    def losses(self, network: Network, x0: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """(B,) of clean data noised to steps (B,) of the schedule."""
        return diffusion_loss(
            network,
            self.schedule,
            self.diffusion.prediction,
            x0,
            steps,
            noise,
            self.task.weighting,
            learned_range=self.diffusion.learned_range,
        )


# --- prior


@dataclass(frozen=True)
class PriorTaskConfig:
    """How the prior is trained; `text_drop` is for classifier-free guidance (Table 3 of 2204.06125: 0.1)."""

    text_drop: float = 0.1
    weighting: Weighting = Weighting.UNIFORM
    pictures: PicturesConfig = field(default_factory=PicturesConfig)


class PriorTask(DiffusionTask):
    """Section 2.2 of 2204.06125: from a caption to the embedding of a picture that it could belong to."""

    name = "prior"
    model: DiffusionPrior
    task: PriorTaskConfig

    def __init__(
        self,
        model: PriorConfig,
        task: PriorTaskConfig,
        diffusion: DiffusionConfig,
        encoded: Encoded,
        tokenizer: Tokenizer,
        train: Corpus,
    ) -> None:
        super().__init__(diffusion)
        self.model = DiffusionPrior(model)
        self.model.whitening.fit(encoded.embeddings)
        self.task = task
        self.encoded = encoded
        self.pictures = Pictures(
            train, task.pictures, tokenizer, model.context, encoded.clip.config.image.image_size
        )

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tokens]:
        drawn = self.pictures.draw(size, generator)
        return self.encoded.embeddings[torch.from_numpy(drawn.position)], drawn.tokens

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tokens], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        embedding, tokens = batch
        size = len(embedding)
        x0 = self.model.whitening.whiten(embedding)
        keep = _keep(size, self.task.text_drop, generator)
        steps = _steps(size, self.schedule, generator)
        noise = torch.randn(x0.shape, generator=generator, device=generator.device)
        losses = []
        for rows, group in groups_by_length(tokens):
            text_embedding, sequence = self.encoded.text(group)
            condition = PriorCondition(text_embedding, sequence, group.mask, keep[rows])
            network = partial(model, condition=condition)
            losses.append(self.losses(network, x0[rows], steps[rows], noise[rows]))
        return torch.cat(losses).mean(), {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cosine of predicted to true embedding, and recall at 1 among the held-out pictures, by language.

        The text embedding itself and the mean embedding are the baselines.
        """
        assert isinstance(model, DiffusionPrior)
        truth = self.encoded.held_out_embeddings
        concepts = self.encoded.held_out.concepts
        figures = {
            "cosine_mean_embedding": float(truth @ F.normalize(model.whitening.mean, dim=0) @ _mean(truth))
        }
        for language, tokens in self.encoded.held_out.tokens.items():
            tokens = tokens.to(truth.device)
            text_embedding, sequence = self.encoded.text(tokens)
            keep = torch.ones(len(truth), dtype=torch.bool, device=truth.device)
            condition = PriorCondition(text_embedding, sequence, tokens.mask, keep)
            predicted = F.normalize(sample_prior(model, self.diffusion, condition, PREVIEW_STEPS), dim=1)
            for name, guess in (("", predicted), ("_text_embedding", text_embedding)):
                best = (guess @ truth.T).argmax(dim=1).cpu().numpy()
                figures[f"cosine{name}_{language}"] = float((guess * truth).sum(dim=1).mean())
                figures[f"recall_at_1{name}_{language}"] = float((concepts[best] == concepts).mean())
        return figures

    def preview(self, model: nn.Module) -> Image.Image | None:
        return None


def _mean(truth: Tensor) -> Tensor:
    """(N,) weights that average over N rows."""
    return torch.full((len(truth),), 1 / len(truth), device=truth.device)


@torch.no_grad()
def sample_prior(
    model: DiffusionPrior, diffusion: DiffusionConfig, condition: PriorCondition, steps: int
) -> Tensor:
    """(B, E) embeddings, unwhitened, without guidance, the same noise every time: for figures in training."""
    device = condition.text_embedding.device
    size = len(condition.text_embedding)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((size, model.config.embedding), generator=generator).to(device)
    x = _sample(lambda x, label: model(x, label, condition), diffusion, x, steps)
    return model.whitening.unwhiten(x)


# --- decoder


@dataclass(frozen=True)
class DecoderTaskConfig:
    """How the decoder is trained.

    Attributes:
        image_drop, text_drop: for classifier-free guidance (section 2.1 of 2204.06125: 0.1 and 0.5).
        embedding_noise: the embedding is noised by a level drawn from 0 to this, so that the decoder
            forgives what the prior gets wrong.
        weighting: of the loss over noise levels.
    """

    image_drop: float = 0.1
    text_drop: float = 0.5
    embedding_noise: float = 0.0
    weighting: Weighting = Weighting.UNIFORM
    pictures: PicturesConfig = field(default_factory=PicturesConfig)


class DecoderTask(DiffusionTask):
    """Section 2.1 of 2204.06125: the picture from its CLIP embedding and its caption."""

    name = "decoder"
    model: Decoder
    task: DecoderTaskConfig

    def __init__(
        self,
        model: DecoderConfig,
        task: DecoderTaskConfig,
        diffusion: DiffusionConfig,
        encoded: Encoded,
        tokenizer: Tokenizer,
        train: Corpus,
    ) -> None:
        super().__init__(diffusion)
        self.model = Decoder(model)
        self.model.whitening.fit(encoded.embeddings)
        self.task = task
        self.encoded = encoded
        context = encoded.clip.config.text.context
        self.pictures = Pictures(train, task.pictures, tokenizer, context, model.image_size)

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tokens]:
        drawn = self.pictures.draw(size, generator)
        return (
            from_uint8(drawn.pixels),
            self.encoded.embeddings[torch.from_numpy(drawn.position)],
            drawn.tokens,
        )

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor, Tokens], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        images, embedding, tokens = batch
        size, device = len(images), images.device
        whitened = self.model.whitening.whiten(embedding)
        level = None
        if self.task.embedding_noise:
            level = self.task.embedding_noise * torch.rand(size, generator=generator, device=device)
            noise = torch.randn(whitened.shape, generator=generator, device=generator.device)
            whitened = noise_embedding(whitened, noise, level)
        condition = DecoderCondition(
            embedding=whitened,
            keep_image=_keep(size, self.task.image_drop, generator),
            sequence=self.encoded.text(tokens)[1],
            ids=tokens.ids,
            mask=tokens.mask,
            keep_text=_keep(size, self.task.text_drop, generator),
            noise_level=level,
        )
        steps = _steps(size, self.schedule, generator)
        noise = torch.randn(images.shape, generator=generator, device=generator.device)
        losses = self.losses(partial(model, condition=condition), images, steps, noise)
        return losses.mean(), {}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """What CLIP makes of pictures drawn from held-out embeddings and captions, without guidance.

        `cosine` to the true picture's embedding; `recall_at_1` of its concept among the held-out pictures.
        """
        choice = self._chosen(EVALUATED_DRAWINGS)
        drawn = self._from_held_out(model, choice)  # (M, 3, S, S)
        encoded = self.encoded
        side = encoded.clip.config.image.image_size
        embeddings = F.normalize(encoded.clip.encode_image(resize(drawn, side)).float(), dim=1)  # (M, E)
        truth = encoded.held_out_embeddings
        best = (embeddings @ truth.T).argmax(dim=1).cpu().numpy()
        concepts = encoded.held_out.concepts
        return {
            "cosine": float((embeddings * truth[choice]).sum(dim=1).mean()),
            "recall_at_1": float((concepts[best] == concepts[choice]).mean()),
        }

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-out pictures above, below what is drawn from their embeddings and captions."""
        choice = self._chosen(PREVIEW_PICTURES)
        drawn = self._from_held_out(model, choice)
        truth = self.encoded.held_out.images[choice]
        return contact_sheet([to_pil(image) for image in [*truth, *drawn]], columns=len(choice))

    def _chosen(self, count: int) -> np.ndarray:
        """Positions of so many held-out pictures, spread evenly; all of them where there are fewer."""
        total = len(self.encoded.held_out.images)
        return np.linspace(0, total - 1, min(count, total)).astype(int)

    def _from_held_out(self, model: nn.Module, choice: np.ndarray) -> Tensor:
        """(M, 3, S, S) drawn from the embeddings and English names of held-out pictures."""
        assert isinstance(model, Decoder)
        device = next(model.parameters()).device
        names = [self.encoded.held_out.names["en"][i] for i in choice]
        tokens = self.pictures.tokenizer.batch(names, self.pictures.context).to(device)
        condition = DecoderCondition(
            embedding=model.whitening.whiten(self.encoded.held_out_embeddings[choice]),
            keep_image=torch.ones(len(choice), dtype=torch.bool, device=device),
            sequence=self.encoded.text(tokens)[1],
            ids=tokens.ids,
            mask=tokens.mask,
        )
        side = model.config.image_size
        return _draw(
            partial(model, condition=condition), self.diffusion, (len(choice), 3, side, side), device
        )


def _draw(network: Network, diffusion: DiffusionConfig, shape: Sequence[int], device: torch.device) -> Tensor:
    """A batch from noise, without guidance, the same noise every time: for previews while training."""
    x = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(device)
    return _sample(network, diffusion, x, PREVIEW_STEPS).float().clamp(-1, 1)


def _sample(network: Network, diffusion: DiffusionConfig, x: Tensor, steps: int) -> Tensor:
    schedule = diffusion.build()
    schedule = schedule[respace(len(schedule), steps)]
    denoise = denoiser(network, schedule, diffusion.prediction, diffusion.learned_range)
    still = torch.zeros_like(x)  # DDIM without eta draws no noise
    return [step.x for step in ddim(denoise, x, lambda: still)][-1]


# --- upsamplers


@dataclass(frozen=True)
class UpsamplerTaskConfig:
    """How an upsampler is trained: on crops of `crop` pixels of the large picture, the small one degraded."""

    crop: int = 64
    degradation: Degradation = Degradation.BLUR
    weighting: Weighting = Weighting.UNIFORM


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
        super().__init__(diffusion)
        self.model = Upsampler(model)
        self.name = f"upsampler-{model.high_size}"
        self.task = task
        self.pictures = pictures

    def _crop(self, picture: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """(crop, crop, 3) of a picture, at a multiple of the scale."""
        crop, scale = self.task.crop, self.model.config.scale
        places = (len(picture) - crop) // scale + 1
        corners = torch.randint(places, (CROP_CANDIDATES, 2), generator=generator) * scale
        candidates = [picture[y : y + crop, x : x + crop] for y, x in corners.tolist()]
        return max(candidates, key=lambda candidate: float(candidate[::scale, ::scale].std()))

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        crops: list[np.ndarray] = []
        while len(crops) < size:
            picture = self.pictures[int(torch.randint(len(self.pictures), (), generator=generator))]
            count = min(CROPS_PER_PICTURE, size - len(crops))
            crops += [self._crop(picture, generator) for _ in range(count)]
        high = from_uint8(np.stack(crops))  # (B, 3, crop, crop)
        low = F.avg_pool2d(high, self.model.config.scale)  # (B, 3, crop / scale, crop / scale)
        return high, degrade(low, self.task.degradation, generator)

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        high, low = batch
        steps = _steps(len(high), self.schedule, generator)
        noise = torch.randn(high.shape, generator=generator, device=generator.device)
        losses = self.losses(partial(model, low=low), high, steps, noise)
        return losses.mean(), {}

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Crops enlarged by bicubic filtering above, drawn in the middle, the true ones below."""
        device = next(model.parameters()).device
        high, low = self.batch(PREVIEW_PICTURES, torch.Generator().manual_seed(0))
        on_device = low.to(device)
        drawn = _draw(lambda x, label: model(x, label, on_device), self.diffusion, high.shape, device)
        rows = [*enlarge(low, self.model.config.scale), *drawn, *high]
        return contact_sheet([to_pil(image) for image in rows], columns=PREVIEW_PICTURES)
