"""SigLIP's towers (2303.15343), as Google published them: what `CLIP` is made of beside OpenAI's towers.

Against OpenAI's, pictures have no class token and no norm before the blocks, and are pooled by attention;
texts are read in both directions, padding and all, at their last position. Norms divide with 1e-6 added, and
the GELU may be the one by tanh. Names are those of `models.clip` where the parts are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.attention_pool import AttentionPool
from unclip.nn.layers import RGB
from unclip.nn.transformer import Block, Transformer, TransformerConfig

Part = TypeVar("Part", Transformer, AttentionPool)

NORM_EPSILON = 1e-6  # big_vision's layers, and all that were made of its weights


class Gelu(StrEnum):
    """The GELU of a tower's MLPs. No tensor tells."""

    EXACT = "gelu"
    TANH = "gelu-tanh"  # the approximation that Google's code trains with


GELUS: dict[Gelu, Callable[[Tensor], Tensor]] = {
    Gelu.EXACT: F.gelu,
    Gelu.TANH: partial(F.gelu, approximate="tanh"),
}


@dataclass(frozen=True)
class SiglipVisionConfig:
    """Image tower: square pictures of `image_size` pixels in square patches of `patch` pixels.

    Where the patch does not divide the size, what is left to the right and below is not looked at: the
    published model of 384 px in patches of 14 sees 378. `mlp_width` is the width inside the MLPs. The tower's
    width is that of the space that pictures and texts share.
    """

    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Gelu = Gelu.EXACT
    kind: Literal["siglip-vit"] = "siglip-vit"

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= self.image_size:
            raise InputError(f"patches of {self.patch} pixels do not fit {self.image_size} pixels")

    @property
    def patches(self) -> int:
        """Patches of one picture."""
        return (self.image_size // self.patch) ** 2


@dataclass(frozen=True)
class SiglipTextConfig:
    """Text tower: every text is `context` tokens long, filled up with `pad`, which is read like any other.

    Attributes:
        vocabulary: ids of the tokenizer.
        context: the most tokens a text may have, its end included.
        mlp_width: inside the MLPs.
        pad: id behind the end of a text.
        projection: whether a linear layer with bias leads into the shared space; without it the width must be
            that space's.
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    pad: int
    activation: Gelu = Gelu.EXACT
    projection: bool = True
    kind: Literal["siglip-transformer"] = "siglip-transformer"

    def __post_init__(self) -> None:
        if not 0 <= self.pad < self.vocabulary:
            raise InputError(f"pad {self.pad} is not in the vocabulary of {self.vocabulary}")


class SiglipVision(nn.Module):
    """ViT without a class token, pooled by attention; its output is the embedding."""

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(RGB, config.width, config.patch, stride=config.patch)
        self.positional_embedding = nn.Parameter(
            config.width**-0.5 * torch.randn(config.patches, config.width)
        )
        sizes = _sizes(config)
        self.transformer = _set_constants_(Transformer(sizes), config.activation)
        self.ln_post = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.pool = _set_constants_(AttentionPool(sizes), config.activation)

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, (B, 3, S, S) -> (B, W)."""
        x = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, P, W)
        x = self.transformer(x + self.positional_embedding)
        pooled: Tensor = self.pool(self.ln_post(x))
        return pooled


class SiglipText(nn.Module):
    """Transformer over the tokens and the padding behind them, in both directions, read at the last place."""

    def __init__(self, config: SiglipTextConfig, embedding: int) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.transformer = _set_constants_(Transformer(_sizes(config)), config.activation)
        self.ln_final = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.text_projection = nn.Linear(config.width, embedding) if config.projection else None
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        if self.text_projection is not None:
            nn.init.normal_(self.text_projection.weight, std=config.width**-0.5)
            nn.init.zeros_(self.text_projection.bias)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode (B, L) ids, L at most the context, to what `CLIP.encode_text` returns of them.

        `mask` says what is not text and is read as `pad`, whatever stands there.
        """
        count, config = ids.shape[1], self.config
        if mask is not None:
            ids = ids.masked_fill(~mask, config.pad)
        ids = F.pad(ids, (0, config.context - count), value=config.pad)  # (B, C)
        x = self.token_embedding(ids) + self.positional_embedding  # (B, C, W)
        x = self.ln_final(self.transformer(x))
        last = x[:, -1]  # (B, W)
        embedding = last if self.text_projection is None else self.text_projection(last)  # (B, E)
        return embedding, x[:, :count]


def _sizes(config: SiglipVisionConfig | SiglipTextConfig) -> TransformerConfig:
    return TransformerConfig(
        config.width, config.layers, config.heads, mlp_ratio=config.mlp_width / config.width
    )


def _set_constants_(part: Part, activation: Gelu) -> Part:
    """Give a part SigLIP's norms and GELU, which `TransformerConfig` does not offer."""
    norms: list[nn.LayerNorm]
    for module in part.modules():
        if isinstance(module, Block):
            norms, mlp = [module.ln_1, module.ln_2], module.mlp
        elif isinstance(module, AttentionPool):
            norms, mlp = [module.ln], module.mlp
        else:
            continue
        for norm in norms:
            norm.eps = NORM_EPSILON
        mlp.activation = GELUS[activation]
    return part
