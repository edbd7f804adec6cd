"""The decoder's task: the picture from its CLIP embedding and its caption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from unclip.config import to_dict
from unclip.data.corpus import Corpus
from unclip.diffusion.loss import Weighting
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.images import from_uint8, resize
from unclip.models.decoder import Decoder, DecoderCondition, DecoderConfig, noise_embedding
from unclip.models.layout import Layout
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.augmentation import LABELS, augmented
from unclip.train.encoded import Encoded
from unclip.train.loop import Judged, Task
from unclip.train.masks import random_masks
from unclip.train.pictures import Pictures, PicturesConfig, spread
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.starting import begun_decoder, start_config
from unclip.train.tasks.diffusion import DiffusionTask, check_grid, draw, kept
from unclip.train.tasks.stage import PREVIEW_PICTURES, rows_of_pictures

EVALUATED_DRAWINGS = 128  # pictures that a decoder draws to be judged while it trains
EVALUATED_NOISES = 4  # times that the loss of those pictures is taken, with other noise
EMBEDDED, WHITENED_BY = 256, 16  # captions in a batch, and batches, that text embeddings are whitened by


class Conditioning(StrEnum):
    """The embedding that a decoder learns to draw from."""

    IMAGE = "image"  # the embedding of the picture: unCLIP
    TEXT = "text"  # the embedding of its caption: part (a) of the ablation of 2204.06125, section 5.1


@dataclass(frozen=True)
class DecoderTaskConfig:
    """The training of the decoder.

    Attributes:
        conditioning: which of CLIP's embeddings it gets.
        image_drop, text_drop: for classifier-free guidance (section 2.1 of 2204.06125: 0.1 and 0.5).
        embedding_noise: the embedding is noised by a level drawn from 0 to this, so that the decoder
            forgives what the prior gets wrong.
        weighting: of the loss over noise levels.
        whole: share of the pictures that a decoder with `inpainting` draws whole; it fills in the others.
        augment: share of the pictures that are mirrored, scaled, stretched, turned and moved, each by itself
            (0.12 in appendix F.2 of 2206.00364); the decoder is told which and how much.
    """

    conditioning: Conditioning = Conditioning.IMAGE
    image_drop: float = 0.1
    text_drop: float = 0.5
    embedding_noise: float = 0.0
    weighting: Weighting = Weighting.UNIFORM
    whole: float = 0.15
    augment: float = 0.0
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        for name in ("image_drop", "text_drop", "embedding_noise", "whole", "augment"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise InputError(f"{name}: got {share}, allowed is a share from 0 to 1")


class DecoderBatch(NamedTuple):
    """A batch that a decoder learns from."""

    images: Tensor  # (B, 3, S, S) in [-1, 1]
    embeddings: Tensor  # (B, E) of the pictures in the corpus
    tokens: Tokens
    augmentation: Tensor | None  # (B, 7) what was done to the pictures since


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
        layout: Layout | None = None,
        start: str | None = None,
    ) -> None:
        """`layout` is one trained on these embeddings, which becomes the decoder's; it stays as it is.

        `start` is a bundle, by name or folder, or a weight file, whose decoder training begins with (see
        `begun_decoder`); None is anew.
        """
        super().__init__(diffusion, task.weighting)
        self.model = Decoder(model) if start is None else begun_decoder(start, model, layout)
        if layout is not None:
            assert self.model.layout is not None
            self.model.layout.load_state_dict(layout.state_dict())
        if self.model.layout is not None:
            self.model.layout.requires_grad_(False)  # trained on, it forgets: docs/training-log.md
        self.task = task
        self.encoded = encoded
        context = encoded.clip.config.text.context
        self.pictures = Pictures(train, task.pictures, tokenizer, context, model.image_size)
        # a new layout was fitted to embeddings whitened by these; finished weights know image embeddings
        if start is None or layout is not None or task.conditioning is Conditioning.TEXT:
            self.model.whitening.fit_(self._whitened_by())

    def _whitened_by(self) -> Tensor:
        """(N, E) embeddings of the kind that the decoder is conditioned on."""
        if self.task.conditioning is Conditioning.IMAGE:
            return self.encoded.embeddings
        device = next(self.encoded.clip.parameters()).device
        batches = [self.pictures.draw(Places.whole(EMBEDDED, step=k)).tokens for k in range(WHITENED_BY)]
        return torch.cat([self.encoded.text(tokens.to(device))[0].cpu() for tokens in batches])

    def batch(self, places: Places) -> DecoderBatch:
        drawn = self.pictures.draw(places)
        images, labels = from_uint8(drawn.pixels), None
        if self.task.augment:
            images, labels = augmented(images, self.task.augment, places)
        embeddings = self.encoded.embeddings[torch.from_numpy(drawn.position)]
        return DecoderBatch(images, embeddings, drawn.tokens, labels)

    def loss(self, model: nn.Module, batch: DecoderBatch, places: Places) -> tuple[Tensor, dict[str, Tensor]]:
        images, embedding, tokens, labels = batch
        if labels is not None and self.task.conditioning is Conditioning.IMAGE:
            embedding = self._embedded(images, embedding, labels.any(dim=1))
        text_embedding, sequence = self.encoded.text(tokens)
        if self.task.conditioning is Conditioning.TEXT:
            embedding = text_embedding
        whitened = self.model.whitening.whiten(embedding)
        level = None
        if self.task.embedding_noise:
            level = self.task.embedding_noise * places.rand()
            whitened = noise_embedding(whitened, places.randn(whitened.shape[1]), level)
        condition = DecoderCondition(
            embedding=whitened,
            keep_image=kept(places, self.task.image_drop),
            sequence=sequence,
            ids=tokens.ids,
            mask=tokens.mask,
            keep_text=kept(places, self.task.text_drop),
            noise_level=level,
            augmentation=labels,
        )
        if self.model.config.inpainting:
            keep = random_masks(places, images.shape[-1], self.task.whole)
            condition = replace(condition, known=images, keep=keep)
        steps, noise = self.noise(images, places)
        losses = self.losses(partial(model, condition=condition), images, steps, noise)
        return losses.mean(), {}

    @torch.no_grad()
    def _embedded(self, images: Tensor, embeddings: Tensor, changed: Tensor) -> Tensor:
        """Embeddings (B, E), those of the pictures that are `changed` (B,) anew."""
        clip, rows = self.encoded.clip, changed.nonzero().squeeze(1)
        if not len(rows):
            return embeddings
        resized = resize(images[rows], clip.config.image.image_size)
        return embeddings.index_copy(0, rows, F.normalize(clip.encode_image(resized).float(), dim=1))

    @property
    def judged(self) -> Judged:
        return self.encoded.held_out.judged._replace(
            of_pictures=min(EVALUATED_DRAWINGS, len(self.encoded.held_out.images))
        )

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """CLIP's judgement of pictures drawn from held-out embeddings and captions, without guidance.

        `cosine` to the true picture's embedding; `recall_at_1` of its concept among the held-out pictures;
        `minus_loss`, of these pictures with the same noise every time: it sees the style that CLIP does not.
        """
        choice = spread(len(self.encoded.held_out.images), EVALUATED_DRAWINGS)
        drawn = self._from_held_out(model, choice)  # (M, 3, S, S)
        encoded = self.encoded
        side = encoded.clip.config.image.image_size
        embeddings = F.normalize(encoded.clip.encode_image(resize(drawn, side)).float(), dim=1)  # (M, E)
        truth = encoded.held_out_embeddings[choice]
        return {
            "cosine": float((embeddings * truth).sum(dim=1).mean()),
            "recall_at_1": encoded.recall(embeddings, choice),
            "minus_loss": -self._held_out_loss(model, choice),
        }

    def _held_out_loss(self, model: nn.Module, choice: np.ndarray) -> float:
        """The mean loss of held-out pictures by their English names, a few times with noise of its own."""
        encoded, device = self.encoded, next(model.parameters()).device
        names = [encoded.held_out.names["en"][i] for i in choice]
        batch = DecoderBatch(
            resize(encoded.held_out.images[choice].to(device), self.model.config.image_size),
            encoded.held_out_embeddings[choice],
            self.pictures.tokenizer.batch(names, self.pictures.context).to(device),
            None,
        )
        losses = [
            self.loss(model, batch, Places.whole(len(choice), step=turn, device=device))[0]
            for turn in range(EVALUATED_NOISES)
        ]
        return float(torch.stack(losses).mean())

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """Held-out pictures above, below what is drawn from their embeddings and captions.

        A decoder that fills in is given what stands above in colour; what is missing there is grey.
        """
        choice = spread(len(self.encoded.held_out.images), PREVIEW_PICTURES)
        truth = self.encoded.held_out.images[choice]
        keep = None
        if self.model.config.inpainting:
            truth = resize(truth, self.model.config.image_size)
            keep = random_masks(Places.whole(len(choice)), truth.shape[-1], 0.0).to(truth)
            truth = truth * keep
        drawn = self._from_held_out(model, choice, None if keep is None else (truth, keep))
        return rows_of_pictures(truth, drawn)

    def _from_held_out(
        self, model: nn.Module, choice: np.ndarray, seen: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(M, 3, S, S) drawn from the embeddings and English names of held-out pictures.

        `seen` is what of them is to be filled in, (M, 3, S, S), and the masks (M, 1, S, S).
        """
        assert isinstance(model, Decoder)
        device = next(model.parameters()).device
        names = [self.encoded.held_out.names["en"][i] for i in choice]
        tokens = self.pictures.tokenizer.batch(names, self.pictures.context).to(device)
        text_embedding, sequence = self.encoded.text(tokens)
        image = self.task.conditioning is Conditioning.IMAGE
        embedding = self.encoded.held_out_embeddings[choice] if image else text_embedding
        condition = DecoderCondition(
            embedding=model.whitening.whiten(embedding),
            keep_image=torch.ones(len(choice), dtype=torch.bool, device=device),
            sequence=sequence,
            ids=tokens.ids,
            mask=tokens.mask,
        )
        if seen is not None:
            known, keep = (part.to(device) for part in seen)
            condition = replace(condition, known=known, keep=keep)
        side = model.config.image_size
        return draw(partial(model, condition=condition), self.diffusion, (len(choice), 3, side, side), device)


