"""The recipe of a fit: a bundle's own networks and noise levels, and settings for few pictures."""

from __future__ import annotations

from typing import Any

from unclip.bundle import Bundle
from unclip.config import to_dict
from unclip.data.captions import OTHER
from unclip.errors import InputError
from unclip.manifest import TOKENIZER, Component
from unclip.train.fit.corpus import KEPT

STAGES = ("prior", "decoder")  # that are fine-tuned, in the order of training
TIME = {"prior": 0.2, "decoder": 0.8}  # shares of the time of both
BATCH = {"prior": 64, "decoder": 32}
RATE = {"prior": 3e-4, "decoder": 3e-4}  # learning rates
FIGURE = {"prior": "cosine_en", "decoder": "minus_loss"}  # that the best weights have the highest of
MEANING = {  # of these figures, for a person
    "prior": "how near the embeddings that it makes of held-out captions come to those pictures (cosine)",
    "decoder": "how well it gets the noise out of held-out pictures (minus the loss, so nearer to 0 is "
    "better)",
}
EVALUATIONS = 12  # of a stage
LEAST_STEPS, MOST_STEPS = 300, 6000  # where no time is given
STEPS, STEPS_A_PICTURE = 400, 6
KEPT_SHARE, MOST_SHARE = 0.3, 0.5  # of a batch that are drawings of the bundle; of the smallest folders
FEW, MANY = 50, 5000  # pictures: that are few; that need no drawings of the bundle beside them
EMBEDDING_NOISE, TEXT_DROP = 0.5, 0.3  # as the shipped bundle learns (recipes/pictograms.toml)
WHOLE = 0.85  # of the pictures are drawn whole, by a decoder that fills in


LOW_RANK_RATE = 1e-3  # learning rate of adapters, by AdamW


def check_base(base: Bundle) -> None:
    """Raises InputError for a bundle that cannot be fitted."""
    if base.family != "unclip" or "prior" not in base.components:
        lacks = " and has no diffusion prior" if base.family == "unclip" else ""
        raise InputError(
            f"{base.name} is of the family {base.family}{lacks}: `unclip fit` takes bundles of the family "
            "unclip with one, such as pictograms; `unclip train` trains all others"
        )


def steps_of(pictures: int) -> int:
    """The steps of each stage for so many pictures, where no time is given."""
    return max(LEAST_STEPS, min(MOST_STEPS, STEPS + STEPS_A_PICTURE * pictures))


def kept_share(pictures: int) -> float:
    """The share of a batch that the bundle's own drawings are, of a folder of so many pictures."""
    if pictures >= MANY:
        return 0.0
    return MOST_SHARE if pictures < FEW else KEPT_SHARE


def recipe_of(base: Bundle, source: str, kept: float, low_rank: bool = False) -> dict[str, Any]:
    """The recipe that fits a bundle, without the steps.

    Args:
        base: the bundle.
        source: its name or folder.
        kept: the share of a batch that are its drawings; 0 where there are none.
        low_rank: adapters beside the attention are trained, and nothing else.
    """
    recipe: dict[str, Any] = {
        "description": f"{base.name}, fitted to a folder of pictures",
        "family": base.family,
        TOKENIZER: {"bundle": source},
        "clip": {"bundle": source},
    }
    pictures: dict[str, Any] = {
        "languages": {"en": 0.4, "ko": 0.25, "de": 0.25, OTHER: 0.1},
        "shares": {KEPT: kept} if kept else {},
        "shift": 2,
    }
    prior, decoder = base.component("prior"), base.component("decoder")
    recipe["prior"] = {
        **_begun(prior, source),
        "model": to_dict(base.config("prior")),
        "task": {"text_drop": 0.1, "pictures": {**pictures, "shift": 0}},
        "train": _train("prior", low_rank),
    }
    noisy = bool(decoder.config.get("noisy_embedding"))
    recipe["decoder"] = {
        **_begun(decoder, source),
        "task": {
            "text_drop": TEXT_DROP,
            "embedding_noise": EMBEDDING_NOISE if noisy else 0.0,
            "whole": WHOLE,
            "pictures": pictures,
        },
        "train": _train("decoder", low_rank),
    }
    return recipe


def _begun(component: Component, source: str) -> dict[str, Any]:
    """The start of a stage, its noise levels, and how it draws."""
    return {
        "start": source,
        "diffusion": to_dict(component.diffusion),
        "sampling": to_dict(component.sampling),
    }


def _train(stage: str, low_rank: bool) -> dict[str, Any]:
    return {
        "steps": LEAST_STEPS,
        "batch": BATCH[stage],
        "optimiser": "adamw" if low_rank else "muon",
        "learning_rate": LOW_RANK_RATE if low_rank else RATE[stage],
        "warmup": 30,
        "schedule": "wsd",
        "decay_fraction": 0.4,
        "weight_decay": 0.0 if low_rank else 0.01,
        "betas": [0.9, 0.98],
        "ema": [0.99],
        "best": FIGURE[stage],
        "evaluate_steps": LEAST_STEPS // EVALUATIONS,
        "preview_steps": LEAST_STEPS // EVALUATIONS,
        "log_steps": 50,
        "checkpoint_minutes": 2.0,
        "keep": 1,
        "tensorboard": False,
    }
