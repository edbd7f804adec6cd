"""CLIP's task: which caption belongs to which picture of the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.corpus import EVERYTHING, Corpus
from unclip.errors import InputError
from unclip.images import from_uint8
from unclip.models.clip import CLIP, CLIPConfig
from unclip.models.clip_loss import (
    clip_loss,
    in_parts,
    same_concept,
    sigmoid_loss,
    supervised_contrastive_loss,
    text_keys,
)
from unclip.models.noised_clip import NoisedCLIP
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.encoded import embeddings
from unclip.train.loop import Judged, Task
from unclip.train.pictures import HeldOut, Pictures, PicturesConfig, spread, text_by_length
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.starting import finished, take_weights_
from unclip.train.tasks.stage import StageTask
from unclip.train.teacher import (
    Likeness,
    Teacher,
    TeacherConfig,
    Words,
    among_pictures,
    check_there,
    directions,
    projected,
)

WORDS_OF_MIDDLE = 2048  # whose embeddings tell the middle of all texts


class Contrast(StrEnum):
    CLIP = "clip"  # symmetric cross entropy
    SIGLIP = "siglip"
    SUPERVISED = "supervised"


class Splits(StrEnum):
    TRAIN = "train"
    ALL = "all"  # held-out ones too: for a judge of others, whose own figures then say nothing


@dataclass(frozen=True)
class CLIPTaskConfig:
    """The training of CLIP.

    Attributes:
        contrast: which loss.
        positives: pictures of one concept, or of one caption, are no negatives of each other's captions.
        part: pairs that are encoded at once, for batches that memory does not hold (see
            `clip_loss.in_parts`); None is all of the batch.
        splits: of the corpus that are learned from.
        locked: the image encoder stays as it is begun with and the text encoder learns alone, from embeddings
            that are computed once (LiT, 2111.07991): what was trained on those stays valid.
        teacher: the second loss, by the words of a teacher of language; None is the contrastive one alone.
        pictures: which of their pictures, with which captions.
    """

    contrast: Contrast = Contrast.CLIP
    positives: bool = True
    part: int | None = None
    splits: Splits = Splits.TRAIN
    locked: bool = False
    teacher: TeacherConfig | None = None
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if self.part is not None and self.part < 1:
            raise InputError(f"part {self.part}: encode 1 pair or more at once, or null for all")
        if self.locked and self.pictures.shift:
            raise InputError(
                f"shift {self.pictures.shift}: locked, pictures are encoded once and never moved, so say 0"
            )
        if self.teacher is not None and self.locked != (self.teacher.likeness is Likeness.PICTURES):
            raise InputError(
                f"teacher.likeness {self.teacher.likeness.value!r} with locked {self.locked}: a locked image "
                "encoder cannot come along to the teacher's space, so say 'pictures' there, and nowhere else"
            )


class Pairs(NamedTuple):
    """Pictures and their captions."""

    images: Tensor  # (B, 3, S, S) in [-1, 1]; of a locked encoder (B, E), its embeddings
    tokens: Tokens
    concepts: Tensor  # (B,) int64, the same for pictures of one thing


def check_bias(task: CLIPTaskConfig, biased: bool) -> None:
    """Refuse a loss for a model that lacks the bias which the loss has, or has one that it lacks."""
    if (task.contrast is Contrast.SIGLIP) != biased:
        raise InputError(
            f"contrast {task.contrast.value!r} with logit_bias {biased}: "
            "the sigmoid loss has a bias, and no other has one"
        )


class ContrastiveTask(StageTask, ABC):
    """The matching of captions to the pictures of a batch, as two encoders see them."""

    accumulates = False  # every pair of the batch counts
    model: CLIP | NoisedCLIP
    task: CLIPTaskConfig

    def __init__(
        self,
        model: CLIP | NoisedCLIP,
        task: CLIPTaskConfig,
        tokenizer: Tokenizer,
        train: Corpus,
        held_out: Corpus,
    ) -> None:
        check_bias(task, model.logit_bias is not None)
        self.model = model
        self.task = task
        size, context = model.config.image.image_size, model.config.text.context
        self.pictures = Pictures(train, task.pictures, tokenizer, context, size)
        self.held_out = HeldOut(held_out, tokenizer, context, size)

    @abstractmethod
    def images(self, model: nn.Module, images: Tensor, places: Places) -> Tensor:
        """Embeddings (B, E) of the pictures of a batch (B, 3, S, S)."""

    @abstractmethod
    def texts(self, model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        """Embeddings (B, E) of captions (B, L)."""

    def pairs(self, places: Places) -> Pairs:
        """Pictures and captions for the places of a batch."""
        drawn = self.pictures.draw(places)
        concept = torch.from_numpy(self.pictures.concepts[drawn.position])  # (B,)
        return Pairs(from_uint8(drawn.pixels), drawn.tokens, concept)

    def batch(self, places: Places) -> Any:
        return self.pairs(places)

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Tensor]]:
        images, tokens, concept = batch
        assert isinstance(model, CLIP | NoisedCLIP)
        scale, bias = model.scale, model.logit_bias
        image = self.images(model, images, places)
        text = text_by_length(partial(self.texts, model), tokens, self.task.part)
        group = dist.group.WORLD if dist.is_initialized() else None
        positives = None
        if self.task.positives:
            texts = text_keys(tokens.ids, tokens.mask)  # (B,)
            positives = same_concept(concept, group) | same_concept(texts, group)  # (B, M)
        if self.task.contrast is Contrast.SIGLIP:
            assert bias is not None  # checked when the task was made
            loss = sigmoid_loss(image, text, scale, bias, positives=positives, group=group)
        elif self.task.contrast is Contrast.SUPERVISED:
            both, labels = torch.cat([image, text]), torch.cat([concept, concept])  # (2B, E), (2B,)
            loss = supervised_contrastive_loss(both, labels, scale, group=group)
        else:
            loss = clip_loss(image, text, scale, positives=positives, group=group)
        return loss, {"scale": scale.detach()}

    @property
    def judged(self) -> Judged:
        return self.held_out.judged

    def similarities(self, model: nn.Module, images: Tensor, known: HeldOut) -> dict[str, Tensor]:
        """Cosines (N, N) of the names of held-out pictures to those pictures (N, E), by language."""
        images, found = F.normalize(images, dim=1), {}
        for language, tokens in known.tokens.items():
            tokens = tokens.to(images.device)
            found[language] = F.normalize(self.texts(model, tokens.ids, tokens.mask), dim=1) @ images.T
        return found

    def recall(self, model: nn.Module, images: Tensor) -> dict[str, float]:
        """Recall at 1 of the right one among held-out pictures (N, E), by name, for each language."""
        found = self.similarities(model, images, self.held_out)
        return {f"recall_at_1_{language}": self.held_out.recall(table) for language, table in found.items()}


class CLIPTask(ContrastiveTask):
    """Section 2.3 of 2103.00020."""

    name = "clip"

    def __init__(
        self,
        model: CLIPConfig,
        task: CLIPTaskConfig,
        tokenizer: Tokenizer,
        train: Corpus,
        held_out: Corpus,
        unseen: Corpus | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """`unseen` is of concepts that are not learned from, which evaluations look at as well.

        `teacher` has a second loss; None is the contrast alone.
        """
        super().__init__(CLIP(model), task, tokenizer, train, held_out)
        self.teacher = teacher
        self.unseen = None
        if unseen is not None and len(unseen):
            self.unseen = HeldOut(unseen, tokenizer, model.text.context, model.image.image_size)

    def images(self, model: nn.Module, images: Tensor, places: Places) -> Tensor:
        assert isinstance(model, CLIP)
        part = self.task.part
        return in_parts(model.encode_image, part, images) if part else model.encode_image(images)

    def texts(self, model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        assert isinstance(model, CLIP)
        return model.encode_text(ids, mask).embedding

    def batch(self, places: Places) -> Any:
        return self.pairs(places), None if self.teacher is None else self.teacher.lesson(places)

    def loss(self, model: nn.Module, batch: Any, places: Places) -> tuple[Tensor, dict[str, Tensor]]:
        pairs, lesson = batch
        contrast, parts = super().loss(model, pairs, places)
        if self.teacher is None:
            return contrast, parts
        texts = text_by_length(partial(self.texts, model), lesson.tokens, self.task.part)
        taught = self.teacher.loss(texts, lesson.targets)
        about = {"contrast": contrast.detach(), "teacher": taught.detach()}
        return contrast + self.teacher.config.weight * taught, {**parts, **about}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Recall at 1 of the right picture among the held-out ones, by name and language.

        Of unseen concepts too: a CLIP that learns its concepts by heart goes on to gain by the others, and
        loses by these. The figure of all languages, `unseen_concepts_recall_at_1`, takes each concept alike.
        """
        assert isinstance(model, CLIP)
        device = next(model.parameters()).device
        figures = self.recall(model, model.encode_image(self.held_out.images.to(device)))
        if (unseen := self.unseen) is not None:
            found = self.similarities(model, model.encode_image(unseen.images.to(device)), unseen)
            for language, table in found.items():
                figures[f"unseen_concepts_recall_at_1_{language}"] = unseen.recall(table)
            every = [unseen.recall(table, by_concept=True) for table in found.values()]
            figures["unseen_concepts_recall_at_1"] = fmean(every)
        return figures


