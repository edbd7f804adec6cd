"""ADM (2105.05233): a class-conditional UNet, its upsamplers, and the classifier that guides them.

An upsampler is the same network over the noised picture and the enlarged small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.group_norm import group_norm
from unclip.nn.layers import RGB, TimeEmbedding, depth_to_space, space_to_depth
from unclip.nn.unet import HalfUNet, UNet, UNetConfig

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class ADMConfig:
    """Sizes of an ADM.

    Attributes:
        image_size: side of the picture in pixels.
        low_size: side of the small picture that an upsampler enlarges; None where there is none.
        patch: the UNet works on a grid of patch x patch pixels (space to depth); 1 is the paper's way.
        channels: features of the time label's sinusoids; the embedding has four times as many.
        widths: channels of each level, the finest first.
        blocks, attention, head_channels, heads, dropout: see `UNetConfig`.
        classes: how many there are; None for an unconditional model.
        labels: the names of the classes in their order, where they are known.
        learned_range: whether the network also predicts the variance (twice the output channels).
    """

    image_size: int
    channels: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head_channels: int = 64
    heads: int | None = None
    low_size: int | None = None
    classes: int | None = None
    labels: tuple[str, ...] = ()
    dropout: float = 0.0
    learned_range: bool = True
    patch: int = 1

    def __post_init__(self) -> None:
        if self.labels and len(self.labels) != self.classes:
            raise InputError(f"{len(self.labels)} labels for {self.classes} classes: give one a class")


@dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier of noised pictures; attributes as in `ADMConfig`."""

    image_size: int
    channels: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    classes: int
    head_channels: int = 64
    dropout: float = 0.0
    patch: int = 1

    @property
    def grid(self) -> int:
        """Side of the grid that the classifier's head pools."""
        return self.image_size // self.patch // 2 ** (len(self.widths) - 1)


def enlarge_bilinear(low: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear enlargement (B, C, h, w) -> (B, C, *size), as for ADM's and GLIDE's upsamplers."""
    return F.interpolate(low, size, mode="bilinear", align_corners=False)


class ADM(nn.Module):
    """UNet over a noised picture; the class enters with the time label."""

    def __init__(self, config: ADMConfig) -> None:
        super().__init__()
        self.config = config
        width = 4 * config.channels
        self.time = TimeEmbedding(config.channels, width)
        self.class_embedding = None if config.classes is None else nn.Embedding(config.classes, width)
        self.unet = UNet(
            UNetConfig(
                in_channels=RGB * (1 if config.low_size is None else 2) * config.patch**2,
                out_channels=RGB * (2 if config.learned_range else 1) * config.patch**2,
                channels=1,  # the widths stand in the multipliers: ADM's finest level at 512 px has half of C
                multipliers=config.widths,
                blocks=config.blocks,
                attention=config.attention,
                head_channels=config.head_channels,
                heads=config.heads,
                embedding=width,
                dropout=config.dropout,
            )
        )

    def forward(
        self, x: Tensor, label: Tensor, classes: Tensor | None = None, low: Tensor | None = None
    ) -> Tensor:
        """Predict from a noised picture.

        Args:
            x: (B, 3, H, W) noised picture.
            label: (B,) time label.
            classes: (B,) int64, for a class-conditional model and no other.
            low: (B, 3, h, w) small picture in [-1, 1], for an upsampler and no other.

        Returns:
            (B, 3, H, W), or (B, 6, H, W) with a learned range.

        Raises:
            InputError: a condition that the model does not have, or has and was not given.
        """
        modulation = self.time(label)  # (B, 4 C)
        if (classes is None) != (self.class_embedding is None):
            needs = "no classes" if self.class_embedding is None else "a class for each picture"
            raise InputError(f"this ADM takes {needs}")
        if (low is None) != (self.config.low_size is None):
            needs = "no small picture" if self.config.low_size is None else "the small picture to enlarge"
            raise InputError(f"this ADM takes {needs}")
        if self.class_embedding is not None:
            modulation = modulation + self.class_embedding(classes)
        if low is not None:
            x = torch.cat([x, enlarge_bilinear(low.to(x.dtype), (x.shape[2], x.shape[3]))], dim=1)
        grid = space_to_depth(x, self.config.patch)  # (B, C p^2, H / p, W / p)
        return depth_to_space(self.unet(grid, modulation), self.config.patch)


class AttentionPool(nn.Module):
    """A grid (B, C, S, S) to (B, classes): its mean attends to all of it, as in CLIP's ResNets."""

    def __init__(self, channels: int, grid: int, head_channels: int, classes: int) -> None:
        super().__init__()
        self.heads = channels // head_channels
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, channels) / channels**0.5)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, S^2, C)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + self.positional_embedding
        batch, length, _ = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # (B, heads, 1 + S^2, C / heads) each
        pooled = F.scaled_dot_product_attention(query[:, :, :1], key, value)  # (B, heads, 1, C / heads)
        out: Tensor = self.out(pooled.flatten(1))
        return out


