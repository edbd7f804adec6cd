"""The prior's task: from a caption to the embedding of a picture that it could belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.diffusion.loss import Weighting
from unclip.diffusion.schedule import DiffusionConfig
from unclip.errors import InputError
from unclip.models.prior import DiffusionPrior, PriorCondition, PriorConfig
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.encoded import Encoded
from unclip.train.loop import Judged, Task
from unclip.train.pictures import Pictures, PicturesConfig, groups_by_length
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.diffusion import PREVIEW_STEPS, DiffusionTask, kept, sample


@dataclass(frozen=True)
class PriorTaskConfig:
    """The training of the prior; `text_drop` is for classifier-free guidance (2204.06125, Table 3: 0.1)."""

    text_drop: float = 0.1
    weighting: Weighting = Weighting.UNIFORM
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.text_drop <= 1:
            raise InputError(f"text_drop: got {self.text_drop}, allowed is a share from 0 to 1")


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
        super().__init__(diffusion, task.weighting)
        self.model = DiffusionPrior(model)
        self.model.whitening.fit_(encoded.embeddings)
        self.task = task
        self.encoded = encoded
        self.pictures = Pictures(
            train, task.pictures, tokenizer, model.context, encoded.clip.config.image.image_size
        )

    def batch(self, places: Places) -> tuple[Tensor, Tokens]:
        drawn = self.pictures.draw(places)
        return self.encoded.embeddings[torch.from_numpy(drawn.position)], drawn.tokens

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tokens], places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        embedding, tokens = batch
        x0 = self.model.whitening.whiten(embedding)
        keep = kept(places, self.task.text_drop)
        steps, noise = self.noise(x0, places)
        losses = []
        for rows, group in groups_by_length(tokens):
            text_embedding, sequence = self.encoded.text(group)
            condition = PriorCondition(text_embedding, sequence, group.mask, keep[rows])
            network = partial(model, condition=condition)
            losses.append(self.losses(network, x0[rows], steps[rows], noise[rows]))
        return torch.cat(losses).mean(), {}

    @property
    def judged(self) -> Judged:
        return self.encoded.held_out.judged

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cosine of predicted to true embedding, and recall at 1 among the held-out pictures, by language.

        The text embedding itself and the mean embedding are the baselines.
        """
        assert isinstance(model, DiffusionPrior)
        truth = self.encoded.held_out_embeddings
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
                figures[f"cosine{name}_{language}"] = float((guess * truth).sum(dim=1).mean())
                figures[f"recall_at_1{name}_{language}"] = self.encoded.recall(guess)
        return figures


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
    x = sample(lambda x, label: model(x, label, condition), diffusion, x, steps)
    return model.whitening.unwhiten(x)


def settings_of(run: Results, stage: str) -> Settings:
    clip = run.config("clip", stage)
    model = run.part(stage, "model", PriorConfig, embedding=clip.embedding, text_width=clip.text.width)
    diffusion = run.part(stage, "diffusion", DiffusionConfig)
    return Settings(model, run.part(stage, "task", PriorTaskConfig), diffusion)


def task_of(run: Results, stage: str) -> Task:
    encoded = Encoded.of(run)
    model, settings, diffusion = settings_of(run, stage)
    assert diffusion is not None
    return PriorTask(model, settings, diffusion, encoded, run.tokenizer(), run.train)