class LockedCLIPTask(CLIPTask):
    """Locked-image tuning (2111.07991): texts learn where a finished image encoder puts their pictures."""

    def __init__(
        self,
        clip: CLIP,
        embeddings: Tensor,
        task: CLIPTaskConfig,
        tokenizer: Tokenizer,
        train: Corpus,
        held_out: Corpus,
        unseen: Corpus | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """`embeddings` (N, E) are those of the training pictures, by the image encoder of `clip`."""
        super().__init__(clip.config, task, tokenizer, train, held_out, unseen, teacher)
        self.model.load_state_dict(clip.state_dict())
        self.model.visual.requires_grad_(False)
        self.embeddings = embeddings

    def pairs(self, places: Places) -> Pairs:
        position, captions, _ = self.pictures.choose(places)
        tokens = self.pictures.tokenizer.batch(captions, self.pictures.context)
        concept = torch.from_numpy(self.pictures.concepts[position])  # (B,)
        return Pairs(self.embeddings[torch.from_numpy(position)], tokens, concept)

    def images(self, model: nn.Module, images: Tensor, places: Places) -> Tensor:
        return images


def settings_of(run: Results, stage: str) -> Settings:
    vocabulary, end = run.ids()
    model = run.part(stage, "model", CLIPConfig, text={"vocabulary": vocabulary}, end_token=end)
    settings = run.part(stage, "task", CLIPTaskConfig)
    check_bias(settings, model.logit_bias)
    if settings.teacher is not None:
        check_there(run.train.file(settings.teacher.file))
    if settings.locked and run.recipe[stage].get("start") is None:
        raise InputError(
            f"{stage}.task.locked: a locked image encoder needs {stage}.start, which it begins with"
        )
    return Settings(model, settings)


def task_of(run: Results, stage: str) -> Task:
    tokenizer = run.tokenizer()
    model, settings, _ = settings_of(run, stage)
    corpus = run.train.of(EVERYTHING) if settings.splits is Splits.ALL else run.train
    pictures = (corpus, run.held_out, run.unseen_concepts)
    if not settings.locked:
        teacher = None
        if settings.teacher is not None:
            words = Words.load(corpus.file(settings.teacher.file))
            targets = projected(directions(words), model.embedding)
            teacher = Teacher(words, targets, settings.teacher, tokenizer, model.text.context)
        return CLIPTask(model, settings, tokenizer, *pictures, teacher)
    start = str(run.recipe[stage]["start"])
    clip = CLIP(model)
    take_weights_(clip, finished(start, "clip"), f"{stage}.start: {start}")
    seen = embeddings(run, clip, corpus)
    teacher = (
        None if settings.teacher is None else _of_pictures(settings.teacher, clip, seen, corpus, tokenizer)
    )
    return LockedCLIPTask(clip, seen, settings, tokenizer, *pictures, teacher)


def _of_pictures(
    config: TeacherConfig, clip: CLIP, seen: Tensor, corpus: Corpus, tokenizer: Tokenizer
) -> Teacher:
    """The teacher of a locked CLIP, whose pictures have the embeddings `seen` (N, E)."""
    words = Words.load(corpus.file(config.file))
    targets = among_pictures(words, corpus, seen.numpy())
    context = clip.config.text.context
    some = [words.said[place].text for place in spread(len(words.said), WORDS_OF_MIDDLE)]
    tokens = tokenizer.batch(some, context)
    with torch.no_grad():
        texts = clip.eval().encode_text(tokens.ids, tokens.mask).embedding.float()
    middle = F.normalize(texts, dim=1).mean(dim=0)
    return Teacher(words, targets, config, tokenizer, context, middle)