class Classifier(nn.Module):
    """Half a UNet with attention pooling: the class of a noised picture (section 4 of 2105.05233)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        width = 4 * config.channels
        self.time = TimeEmbedding(config.channels, width)
        self.unet = HalfUNet(
            UNetConfig(
                in_channels=RGB * config.patch**2,
                out_channels=config.widths[-1],
                channels=1,
                multipliers=config.widths,
                blocks=config.blocks,
                attention=config.attention,
                head_channels=config.head_channels,
                embedding=width,
                dropout=config.dropout,
            )
        )
        self.norm_out = group_norm(config.widths[-1])
        self.pool = AttentionPool(config.widths[-1], config.grid, config.head_channels, config.classes)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Logits (B, classes) of noised pictures (B, 3, S, S) at time labels (B,); S is the config's."""
        grid = space_to_depth(x, self.config.patch)  # (B, 3 p^2, S / p, S / p)
        features, _ = self.unet.encode(grid, F.silu(self.time(label)))
        out: Tensor = self.pool(F.silu(self.norm_out(features)))
        return out

    def log_probability(self, x: Tensor, label: Tensor, classes: Tensor) -> Tensor:
        """Logarithm of p(class | x_t), (B,): what classifier guidance raises; classes (B,) int64."""
        every = F.log_softmax(self(x, label).float(), dim=1)  # (B, classes)
        return every.gather(1, classes[:, None])[:, 0]


# The multiples of C by side in pixels; guided-diffusion, script_util.py
MULTIPLES: dict[int, tuple[float, ...]] = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}


def _widths(channels: int, multiples: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(round(channels * multiple) for multiple in multiples)


def _factors(size: int, sides: tuple[int, ...] = (32, 16, 8)) -> tuple[int, ...]:
    """The downsampling factors at which a grid has these sides."""
    return tuple(size // side for side in sides)


def _drawing(size: int, channels: int, blocks: int, classes: int | None, heads: int | None) -> ADMConfig:
    return ADMConfig(
        size,
        channels,
        _widths(channels, MULTIPLES[size]),
        blocks,
        _factors(size),
        heads=heads,
        classes=classes,
    )


def _classifying(size: int, blocks: int) -> ClassifierConfig:
    widths = _widths(128, MULTIPLES[size])
    return ClassifierConfig(size, 128, widths, blocks, _factors(size), IMAGENET_CLASSES)


def _enlarging(low: int, size: int, sides: tuple[int, ...], heads: int | None) -> ADMConfig:
    widths = _widths(192, MULTIPLES[256])  # at 512 px too
    return ADMConfig(
        size, 192, widths, 2, _factors(size, sides), heads=heads, low_size=low, classes=IMAGENET_CLASSES
    )


# The released models; the flags in guided-diffusion's README.md and the defaults of its script_util.py
PRESETS: dict[str, ADMConfig] = {
    "adm-64": _drawing(64, 192, 3, IMAGENET_CLASSES, None),
    "adm-128": _drawing(128, 256, 2, IMAGENET_CLASSES, 4),
    "adm-256": _drawing(256, 256, 2, IMAGENET_CLASSES, None),
    "adm-256-unconditional": _drawing(256, 256, 2, None, None),
    "adm-512": _drawing(512, 256, 2, IMAGENET_CLASSES, None),
    "adm-64-256": _enlarging(64, 256, (32, 16, 8), 4),
    "adm-128-512": _enlarging(128, 512, (32, 16), None),
}
CLASSIFIERS: dict[int, ClassifierConfig] = {
    size: _classifying(size, 4 if size == 64 else 2) for size in MULTIPLES
}
