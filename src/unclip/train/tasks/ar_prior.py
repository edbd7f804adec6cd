"""The autoregressive prior's task: from a caption to the codes of the embedding of a picture (2204.06125)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.data.corpus import Corpus
from unclip.errors import InputError
from unclip.models.ar_prior import ArPrior, ArPriorConfig
from unclip.models.code_sampling import CodeSampling, draw_ordered, uniform_noise, write_codes
from unclip.models.embedding_codes import PrincipalComponents
from unclip.models.prior import PriorCondition
from unclip.runtime import noise_generator
from unclip.tokenizer import Tokenizer, Tokens
from unclip.train.encoded import Encoded
from unclip.train.loop import Judged, Task
from unclip.train.pictures import Pictures, PicturesConfig, groups_by_length
from unclip.train.places import Places
from unclip.train.results import Results
from unclip.train.settings import Settings
from unclip.train.tasks.diffusion import kept
from unclip.train.tasks.stage import StageTask

FITTED_PAIRS = 4096  # whose dot products the buckets are made from
FITTING_BATCH = 256


@dataclass(frozen=True)
class ArPriorTaskConfig:
    """The training of the prior.

    Attributes:
        text_drop: share of captions that are not read, for classifier-free guidance (section 2.2 of
            2204.06125: 0.1).
        variance: share of the embeddings' variance that the components keep; their number follows.
        pictures: which pictures, with which captions.
    """

    text_drop: float = 0.1
    variance: float = 0.99
    pictures: PicturesConfig = field(default_factory=PicturesConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.text_drop < 1:
            raise InputError(f"text_drop {self.text_drop}: choose from 0 to below 1")


class ArPriorTask(StageTask):
    """Section 2.2 of 2204.06125: each code of an image embedding from the caption and the codes before."""

    name = "ar-prior"
    model: ArPrior
    task: ArPriorTaskConfig

    def __init__(
        self,
        model: ArPriorConfig,
        task: ArPriorTaskConfig,
        components: PrincipalComponents,
        encoded: Encoded,
        tokenizer: Tokenizer,
        train: Corpus,
    ) -> None:
        self.model = ArPrior(model)
        self.model.codes.fit_(components)
        self.task = task
        self.encoded = encoded
        self.tokenizer = tokenizer
        size = encoded.clip.config.image.image_size
        self.pictures = Pictures(train, task.pictures, tokenizer, model.context, size)
        self.codes = self.model.codes.encode(encoded.embeddings).to(torch.int32)  # (N, K)
        self.model.dot_products.fit_(self._dot_products(FITTED_PAIRS))

    def batch(self, places: Places) -> tuple[Tensor, Tensor, Tokens]:
        index, captions, _ = self.pictures.choose(places)
        rows = torch.from_numpy(index)
        tokens = self.tokenizer.batch(captions, self.pictures.context)
        return self.encoded.embeddings[rows], self.codes[rows].long(), tokens

    def loss(
        self, model: nn.Module, batch: tuple[Tensor, Tensor, Tokens], places: Places
    ) -> tuple[Tensor, dict[str, Tensor]]:
        embedding, codes, tokens = batch
        keep = kept(places, self.task.text_drop)
        losses = []
        for rows, group in groups_by_length(tokens):
            text_embedding, sequence = self.encoded.text(group)
            condition = PriorCondition(text_embedding, sequence, group.mask, keep[rows])
            dot = self.model.dot_products.encode((embedding[rows] * text_embedding).sum(dim=1))
            logits = model(codes[rows], condition, dot)  # (B, K, buckets)
            losses.append(_nats(logits, codes[rows]))
        return torch.cat(losses).mean(), {}

    @property
    def judged(self) -> Judged:
        return self.encoded.held_out.judged

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """The loss on held-out pictures and the similarity of samples to them, by language.

        Nats a code, with the caption and without; cosine of a plain sample to the true embedding, and whether
        the held-out picture that is nearest to it shows the concept.
        """
        assert isinstance(model, ArPrior)
        truth = self.encoded.held_out_embeddings
        codes = model.codes.encode(truth)
        restored = F.normalize(model.codes.decode(codes), dim=1)
        figures = {"cosine_of_codes": float((restored * truth).sum(dim=1).mean())}
        for language, tokens in self.encoded.held_out.tokens.items():
            condition = self._condition(tokens.to(truth.device))
            dot = model.dot_products.encode((truth * condition.text_embedding).sum(dim=1))
            figures[f"nats_a_code_{language}"] = float(_nats(model(codes, condition, dot), codes).mean())
            guess = F.normalize(sample_codes(model, condition), dim=1)
            figures[f"cosine_{language}"] = float((guess * truth).sum(dim=1).mean())
            figures[f"recall_at_1_{language}"] = self.encoded.recall(guess)
        dropped = condition.dropped()
        figures["nats_a_code_without_caption"] = float(_nats(model(codes, dropped, dot), codes).mean())
        return figures

    def _condition(self, tokens: Tokens) -> PriorCondition:
        text_embedding, sequence = self.encoded.text(tokens)
        keep = torch.ones(len(sequence), dtype=torch.bool, device=sequence.device)
        return PriorCondition(text_embedding, sequence, tokens.mask, keep)

    def _dot_products(self, count: int) -> Tensor:
        """Of so many training pairs, drawn as in training, (count,)."""
        device = next(self.encoded.clip.parameters()).device
        found = []
        for step in range(count // FITTING_BATCH):
            embedding, _, tokens = self.batch(Places.whole(FITTING_BATCH, step=step))
            text_embedding, _ = self.encoded.text(tokens.to(device))
            found.append((embedding * text_embedding.cpu()).sum(dim=1))
        return torch.cat(found)


def _nats(logits: Tensor, codes: Tensor) -> Tensor:
    """(B,) mean cross-entropy of codes (B, K)."""
    return F.cross_entropy(logits.float().transpose(1, 2), codes, reduction="none").mean(dim=1)


@torch.no_grad()
def sample_codes(model: ArPrior, condition: PriorCondition) -> Tensor:
    """(B, E) embeddings, without guidance, the same noise every time: for figures in training."""
    device = condition.text_embedding.device
    generators = [noise_generator(0, index, "evaluate") for index in range(len(condition.keep))]
    noise = uniform_noise(generators, device)
    step = partial(model.step, model.begin(condition, model.dot_products.top_half(noise()[:, 0])))
    codes = write_codes(step, model.config.components, noise, CodeSampling(), draw_ordered)
    return model.codes.decode(torch.stack(list(codes), dim=1))


def settings_of(run: Results, stage: str) -> Settings:
    """With as many components as there can be: how many are kept is known once there are embeddings."""
    settings, clip = run.part(stage, "task", ArPriorTaskConfig), run.config("clip", stage)
    if "components" in run.recipe[stage].get("model", {}):
        raise InputError(f"{stage}.model.components follows from {stage}.task.variance: leave it out")
    sizes = {
        "embedding": clip.embedding,
        "text_width": clip.text.width,
        "components": clip.embedding,
    }
    return Settings(run.part(stage, "model", ArPriorConfig, **sizes), settings)


def task_of(run: Results, stage: str) -> Task:
    encoded = Encoded.of(run)
    most, settings, _ = settings_of(run, stage)
    components = PrincipalComponents.of(encoded.embeddings)
    model = replace(most, components=components.count(settings.variance))
    return ArPriorTask(model, settings, components, encoded, run.tokenizer(), run.train)
