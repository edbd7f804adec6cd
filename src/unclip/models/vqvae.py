"""The discrete VAE of DALL-E 1 (2102.12092, section 2.1): pictures to a grid of codes and back.

Layers and parameter names are those of OpenAI's release, so that its weights are an instance of this model.
Pictures come and go in [-1, 1], as everywhere here; inside, the network sees them in [0.1, 0.9].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.nn.layers import RGB

# Keeps pixels away from 0 and 1, where the logit-Laplace density has no logit: section A.3 of 2102.12092.
LOGIT_LAPLACE_EPSILON = 0.1
BOTTLENECK = 4  # channels of a block to those of the convolutions inside it
CONVOLUTIONS = 4  # in a block


@dataclass(frozen=True)
class VQVAEConfig:
    """Sizes of a discrete VAE; the defaults are OpenAI's.

    Attributes:
        vocabulary: number of codes.
        channels: of the finest group of blocks; group k of the encoder has channels * multipliers[k].
        multipliers: one a group; between two groups the side is halved.
        blocks: residual blocks a group.
        decoder_channels: what the decoder's first layer makes of a code.
    """

    vocabulary: int = 8192
    channels: int = 256
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks: int = 2
    decoder_channels: int = 128

    def __post_init__(self) -> None:
        if self.vocabulary < 2:
            raise InputError(f"vocabulary {self.vocabulary}: there must be 2 codes or more")
        if self.blocks < 1 or self.decoder_channels < 1 or not self.multipliers:
            raise InputError(
                f"{self.blocks} blocks, {self.decoder_channels} decoder channels, multipliers "
                f"{self.multipliers}: each must be at least 1"
            )
        for multiplier in self.multipliers:
            if multiplier < 1 or self.channels * multiplier % BOTTLENECK or self.channels < BOTTLENECK:
                raise InputError(
                    f"{self.channels} x {multiplier} channels: must be a positive multiple of {BOTTLENECK}"
                )

    @property
    def factor(self) -> int:
        """Pixels of the picture to one code, along each side."""
        return 1 << (len(self.multipliers) - 1)


def map_pixels(images: Tensor) -> Tensor:
    """[0, 1] -> [0.1, 0.9] (section A.3 of 2102.12092)."""
    return (1 - 2 * LOGIT_LAPLACE_EPSILON) * images + LOGIT_LAPLACE_EPSILON


def unmap_pixels(images: Tensor) -> Tensor:
    """The inverse of `map_pixels`, clipped to [0, 1]."""
    return ((images - LOGIT_LAPLACE_EPSILON) / (1 - 2 * LOGIT_LAPLACE_EPSILON)).clamp(0, 1)


def check_sides(images: Tensor, factor: int) -> None:
    """Raises InputError for pictures (B, 3, H, W) that have no whole codes of factor x factor pixels."""
    if images.shape[-1] % factor or images.shape[-2] % factor:
        raise InputError(
            f"a picture of {images.shape[-1]} x {images.shape[-2]} pixels has no whole codes: "
            f"the sides must be multiples of {factor}"
        )


def convolution(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the side, initialised as in the release."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=(in_channels * kernel**2) ** -0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """Residual bottleneck; what it adds is scaled down by the square of the number of blocks."""

    def __init__(self, in_channels: int, out_channels: int, kernels: tuple[int, ...], layers: int) -> None:
        super().__init__()
        self.gain = 1 / layers**2
        inner = out_channels // BOTTLENECK
        widths = [in_channels, *[inner] * (CONVOLUTIONS - 1), out_channels]
        self.id_path = (
            nn.Identity() if in_channels == out_channels else convolution(in_channels, out_channels, 1)
        )
        self.res_path = nn.Sequential()
        for i, kernel in enumerate(kernels):
            self.res_path.add_module(f"relu_{i + 1}", nn.ReLU())
            self.res_path.add_module(f"conv_{i + 1}", convolution(widths[i], widths[i + 1], kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H, W)."""
        out: Tensor = self.id_path(x) + self.gain * self.res_path(x)
        return out


def _groups(
    first: nn.Module,
    widths: list[int],
    config: VQVAEConfig,
    kernels: tuple[int, ...],
    between: tuple[str, nn.Module],
    last: nn.Conv2d,
) -> nn.Sequential:
    """The trunk that encoder and decoder share: `widths` are those before and after each group."""
    layers = len(config.multipliers) * config.blocks
    trunk = nn.Sequential()
    trunk.add_module("input", first)
    for i, width in enumerate(widths[1:]):
        group = nn.Sequential()
        for j in range(config.blocks):
            group.add_module(f"block_{j + 1}", Block(width if j else widths[i], width, kernels, layers))
        if i + 2 < len(widths):
            group.add_module(*between)
        trunk.add_module(f"group_{i + 1}", group)
    output = nn.Sequential()
    output.add_module("relu", nn.ReLU())
    output.add_module("conv", last)
    trunk.add_module("output", output)
    return trunk


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) in [0.1, 0.9] -> logits over the codes (B, V, H / factor, W / factor)."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.blocks = _groups(
            convolution(RGB, config.channels, 7),
            [config.channels, *widths],
            config,
            (3, 3, 3, 1),
            ("pool", nn.MaxPool2d(2)),
            convolution(widths[-1], config.vocabulary, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


class Decoder(nn.Module):
    """Weights over the codes (B, V, h, w) -> means and log scales (B, 6, h * factor, w * factor).

    Three channels are the mean of a logit-Laplace distribution before the sigmoid, three its log scale.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        widths = [config.channels * multiplier for multiplier in reversed(config.multipliers)]
        self.blocks = _groups(
            convolution(config.vocabulary, config.decoder_channels, 1),
            [config.decoder_channels, *widths],
            config,
            (1, 3, 3, 3),
            ("upsample", nn.Upsample(scale_factor=2, mode="nearest")),
            convolution(widths[-1], 2 * RGB, 1),
        )

    def forward(self, weights: Tensor) -> Tensor:
        out: Tensor = self.blocks(weights)
        return out

    def from_codes(self, codes: Tensor) -> Tensor:
        """The same for codes (B, h, w), whose one-hot weights need not be written out."""
        first, *rest = self.blocks.children()
        assert isinstance(first, nn.Conv2d)
        assert first.bias is not None
        x = F.embedding(codes, first.weight[:, :, 0, 0].T) + first.bias  # (B, h, w, C)
        x = x.movedim(-1, 1)  # (B, C, h, w)
        for module in rest:
            x = module(x)
        return x


class VQVAE(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def logits(self, images: Tensor) -> Tensor:
        """Logits over the codes, (B, V, H / factor, W / factor), of pictures (B, 3, H, W) in [-1, 1].

        Raises InputError where a side is not a multiple of `config.factor`.
        """
        check_sides(images, self.config.factor)
        out: Tensor = self.encoder(map_pixels((images + 1) / 2))
        return out

    def encode(self, images: Tensor) -> Tensor:
        """The most likely codes (B, H / factor, W / factor), int64, of pictures (B, 3, H, W) in [-1, 1]."""
        return self.logits(images).argmax(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Pictures (B, 3, h * factor, w * factor) in [-1, 1] from codes (B, h, w)."""
        mean = self.decoder.from_codes(codes)[:, :RGB]
        return unmap_pixels(torch.sigmoid(mean)) * 2 - 1

    def forward(self, images: Tensor) -> Tensor:
        """Pictures rebuilt from their codes alone, (B, 3, H, W) in [-1, 1]."""
        return self.decode(self.encode(images))
