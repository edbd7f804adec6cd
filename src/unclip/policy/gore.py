"""Gore and weapons in pictures: zero-shot classification (2103.00020, section 3.1) by a published CLIP.

The bundles that ship have learned from pictograms, so a policy names a published CLIP (`clip` in its file,
converted by `unclip convert`). Without one, or with one that knows no photographs, the rule is not applied.
"""

from __future__ import annotations

from typing import Protocol

import torch
from PIL import Image

from unclip.classify import Classifier, Encoder
from unclip.manifest import Photographic

TEMPLATES = ("a photo of {}", "a picture of {}", "a drawing of {}")
REFUSED = (
    *("a corpse", "a bloody wound", "a mutilated body", "a severed head", "a pool of blood", "torture"),
    *("a murder", "an execution", "a person who is bleeding", "intestines", "a massacre"),
    *(
        "a pistol",
        "a rifle",
        "a machine gun",
        "a person with a gun",
        "a person with a knife",
        "a hand grenade",
    ),
)
HARMLESS = (  # what a picture may show instead, the likeness of gore and weapons included
    *(
        "a person",
        "a group of people",
        "a face",
        "an animal",
        "food",
        "tomato sauce",
        "raw meat",
        "red paint",
    ),
    *("a kitchen knife with vegetables", "a toy", "a tool", "a water pistol", "a camera", "a hair dryer"),
    *(
        "a landscape",
        "a city",
        "a building",
        "a room",
        "a vehicle",
        "a plant",
        "a flower",
        "the sky",
        "the sea",
    ),
    *("an object", "clothes", "text", "a symbol", "an icon", "a pattern", "a skeleton for Halloween"),
    *("a sports game", "a doctor at work", "a sleeping person", "a statue", "a painting"),
)
SURE = 0.5  # probability of all that is refused together, among the labels
NONE_NAMED = (
    "it needs a CLIP that knows photographs, and the policy names none: write clip = "
    '"NAME or FOLDER" in a policy of your own'
)


class Knowing(Protocol):
    """The part of a CLIP that says whether it can judge; `unclip.embedding.ClipEmbedder` has it."""

    name: str
    photographic: Photographic | None

    @property
    def sees(self) -> bool:
        """True where there is an encoder of pictures."""


class Gore:
    """A detector of gore and weapons.

    Args:
        encoder: a CLIP for which `unfit` is None.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._classifier = Classifier.of(encoder, [*REFUSED, *HARMLESS], TEMPLATES)

    def score(self, image: Image.Image) -> float:
        """The probability of all that is refused together, 0 to 1."""
        with torch.inference_mode():
            embedding = self._classifier.encoder.embed_images([image])
            probabilities = self._classifier.probabilities(embedding)[0]  # (L,)
        return float(probabilities[: len(REFUSED)].sum())

    def found(self, image: Image.Image) -> bool:
        return self.score(image) >= SURE


def unfit(clip: Knowing) -> str | None:
    """The reason for which a CLIP cannot apply the rule; None where it can."""
    if not clip.sees:
        return f"the CLIP {clip.name} reads texts alone: choose one with an encoder of pictures"
    if clip.photographic is not None:
        return (
            f"the CLIP {clip.name} knows no photographs, for it has not learned from any: choose a published "
            "one"
        )
    return None
