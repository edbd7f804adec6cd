"""A ResNet that was told the classes of its pictures: what CLIP's robustness is compared with.

CLIP's own ResNet (2103.00020, section 2.4), whose last layer gives a logit a class in place of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.clip import CLIP_MEAN, CLIP_STD
from unclip.models.clip_resnet import ModifiedResNet, ModifiedResNetConfig
from unclip.nn.layers import RGB


@dataclass(frozen=True)
class SupervisedConfig:
    """A supervised classifier.

    Attributes:
        image: the trunk.
        labels: what the classes are called, in the order of the logits.
        mean: of the three channels in [0, 1], subtracted from the pictures.
        std: by which the difference is divided.
    """

    image: ModifiedResNetConfig
    labels: tuple[str, ...]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise InputError(f"{len(self.labels)} labels: give two or more, each once")
        if min(self.std) <= 0:
            raise InputError(f"std {self.std}: each must be above 0")


class Supervised(nn.Module):
    """Pictures to logits of classes."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: SupervisedConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = ModifiedResNet(config.image, len(config.labels))
        self.register_buffer("mean", torch.tensor(config.mean).view(RGB, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(RGB, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in [-1, 1], S the config's image size -> (B, classes).

        Raises InputError for another shape.
        """
        size = self.config.image.image_size
        if images.ndim != 4 or images.shape[1:] != (RGB, size, size):
            raise InputError(
                f"images {tuple(images.shape)}: this classifier takes (B, 3, {size}, {size}), so resize them"
            )
        logits: Tensor = self.visual(((images + 1) / 2 - self.mean) / self.std)
        return logits
