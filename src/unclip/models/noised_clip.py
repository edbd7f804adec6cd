"""GLIDE's CLIP for noised pictures (section 4.4 of 2112.10741): CLIP that is told how much noise it sees.

The class token of its image encoder is one of a table, by time label; all else is CLIP's ViT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.clip import (
    CLIP_MEAN,
    CLIP_STD,
    TextTransformer,
    TextTransformerConfig,
    VisionTransformer,
    VisionTransformerConfig,
)
from unclip.nn.layers import RGB
from unclip.nn.transformer import Activation
from unclip.runtime import has_contents
from unclip.tokenizer import CLIP_CONTEXT, CLIPTokenizer

RELEASED_SCALE = 100.0  # glide-text2im, clip/config.yaml


@dataclass(frozen=True)
class NoisedCLIPConfig:
    """Sizes of a CLIP for noised pictures.

    Attributes:
        embedding: width E of the space that pictures and texts share.
        image, text: the encoders'.
        end_token: id at whose first occurrence the text feature is read.
        labels: time labels that it knows, 0 to labels - 1.
        scale: factor of the cosine whose gradient guides.
    """

    embedding: int
    image: VisionTransformerConfig
    text: TextTransformerConfig
    end_token: int
    labels: int = 1000
    scale: float = RELEASED_SCALE

    def __post_init__(self) -> None:
        if self.image.patch_dropout:
            raise InputError(f"patch_dropout {self.image.patch_dropout}: a noised CLIP sees all patches")


class NoisedVisionTransformer(VisionTransformer):
    """ViT whose class token says how much noise there is."""

    def __init__(self, config: NoisedCLIPConfig) -> None:
        super().__init__(config.image, config.embedding, Activation.GELU, dropout=0.0)
        std = config.image.width**-0.5
        self.class_embedding = nn.Parameter(std * torch.randn(config.labels, config.image.width))

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Encode normalised noised images (B, 3, S, S) at labels (B,) int64, which it needs, -> (B, E)."""
        if label is None:
            raise InputError("a noised CLIP must be told how much noise it sees: give time labels")
        x = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, P, W)
        first = self.class_embedding[label].to(x.dtype)[:, None]  # (B, 1, W)
        x = torch.cat([first, x], dim=1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj


class NoisedCLIP(nn.Module):
    """Both encoders. Embeddings are L2-normalised."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NoisedCLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = NoisedVisionTransformer(config)
        self.text = TextTransformer(config.text, config.embedding, config.end_token, Activation.GELU, 0.0)
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(RGB, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(RGB, 1, 1), persistent=False)
        self.logit_bias = None  # what the sigmoid loss would need

    @property
    def scale(self) -> Tensor:
        """Factor of the cosine similarities, ()."""
        return torch.tensor(self.config.scale)

    def encode_image(self, images: Tensor, label: Tensor) -> Tensor:
        """Embeddings (B, E) of noised pictures (B, 3, S, S), [-1, 1] before the noise, at labels (B,).

        Raises InputError for another size, or a label outside the table.
        """
        size = self.config.image.image_size
        if images.shape[1:] != (RGB, size, size):
            raise InputError(f"images {tuple(images.shape)}: this CLIP takes (B, 3, {size}, {size})")
        index = label.long()
        if has_contents(index) and bool(((index < 0) | (index >= self.config.labels)).any()):
            raise InputError(f"time labels {label.tolist()}: this CLIP knows 0 to {self.config.labels - 1}")
        pixels = (images + 1) / 2
        return F.normalize(self.visual((pixels - self.mean) / self.std, index), dim=-1)

    def encode_text(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embeddings (B, E) of token ids (B, L); arguments as in `CLIP.encode_text`."""
        return F.normalize(self.text(ids, mask).embedding, dim=-1)

    def similarity(self, images: Tensor, label: Tensor, texts: Tensor) -> Tensor:
        """Scaled cosines (B,) of noised pictures with text embeddings (B, E): what CLIP guidance raises."""
        return self.config.scale * (self.encode_image(images, label) * texts).sum(-1)


# glide-text2im, clip/config.yaml: a vocabulary of 65,536, of which CLIP's tokenizer uses 49,408
RELEASED = NoisedCLIPConfig(
    embedding=512,
    image=VisionTransformerConfig(image_size=64, patch=4, width=768, layers=12, heads=12),
    text=TextTransformerConfig(vocabulary=65_536, context=CLIP_CONTEXT, width=512, layers=12, heads=8),
    end_token=CLIPTokenizer.end,
)
