"""CLIP (2103.00020): an image and a text encoder whose outputs agree for a picture and its caption.

Parameter names are those of openai/CLIP; its text keys stand at the top level there and under `text.` here.
Either tower may be SigLIP's, which is another network (`models.siglip`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.clip_resnet import FEATURES, ModifiedResNet, ModifiedResNetConfig
from unclip.models.siglip import SiglipText, SiglipTextConfig, SiglipVision, SiglipVisionConfig
from unclip.nn.layers import RGB
from unclip.nn.transformer import Activation, Transformer, TransformerConfig
from unclip.runtime import has_contents
from unclip.tokenizer import CLIP_CONTEXT, CLIP_VOCABULARY, CLIPTokenizer

# RGB in [0, 1]; openai/CLIP, clip/clip.py
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

INITIAL_SCALE = 1 / 0.07  # 2103.00020, section 2.5
LARGEST_SCALE = 100.0  # 2103.00020, section 2.5
SIGMOID_INITIAL_SCALE = 10.0  # 2303.15343, section 3.2
SIGMOID_INITIAL_BIAS = -10.0  # 2303.15343, section 3.2


@dataclass(frozen=True)
class VisionTransformerConfig:
    """ViT image encoder: square pictures of `image_size` pixels in square patches of `patch` pixels.

    `patch_dropout` is the share of patches that a training step leaves out (2212.00794); 0 keeps all.
    """

    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float = 4.0
    patch_dropout: float = 0.0
    kind: Literal["vit"] = "vit"

    def __post_init__(self) -> None:
        if self.patch < 1 or self.image_size < 1 or self.image_size % self.patch:
            raise InputError(f"image size {self.image_size} is not a multiple of the patch size {self.patch}")
        if not 0.0 <= self.patch_dropout < 1.0:
            raise InputError(f"patch_dropout {self.patch_dropout} is outside [0, 1)")

    @property
    def patches(self) -> int:
        """Patches of one picture."""
        return (self.image_size // self.patch) ** 2


@dataclass(frozen=True)
class TextTransformerConfig:
    """Causal text transformer; `context` is the most tokens a text may have, start and end included."""

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    kind: Literal["transformer"] = "transformer"


@dataclass(frozen=True)
class CBOWConfig:
    """Bag of words: the mean of the token embeddings; knows no word order."""

    vocabulary: int
    context: int
    width: int
    kind: Literal["cbow"] = "cbow"


@dataclass(frozen=True)
class CLIPConfig:
    """A whole CLIP.

    Attributes:
        embedding: width E of the space that pictures and texts share.
        end_token: id at whose first occurrence the text feature is read; SigLIP's is read at the last place.
        activation: of the transformers' MLPs; OpenAI's weights need QUICK_GELU. SigLIP's have their own.
        mean: of the three channels in [0, 1], subtracted inside `encode_image`.
        std: by which the difference is divided.
        logit_bias: the learned bias of the sigmoid loss; with it the scale starts at 10 and is not clipped.
        dropout: of the transformers' residual branches and attention weights; SigLIP's towers have none.
    """

    embedding: int
    image: VisionTransformerConfig | ModifiedResNetConfig | SiglipVisionConfig
    text: TextTransformerConfig | CBOWConfig | SiglipTextConfig
    end_token: int
    activation: Activation = Activation.GELU
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    logit_bias: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.end_token < self.text.vocabulary:
            raise InputError(f"end_token {self.end_token} is not in the vocabulary of {self.text.vocabulary}")
        if min(self.std) <= 0:
            raise InputError(f"std {self.std}: each must be above 0")
        image, text = self.image, self.text
        transformer = isinstance(image, VisionTransformerConfig) or isinstance(text, TextTransformerConfig)
        if self.dropout and not transformer:
            raise InputError(
                f"dropout {self.dropout}: {image.kind} with {text.kind} has no transformer to drop from"
            )
        siglip = isinstance(image, SiglipVisionConfig) or isinstance(text, SiglipTextConfig)
        if siglip and not transformer and self.activation is not Activation.GELU:
            raise InputError(f"activation {self.activation}: SigLIP's towers have one each of their own")
        for tower in (image, text):
            projects = not isinstance(tower, SiglipVisionConfig) and getattr(tower, "projection", True)
            if not projects and tower.width != self.embedding:
                raise InputError(
                    f"embedding {self.embedding}: {tower.kind} has no projection and a width of {tower.width}"
                )


class TextFeatures(NamedTuple):
    """The result of a text encoder."""

    embedding: Tensor  # (B, E), not normalised
    sequence: Tensor  # (B, L, W), after the final norm; rows of padding mean nothing


class Features(NamedTuple):
    """The result of `CLIP.forward`: the arguments of the losses in `clip_loss`."""

    image: Tensor  # (B, E), not normalised
    text: Tensor  # (B, E), not normalised
    scale: Tensor  # (), factor of the cosine similarities
    bias: Tensor | None  # (), added to the logits


class VisionTransformer(nn.Module):
    """ViT with a norm before the blocks; the class token's output is projected into the shared space."""

    def __init__(
        self, config: VisionTransformerConfig, embedding: int, activation: Activation, dropout: float
    ) -> None:
        super().__init__()
        self.config = config
        std = config.width**-0.5
        self.conv1 = nn.Conv2d(RGB, config.width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(std * torch.randn(config.width))
        self.positional_embedding = nn.Parameter(std * torch.randn(config.patches + 1, config.width))
        self.ln_pre = nn.LayerNorm(config.width)
        self.transformer = Transformer(
            TransformerConfig(
                config.width, config.layers, config.heads, config.mlp_ratio, activation, dropout=dropout
            )
        )
        self.ln_post = nn.LayerNorm(config.width)
        self.proj = nn.Parameter(std * torch.randn(config.width, embedding))

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, (B, 3, S, S) -> (B, E)."""
        x = self.conv1(images.to(self.conv1.weight.dtype)).flatten(2).transpose(1, 2)  # (B, P, W)
        x = x + self.positional_embedding[1:]
        if self.training and self.config.patch_dropout:
            x = self._drop_patches(x)
        first = self.class_embedding + self.positional_embedding[0]  # (W,)
        x = torch.cat([first.to(x.dtype).expand(len(x), 1, -1), x], dim=1)  # (B, 1 + P, W)
        x = self.transformer(self.ln_pre(x))
        return self.ln_post(x[:, 0]) @ self.proj

    def _drop_patches(self, x: Tensor) -> Tensor:
        """Keep a random choice of the patches of each picture, (B, P, W) -> (B, kept, W)."""
        batch, count, width = x.shape
        kept = max(1, round(count * (1 - self.config.patch_dropout)))
        choice = torch.rand(batch, count, device=x.device).argsort(dim=1)[:, :kept]  # (B, kept)
        return x.gather(1, choice[..., None].expand(-1, -1, width))


class TextTransformer(nn.Module):
    """Causal transformer over the tokens, read at the end token."""

    def __init__(
        self,
        config: TextTransformerConfig,
        embedding: int,
        end_token: int,
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.config = config
        self.end_token = end_token
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.transformer = Transformer(
            TransformerConfig(
                config.width, config.layers, config.heads, activation=activation, causal=True, dropout=dropout
            )
        )
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embedding))
        # openai/CLIP, clip/model.py, CLIP.initialize_parameters
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=config.width**-0.5)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """As `CLIP.encode_text`."""
        _check_ids(ids, mask, self.config.context)
        end = first_end(ids, self.end_token)  # (B,)
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]  # (B, L, W)
        x = self.ln_final(self.transformer(x, mask))
        at_end = x[torch.arange(len(x), device=x.device), end]  # (B, W)
        return TextFeatures(at_end @ self.text_projection, x)


class CBOW(nn.Module):
    """Mean of the token embeddings, projected; the sequence is the token embeddings themselves."""

    def __init__(self, config: CBOWConfig, embedding: int, end_token: int) -> None:
        super().__init__()
        self.config = config
        self.end_token = end_token
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.text_projection = nn.Parameter(torch.empty(config.width, embedding))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.text_projection, std=config.width**-0.5)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """As `CLIP.encode_text`; without a mask the text is what stands up to the first end token."""
        _check_ids(ids, mask, self.config.context)
        if mask is None:
            end = first_end(ids, self.end_token)
            mask = torch.arange(ids.shape[1], device=ids.device) <= end[:, None]  # (B, L)
        x = self.token_embedding(ids)  # (B, L, W)
        weight = mask[..., None].to(x.dtype)  # (B, L, 1)
        mean = (x * weight).sum(1) / weight.sum(1).clamp(min=1)  # (B, W)
        return TextFeatures(mean @ self.text_projection, x)


class CLIP(nn.Module):
    """Both encoders, and the learned scale (and bias) of the logits that the losses need."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = _image_tower(config)
        self.text = _text_tower(config)
        initial_scale = SIGMOID_INITIAL_SCALE if config.logit_bias else INITIAL_SCALE
        self.logit_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        self.logit_bias = nn.Parameter(torch.tensor(SIGMOID_INITIAL_BIAS)) if config.logit_bias else None
        # their values stand in the config, so the state dict does not repeat them
        self.register_buffer("mean", torch.tensor(config.mean).view(RGB, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(RGB, 1, 1), persistent=False)

    @property
    def scale(self) -> Tensor:
        """Factor of the cosine similarities, exp(logit_scale), clipped at 100 but for the sigmoid loss."""
        if self.logit_bias is not None:
            return self.logit_scale.exp()
        limit = math.log(LARGEST_SCALE)
        log_scale: Tensor = _ClipAbove.apply(self.logit_scale, limit)
        return log_scale.exp()

    def encode_image(self, images: Tensor) -> Tensor:
        """Encode (B, 3, S, S) RGB in [-1, 1], S the config's image size, to (B, E), not normalised.

        Raises InputError for another shape.
        """
        size = self.config.image.image_size
        if images.ndim != 4 or images.shape[1:] != (RGB, size, size):
            raise InputError(
                f"images {tuple(images.shape)}: this CLIP takes (B, 3, {size}, {size}), so resize them"
            )
        images = images.to(torch.promote_types(images.dtype, self.mean.dtype))
        gain, bias = 0.5 / self.std, (0.5 - self.mean) / self.std  # (pixel - mean) / std, in one pass
        return self.visual(torch.addcmul(bias.to(images.dtype), images, gain.to(images.dtype)))

    def encode_text(self, ids: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """Encode (B, L) token ids, L at most the config's context, to `TextFeatures`.

        Every text needs its end token. `mask` (B, L) bool is True where there is a token; behind the end
        token it changes nothing that counts, so training may leave it out and use the faster kernels. (With
        SigLIP's tower it may be left out where `ids` are padded with that tower's own padding.) The
        embedding, and the sequence up to the end token, do not depend on how long the padding is.

        Raises InputError for a text that is too long, a mask of another shape and (where looking at the ids
        costs no wait for the accelerator) a text without end token, but for SigLIP's tower, which reads on.
        """
        if isinstance(self.text, SiglipText):
            _check_ids(ids, mask, self.config.text.context)
        return TextFeatures(*self.text(ids, mask))

    def forward(self, images: Tensor, ids: Tensor, mask: Tensor | None = None) -> Features:
        """Encode both sides of a batch: what a training step calls, through DDP as well."""
        return Features(
            self.encode_image(images), self.encode_text(ids, mask).embedding, self.scale, self.logit_bias
        )


def _image_tower(config: CLIPConfig) -> VisionTransformer | ModifiedResNet | SiglipVision:
    image = config.image
    if isinstance(image, VisionTransformerConfig):
        return VisionTransformer(image, config.embedding, config.activation, config.dropout)
    if isinstance(image, SiglipVisionConfig):
        return SiglipVision(image)
    return ModifiedResNet(image, config.embedding)


def _text_tower(config: CLIPConfig) -> TextTransformer | CBOW | SiglipText:
    text = config.text
    if isinstance(text, TextTransformerConfig):
        return TextTransformer(text, config.embedding, config.end_token, config.activation, config.dropout)
    if isinstance(text, SiglipTextConfig):
        return SiglipText(text, config.embedding)
    return CBOW(text, config.embedding, config.end_token)


@dataclass(frozen=True)
class ClipTextConfig:
    """The text side of a CLIP whose image side is not there (Karlo's); fields as of `CLIPConfig`."""

    embedding: int
    text: TextTransformerConfig
    end_token: int
    activation: Activation = Activation.GELU

    def __post_init__(self) -> None:
        if not 0 <= self.end_token < self.text.vocabulary:
            raise InputError(f"end_token {self.end_token} is not in the vocabulary of {self.text.vocabulary}")


class ClipText(nn.Module):
    """A CLIP's text encoder alone: what draws from text needs no more, but cannot say how well it drew."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextTransformer(
            config.text, config.embedding, config.end_token, config.activation, dropout=0.0
        )

    def encode_text(self, ids: Tensor, mask: Tensor | None = None) -> TextFeatures:
        """As `CLIP.encode_text`."""
        features: TextFeatures = self.text(ids, mask)
        return features


def first_end(ids: Tensor, end_token: int) -> Tensor:
    """Position of the first end token of each text, (B, L) -> (B,) int64.

    Raises InputError for a text without one; on an accelerator, where that would mean waiting for it, such a
    text is read at its first position.
    """
    is_end = ids == end_token  # (B, L)
    if ids.device.type == "cpu" and not torch.compiler.is_compiling() and has_contents(ids):
        missing = (~is_end.any(dim=1)).nonzero().flatten().tolist()
        if missing:
            raise InputError(
                f"text {missing[0]} of the batch has no end token {end_token}: the tokenizer is another "
                "one than the model's, or the text was cut behind the tokenizer's back"
            )
    return is_end.int().argmax(dim=1)  # the first of several maxima


def _check_ids(ids: Tensor, mask: Tensor | None, context: int) -> None:
    if ids.ndim != 2 or not 1 <= ids.shape[1] <= context:
        raise InputError(f"token ids {tuple(ids.shape)}: they must be (B, L) with L from 1 to {context}")
    if mask is not None and (mask.shape != ids.shape or mask.dtype != torch.bool):
        raise InputError(
            f"text mask {tuple(mask.shape)} {mask.dtype}: it must be {tuple(ids.shape)} torch.bool"
        )


class _ClipAbove(torch.autograd.Function):
    """min(x, limit), whose gradient leads back below the limit: `clamp` would leave x stuck above it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(max=limit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = gradients
        rises = gradient < 0  # gradient descent would raise x
        return gradient.masked_fill((x > ctx.limit) & rises, 0.0), None


HEAD_WIDTH = 64  # of every published CLIP
PUBLISHED_TEXT_LAYERS = 12


def _published(
    embedding: int, text_width: int, image: VisionTransformerConfig | ModifiedResNetConfig
) -> CLIPConfig:
    text = TextTransformerConfig(
        CLIP_VOCABULARY, CLIP_CONTEXT, text_width, PUBLISHED_TEXT_LAYERS, text_width // HEAD_WIDTH
    )
    return CLIPConfig(embedding, image, text, CLIPTokenizer.end, Activation.QUICK_GELU)


def _vit(image_size: int, patch: int, width: int, layers: int) -> VisionTransformerConfig:
    return VisionTransformerConfig(image_size, patch, width, layers, width // HEAD_WIDTH)


def _resnet(image_size: int, layers: tuple[int, int, int, int], width: int) -> ModifiedResNetConfig:
    return ModifiedResNetConfig(image_size, layers, width, width * FEATURES // HEAD_WIDTH)


# OpenAI's released models under their released names; openai/CLIP, clip/clip.py
PRESETS: dict[str, CLIPConfig] = {
    "ViT-B/32": _published(512, 512, _vit(224, 32, 768, 12)),
    "ViT-B/16": _published(512, 512, _vit(224, 16, 768, 12)),
    "ViT-L/14": _published(768, 768, _vit(224, 14, 1024, 24)),
    "ViT-L/14@336px": _published(768, 768, _vit(336, 14, 1024, 24)),
    "RN50": _published(1024, 512, _resnet(224, (3, 4, 6, 3), 64)),
    "RN101": _published(512, 512, _resnet(224, (3, 4, 23, 3), 64)),
    "RN50x4": _published(640, 640, _resnet(288, (4, 6, 10, 6), 80)),
    "RN50x16": _published(768, 768, _resnet(384, (6, 8, 18, 8), 96)),
    "RN50x64": _published(1024, 1024, _resnet(448, (3, 15, 36, 10), 128)),
}