def settings_of(run: Results, stage: str) -> Settings:
    diffusion, settings = (
        run.part(stage, "diffusion", DiffusionConfig),
        run.part(stage, "task", DecoderTaskConfig),
    )
    said, start = run.recipe[stage].get("model", {}), run.recipe[stage].get("start")
    clip = run.config("clip", stage)
    sizes: dict[str, Any] = {"embedding": clip.embedding, "learned_range": diffusion.learned_range}
    if settings.augment:
        sizes["augmentation"] = LABELS
    if "layout" in run.recipe:
        sizes["layout"] = to_dict(run.config("layout", stage))
    if start is not None:  # what the recipe does not say is as it was
        own = start_config(start, "decoder", f"{stage}.start: {start}")
        sizes = {name: value for name, value in to_dict(own).items() if name not in said} | sizes
    elif "caption" not in said:
        sizes["text_width"] = clip.text.width
    else:
        sizes["caption"] = {"vocabulary": run.ids().vocabulary}
    model = run.part(stage, "model", DecoderConfig, **sizes)
    check_grid(f"{stage}.model", model.image_size, model.patch, len(model.multipliers))
    return Settings(model, settings, diffusion)


def task_of(run: Results, stage: str) -> Task:
    encoded, tokenizer = Encoded.of(run), run.tokenizer()
    layout = run.model("layout") if "layout" in run.recipe else None
    assert layout is None or isinstance(layout, Layout)
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    start = run.recipe[stage].get("start")
    return DecoderTask(model, settings, diffusion, encoded, tokenizer, run.train, layout, start)
