"""unCLIP's decoder: CLIP image embedding (and caption) -> picture (section 2.1 of 2204.06125)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.caption import CaptionConfig, CaptionEncoder, Unconditional
from unclip.models.layout import Layout, LayoutConfig
from unclip.nn.layers import RGB, TimeEmbedding, Whitening, depth_to_space, space_to_depth
from unclip.nn.unet import ReadContext, UNet, UNetConfig

SEEN = RGB + 1  # channels of a picture to fill in, and of its mask
FIRST_WEIGHT = "unet.conv_in.weight"
NOISE_LEVEL_STEPS = 1000.0  # a noise level in [0, 1] is embedded like a time label in 0..1000


class TextNorm(StrEnum):
    """Where the norm stands on a caption's way to the context."""

    BEFORE = "before"  # the projection
    AFTER = "after"


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder.

    Attributes:
        image_size: side of the picture in pixels.
        patch: the UNet works on a grid of patch x patch pixels (space to depth); 1 is the paper's way.
        channels, multipliers, blocks, attention, head_channels: see `UNetConfig`; `attention` counts
            from the grid.
        embedding: width of CLIP's embedding.
        tokens: context tokens made from the CLIP embedding (4 in the paper).
        context: width of the context tokens.
        text_width: width of CLIP's token features where the decoder reads the caption by them (Karlo's way).
        caption: the decoder's own caption encoder (the paper's way); it then takes token ids. A decoder with
            neither reads no caption.
        learned_range: whether the network also predicts the variance (twice the output channels).
        noisy_embedding: whether the embedding comes with a noise level (as in stable unCLIP).
        unit_embeddings: CLIP's embeddings come with length 1; where False (Karlo) they are what CLIP's
            projections give.
        text_to_time: CLIP's text embedding joins the time embedding.
        text_norm: where the norm of the caption's features stands.
        unconditional: what stands for no caption.
        inpainting: whether the decoder was trained to fill in (GLIDE's way, section 4.3 of 2112.10741): its
            UNet also sees the known pixels and where they are, in input channels behind the others.
        layout: the coarse picture to expect of the embedding, which the UNet sees beside the noised one (see
            `models.layout`); None is the papers' way.
        augmentation: how many numbers tell what was done to a picture in training (see
            `train.augmentation`); 0 where nothing is. Drawing does not depend on it.
    """

    image_size: int = 64
    patch: int = 1
    channels: int = 512
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (2, 4, 8)
    head_channels: int = 64
    embedding: int = 1024
    tokens: int = 4
    context: int = 2048
    text_width: int | None = None
    caption: CaptionConfig | None = None
    dropout: float = 0.1
    learned_range: bool = True
    noisy_embedding: bool = False
    unit_embeddings: bool = True
    text_to_time: bool = False
    text_norm: TextNorm = TextNorm.BEFORE
    unconditional: Unconditional = Unconditional.DROPPED
    inpainting: bool = False
    layout: LayoutConfig | None = None
    augmentation: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.patch <= self.image_size:
            raise InputError(f"patch {self.patch}: choose from 1 to image_size, which is {self.image_size}")
        side = self.image_size // self.patch
        if self.layout is not None and (self.layout.side % side or self.layout.embedding != self.embedding):
            raise InputError(
                f"layout: got {self.layout.side} cells a side, {self.layout.embedding} numbers; "
                f"for this decoder set layout.side = {side} or a multiple of it, and "
                f"layout.embedding = {self.embedding}"
            )
        if self.text_width is not None and self.caption is not None:
            raise InputError(
                "a decoder reads captions by CLIP's features (text_width) or by its own encoder (caption): "
                "set one of the two"
            )

    @property
    def layout_channels(self) -> int:
        """Channels of the grid in which the UNet sees the layout."""
        if self.layout is None:
            return 0
        return RGB * (self.layout.side * self.patch // self.image_size) ** 2


# Karlo v1-alpha's (kakaobrain/karlo-v1-alpha, decoder/config.json and text_proj/config.json)
KARLO = DecoderConfig(
    image_size=64,
    channels=320,
    multipliers=(1, 2, 3, 4),
    blocks=3,
    attention=(2, 4, 8),
    head_channels=64,
    embedding=768,
    tokens=4,
    context=1536,
    text_width=768,
    dropout=0.0,
    learned_range=True,
    unit_embeddings=False,
    text_to_time=True,
    text_norm=TextNorm.AFTER,
    unconditional=Unconditional.EMPTY_CAPTION,
)


@dataclass(frozen=True)
class DecoderCondition:
    """The condition of a decoder, for a batch of B.

    Attributes:
        embedding: (B, E) whitened CLIP image embedding (`Decoder.whitening`).
        keep_image: (B,) bool; where False the embedding is replaced by a learned one (guidance).
        sequence: (B, L, W) caption features of CLIP, or None.
        ids: (B, L) int64 caption tokens, for a decoder with its own caption encoder, or None.
        mask: (B, L) bool, True for real tokens; goes with `sequence` and `ids`.
        keep_text: (B,) bool; where False no caption token is read.
        noise_level: (B,) in [0, 1], how much noise the embedding holds; None means 0.
        text_embedding: (B, E) CLIP text embedding, for a decoder with `text_to_time`.
        known: (B, 3, S, S) pictures in [-1, 1] to fill in, for a decoder with `inpainting`; None where all
            is to be drawn.
        keep: (B, 1, S, S) 1 where `known` is to stay and 0 where it is not seen; goes with `known`.
        augmentation: (B, N) what was done to the picture in training, for a decoder with `augmentation` N;
            None, as zeros, for nothing.
    """

    embedding: Tensor
    keep_image: Tensor
    sequence: Tensor | None = None
    ids: Tensor | None = None
    mask: Tensor | None = None
    keep_text: Tensor | None = None
    noise_level: Tensor | None = None
    text_embedding: Tensor | None = None
    known: Tensor | None = None
    keep: Tensor | None = None
    augmentation: Tensor | None = None

    def dropped(self) -> DecoderCondition:
        """The same batch, its embedding and caption dropped: the other half of classifier-free guidance."""
        nothing = torch.zeros_like(self.keep_image)
        return replace(self, keep_image=nothing, keep_text=nothing)


@dataclass(frozen=True)
class ReadDecoder:
    """A condition as the network has read it, for the many steps that share it.

    Attributes:
        modulation: (B, 4 C) what is added to the time embedding.
        context: the context tokens in every attention block.
        beside: (B, C', S / p, S / p) what the UNet sees beside the noised picture: the layout, then known
            pixels and their mask; None for a decoder that has neither.
    """

    modulation: Tensor
    context: ReadContext
    beside: Tensor | None


def noise_embedding(whitened: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Mix whitened embeddings (B, E) with noise, variance preserved; level (B,) in [0, 1]."""
    angle = level[:, None] * (torch.pi / 2)
    return angle.cos() * whitened + angle.sin() * noise


class Decoder(nn.Module):
    """ADM's UNet; the CLIP embedding enters the time embedding and the context (four tokens)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = 4 * config.channels
        grid_channels = RGB * config.patch**2
        self.whitening = Whitening(config.embedding)
        self.time = TimeEmbedding(config.channels, width)
        self.noise_level = TimeEmbedding(config.channels, width) if config.noisy_embedding else None
        self.null_embedding = nn.Parameter(torch.zeros(config.embedding))
        self.image_to_time = nn.Linear(config.embedding, width)
        self.text_to_time = nn.Linear(config.embedding, width) if config.text_to_time else None
        self.augmentation = None
        if config.augmentation:  # without a bias: nothing done adds nothing
            self.augmentation = nn.Linear(config.augmentation, width, bias=False)
            nn.init.zeros_(self.augmentation.weight)
        self.image_to_context = nn.Linear(config.embedding, config.tokens * config.context)
        self.caption = None if config.caption is None else CaptionEncoder(config.caption)
        text_width = config.text_width if config.caption is None else config.caption.width
        self.text_to_context = None
        if text_width is not None:
            after = config.text_norm is TextNorm.AFTER
            projection = nn.Linear(text_width, config.context)
            norm = nn.LayerNorm(config.context if after else text_width)
            self.text_to_context = nn.Sequential(*((projection, norm) if after else (norm, projection)))
        self.layout = None if config.layout is None else Layout(config.layout)
        seen_channels = SEEN * config.patch**2 if config.inpainting else 0
        self.unet = UNet(
            UNetConfig(
                in_channels=grid_channels + config.layout_channels + seen_channels,
                out_channels=grid_channels * (2 if config.learned_range else 1),
                channels=config.channels,
                multipliers=config.multipliers,
                blocks=config.blocks,
                attention=config.attention,
                head_channels=config.head_channels,
                embedding=width,
                context=config.context,
                dropout=config.dropout,
            )
        )

    def _text(self, condition: DecoderCondition) -> Tensor | None:
        """The caption as context tokens (B, L, context); None where there is none or none is read."""
        features = condition.sequence
        if self.caption is not None:
            ids, mask = condition.ids, condition.mask
            features = None if ids is None or mask is None else self.caption(ids, mask)
        if self.text_to_context is None or features is None:
            return None
        context: Tensor = self.text_to_context(features)
        return context

    def forward(self, x: Tensor, label: Tensor, condition: DecoderCondition | ReadDecoder) -> Tensor:
        """Predict from a noised picture.

        Args:
            x: (B, 3, S, S) noised picture.
            label: (B,) time label.
            condition: what to draw, or what `read` made of it.

        Returns:
            (B, 3, S, S), or (B, 6, S, S) with a learned range.

        Raises:
            ValueError: the condition lacks what this decoder reads, or has what it does not.
        """
        config = self.config
        grid = space_to_depth(x, config.patch)  # (B, 3 p^2, S / p, S / p)
        if isinstance(condition, ReadDecoder):
            grid = _with(grid, condition.beside)
            out = self.unet(grid, self.time(label) + condition.modulation, condition.context)
        else:
            modulation, context, mask = self._condition(condition)
            grid = _with(grid, self._beside(condition))
            out = self.unet(grid, self.time(label) + modulation, context, mask)
        if not config.learned_range:
            return depth_to_space(out, config.patch)  # (B, 3, S, S)
        mean, spread = out.chunk(2, dim=1)
        return torch.cat([depth_to_space(mean, config.patch), depth_to_space(spread, config.patch)], dim=1)

    def read(self, condition: DecoderCondition) -> ReadDecoder:
        """A condition as `forward` takes it where many steps share it. Raises as `forward` does."""
        modulation, context, mask = self._condition(condition)
        return ReadDecoder(modulation, self.unet.read(context, mask), self._beside(condition))

    def _beside(self, condition: DecoderCondition) -> Tensor | None:
        """Channels beside the noised picture, (B, C', S / p, S / p), or None."""
        parts = []
        side = self.config.image_size // self.config.patch
        if self.layout is not None:
            embedding, level = self._embedding(condition), condition.noise_level
            level = embedding.new_zeros(len(embedding)) if level is None else level * condition.keep_image
            coarse = self.layout(embedding, level)  # (B, 3, side, side)
            parts.append(space_to_depth(coarse, coarse.shape[-1] // side))
        known, keep = condition.known, condition.keep
        if (known is None) != (keep is None):
            raise ValueError("known pixels and their mask go together")
        if self.config.inpainting:
            patch = self.config.patch
            if known is None or keep is None:
                parts.append(
                    condition.embedding.new_zeros(len(condition.embedding), SEEN * patch**2, side, side)
                )
            else:
                parts.append(space_to_depth(torch.cat([known * keep, keep], dim=1), patch))
        elif known is not None:
            raise ValueError("this decoder was not trained to fill in: its config has inpainting = false")
        return torch.cat(parts, dim=1) if parts else None

    def _embedding(self, condition: DecoderCondition) -> Tensor:
        """(B, E), the learned one where the image's is not kept."""
        return torch.where(condition.keep_image[:, None], condition.embedding, self.null_embedding)

    def _condition(self, condition: DecoderCondition) -> tuple[Tensor, Tensor, Tensor | None]:
        """Addition to the time embedding (B, 4 C), context tokens (B, M, context), and their mask (B, M)."""
        config = self.config
        batch = len(condition.embedding)
        embedding = self._embedding(condition)
        modulation = self.image_to_time(embedding)  # (B, 4 C)
        if self.text_to_time is not None:
            if condition.text_embedding is None:
                raise ValueError("this decoder takes a text embedding: its config has text_to_time = true")
            modulation = modulation + self.text_to_time(condition.text_embedding)
        if self.noise_level is not None:
            level = condition.noise_level
            level = modulation.new_zeros(batch) if level is None else level * NOISE_LEVEL_STEPS
            modulation = modulation + self.noise_level(level * condition.keep_image)
        elif condition.noise_level is not None:
            raise ValueError("this decoder takes no noise level: its config has noisy_embedding = false")
        if condition.augmentation is not None:
            if self.augmentation is None:
                raise ValueError("this decoder is told of no augmentation: its config has augmentation = 0")
            modulation = modulation + self.augmentation(condition.augmentation)
        context = self.image_to_context(embedding).view(batch, config.tokens, config.context)
        mask = None
        text = self._text(condition)
        if text is not None and condition.mask is not None:
            readable = condition.mask  # (B, L)
            if condition.keep_text is not None:
                readable = readable & condition.keep_text[:, None]
            context = torch.cat([context, text.to(context.dtype)], dim=1)  # (B, tokens + L, context)
            mask = torch.cat([readable.new_ones(batch, config.tokens), readable], dim=1)
        return modulation, context, mask


def _with(grid: Tensor, beside: Tensor | None) -> Tensor:
    return grid if beside is None else torch.cat([grid, beside.to(grid.dtype)], dim=1)
