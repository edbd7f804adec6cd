"""The stages that a recipe can have: their order, what they are made from, and the keys of their tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unclip.errors import InputError

# The stages that train a network, in order: the file of `train/tasks/` whose `task_of(run, stage)` makes the
# task, and whose `settings_of(run, stage)` reads what it is made by. Files and not functions: they import the
# run, and a stage loads no networks but its own.
TASKS = {
    "supervised": "supervised",
    "clip": "clip",
    "vqvae": "vqvae",
    "dalle1": "dalle1",
    "prior": "prior",
    "ar-prior": "ar_prior",
    "noised-clip": "noised_clip",
    "glide": "glide",
    "classifier": "classifier",
    "adm": "adm",
    "upsampler-256": "upsampler",
    "upsampler-1024": "upsampler",
    "layout": "layout",
    "decoder": "decoder",
}
TOKENIZER, BUNDLE = "tokenizer", "bundle"
STAGES = (TOKENIZER, *TASKS, BUNDLE)
# The stages whose results a stage is trained on, if the recipe has them.
NEEDS: dict[str, tuple[str, ...]] = {
    "clip": (TOKENIZER,),
    "dalle1": (TOKENIZER, "vqvae"),
    "prior": (TOKENIZER, "clip"),
    "ar-prior": (TOKENIZER, "clip"),
    "noised-clip": (TOKENIZER,),
    "glide": (TOKENIZER,),
    "layout": (TOKENIZER, "clip"),
    "decoder": (TOKENIZER, "clip", "layout"),
}
GUIDES = ("noised-clip", "classifier")  # over the noise levels of the model that they guide
WRITES_CODES = ("dalle1", "ar-prior")  # stages whose sampling is that of codes
COMPONENTS = {"vqvae": "codec", "dalle1": "transformer"}  # what the stages' weights are called in a bundle
FITTED_ANEW = ("layout", "ar-prior")  # to the embeddings of the run's CLIP, which their weights come from
LEAST_VOCABULARY, MOST_VOCABULARY = 259, 2**24  # the special tokens and the bytes; more no network has


@dataclass(frozen=True)
class TokenizerStage:
    """The making of the tokenizer: byte-level BPE of so many ids over all captions of the training split."""

    vocabulary: int = 8192
    temperature: float = 1.0  # of the languages' shares, see `data.captions.caption`

    def __post_init__(self) -> None:
        if not LEAST_VOCABULARY <= self.vocabulary <= MOST_VOCABULARY:
            raise InputError(
                f"vocabulary {self.vocabulary}: choose from {LEAST_VOCABULARY} to {MOST_VOCABULARY}"
            )
        if not self.temperature > 0:
            raise InputError(f"temperature: got {self.temperature}, allowed is a number above 0")


@dataclass(frozen=True)
class StageTables:
    """The keys of a stage that trains a network.

    Attributes:
        model, task, train, diffusion, sampling: tables, each read by a class of its own.
        start: weights that training begins with, of a bundle (by name or folder) or a weight file.
        weights: which result counts, raw, ema-0, ema-1 ... or best; None is the best where `train.best` is
            given, else the first moving average.
        old_weights: share of `start` in the mean that the result is.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    diffusion: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    weights: str | None = None
    old_weights: float = 0.0
