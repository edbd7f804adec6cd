"""CLIP's ResNet image encoder (2103.00020, section 2.4).

A stem of three convolutions, anti-aliased strides, attention pooling instead of average pooling.
Parameter names are those of openai/CLIP.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.batch_norm import BatchNorm2d
from unclip.nn.layers import RGB

STRIDE = 32  # pixels of the picture to one position of the last feature map, along each side
EXPANSION = 4  # output channels of a bottleneck to its inner ones
STAGES = 4
FEATURES = EXPANSION * 8  # channels of the last feature map to those of the stem: doubled after three stages


@dataclass(frozen=True)
class ModifiedResNetConfig:
    """ResNet image encoder: `layers` blocks in each of four stages, `width` channels after the stem.

    `heads` are those of the attention pooling, over 32 * width channels.
    """

    image_size: int
    layers: tuple[int, int, int, int]
    width: int
    heads: int
    kind: Literal["resnet"] = "resnet"

    def __post_init__(self) -> None:
        if self.image_size < STRIDE or self.image_size % STRIDE:
            raise InputError(
                f"image size {self.image_size} is not a multiple of {STRIDE}, the ResNet's stride"
            )
        if len(self.layers) != STAGES or min(self.layers) < 1:
            raise InputError(f"layers {self.layers}: there must be {STAGES} numbers, each at least 1")
        if self.width < 2 or self.width % 2:
            raise InputError(f"ResNet width {self.width} must be even: the stem starts with half of it")
        if self.heads < 1 or self.features % self.heads:
            raise InputError(
                f"{self.heads} heads do not divide the {self.features} channels of the ResNet's output"
            )

    @property
    def features(self) -> int:
        """Channels of the last feature map."""
        return self.width * FEATURES


class Bottleneck(nn.Module):
    """Residual bottleneck in which an average pool before a stride-1 convolution does what a stride would."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        out = inner * EXPANSION
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(inner)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(inner, out, 1, bias=False)
        self.bn3 = BatchNorm2d(out)
        nn.init.zeros_(self.bn3.weight)  # every block starts as the identity
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != out:
            pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
            convolution = nn.Conv2d(channels, out, 1, bias=False)
            # the names are the published weights'; the pool has none
            self.downsample = nn.Sequential(
                OrderedDict([("-1", pool), ("0", convolution), ("1", BatchNorm2d(out))])
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 * inner, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(self.avgpool(out)))
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(out + identity)


class AttentionPool(nn.Module):
    """One attention layer whose only query is the mean over all positions."""

    def __init__(self, side: int, channels: int, heads: int, embedding: int) -> None:
        super().__init__()
        self.heads = heads
        std = channels**-0.5
        self.positional_embedding = nn.Parameter(std * torch.randn(side**2 + 1, channels))
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, embedding)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, E)."""
        x = x.flatten(2).transpose(1, 2)  # (B, P, C)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding  # (B, 1 + P, C)
        query = self._heads(self.q_proj(x[:, :1]))  # (B, H, 1, C/H)
        key, value = self._heads(self.k_proj(x)), self._heads(self.v_proj(x))  # (B, H, 1 + P, C/H)
        pooled = F.scaled_dot_product_attention(query, key, value)  # (B, H, 1, C/H)
        return self.c_proj(pooled.flatten(1))

    def _heads(self, x: Tensor) -> Tensor:
        batch, count, channels = x.shape
        return x.view(batch, count, self.heads, channels // self.heads).transpose(1, 2)


class ModifiedResNet(nn.Module):
    """Stem of three convolutions, four stages of bottlenecks, attention pooling."""

    def __init__(self, config: ModifiedResNetConfig, embedding: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(RGB, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        stages: list[nn.Sequential] = []
        channels = width
        for i, blocks in enumerate(config.layers):
            inner = width * 2**i
            stage = []
            for j in range(blocks):
                stage.append(Bottleneck(channels, inner, stride=2 if i > 0 and j == 0 else 1))
                channels = inner * EXPANSION
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.attnpool = AttentionPool(config.image_size // STRIDE, channels, config.heads, embedding)

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, (B, 3, S, S) -> (B, E)."""
        x = images.to(self.conv1.weight.dtype)
        x = F.relu(self.bn1(self.conv1(x)))  # (B, C/2, S/2, S/2)
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))  # (B, C, S/2, S/2)
        x = self.avgpool(x)  # (B, C, S/4, S/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, 32 C, S/32, S/32)
        return self.attnpool(x)
