"""VQGAN (2012.09841): pictures to a grid of codes and back, as taming-transformers published it.

Residual blocks and attention without any time embedding; a code is the codebook's row that is nearest to
what the encoder says. Pictures come and go in [-1, 1]; `PixelRange` says what the network itself sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.vqvae import check_sides
from unclip.nn.layers import RGB, depth_to_space, space_to_depth

GROUPS = 32  # of every normalisation
ROWS = 4096  # positions that are compared with the codebook at a time: 256 MB of distances at 16,384 codes


class PixelRange(StrEnum):
    """The values that a picture has inside the network."""

    SIGNED = "-1..1"  # taming-transformers
    UNIT = "0..1"  # the VQGAN that DALL-E mini was trained with


@dataclass(frozen=True)
class VQGANConfig:
    """Sizes of a VQGAN; the defaults are the ImageNet model f16 with 16,384 codes.

    Attributes:
        vocabulary: number of codes.
        embedding: width of a code's vector.
        latent: channels between encoder and quantiser, and quantiser and decoder.
        channels: of the finest level; level k has channels * multipliers[k].
        multipliers: one a level; between two levels the side is halved.
        blocks: residual blocks a level of the encoder; the decoder has one more.
        attention: downsampling factors (1 = the grid of the finest level) whose blocks attend.
        encodes: whether there is an encoder; some published files hold a decoder only.
        pixels: see `PixelRange`.
        norm_epsilon: what keeps group normalisation from dividing by zero.
        patch: so many pixels a side become channels before the finest level, and pixels again behind it.
        unit: codes and latents have length 1 when they are compared, so the nearest code is the one of the
            smallest angle (2110.04627, section 3.2); small embeddings need it.
    """

    vocabulary: int = 16_384
    embedding: int = 256
    latent: int = 256
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    encodes: bool = True
    pixels: PixelRange = PixelRange.SIGNED
    norm_epsilon: float = 1e-6
    patch: int = 1
    unit: bool = False

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.embedding, self.latent, self.blocks, self.patch)
        if min(sizes) < 1 or not self.multipliers:
            raise InputError(f"{self}: every size must be at least 1")
        for multiplier in self.multipliers:
            if multiplier < 1 or self.channels < 1 or self.channels * multiplier % GROUPS:
                raise InputError(
                    f"{self.channels} x {multiplier} channels: must be a positive multiple of {GROUPS}"
                )

    @property
    def factor(self) -> int:
        """Pixels of the picture to one code, along each side."""
        return self.patch << (len(self.multipliers) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    def attends(self, level: int) -> bool:
        """True where the blocks of a level attend; level 0 is the finest."""
        return 1 << level in self.attention


def _norm(channels: int, config: VQGANConfig) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=config.norm_epsilon)


class ResidualBlock(nn.Module):
    """Norm, SiLU and convolution, twice, beside a skip: (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, config: VQGANConfig) -> None:
        super().__init__()
        self.norm_in = _norm(in_channels, config)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_out = _norm(out_channels, config)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(F.silu(self.norm_out(h)))
        out: Tensor = self.skip(x) + h
        return out


class AttentionBlock(nn.Module):
    """Self-attention over the grid with a single head, (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, config: VQGANConfig) -> None:
        super().__init__()
        self.norm = _norm(channels, config)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, 3, 1, channels, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)  # (B, 1, HW, C) each
        h = F.scaled_dot_product_attention(query, key, value)  # (B, 1, HW, C)
        h = h[:, 0].transpose(1, 2).reshape(batch, channels, height, width)
        return x + self.out(h)


class Downsample(nn.Module):
    """Halves the side by a convolution whose padding stands at the right and lower edge only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Doubles the side: nearest neighbour, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """The residual blocks of one resolution, each with attention behind it where the level attends."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, attends: bool, config: VQGANConfig):
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(out_channels if i else in_channels, out_channels, config) for i in range(blocks)
        )
        self.attn = nn.ModuleList(
            AttentionBlock(out_channels, config) for _ in range(blocks if attends else 0)
        )
        self.resample: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        out: Tensor = self.resample(x)
        return out


class Middle(nn.Sequential):
    """The coarsest resolution: block, attention, block."""

    def __init__(self, channels: int, config: VQGANConfig) -> None:
        super().__init__()
        self.add_module("block_1", ResidualBlock(channels, channels, config))
        self.add_module("attn_1", AttentionBlock(channels, config))
        self.add_module("block_2", ResidualBlock(channels, channels, config))


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) -> (B, latent, H / factor, W / factor)."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = config.widths
        self.patch = config.patch
        self.conv_in = nn.Conv2d(RGB * config.patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            stage = Level(widths[max(0, level - 1)], width, config.blocks, config.attends(level), config)
            if level + 1 < len(widths):
                stage.resample = Downsample(width)
            self.down.append(stage)
        self.mid = Middle(widths[-1], config)
        self.norm_out = _norm(widths[-1], config)
        self.conv_out = nn.Conv2d(widths[-1], config.latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(space_to_depth(x, self.patch))
        for stage in self.down:
            h = stage(h)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid(h))))
        return out


class Decoder(nn.Module):
    """(B, latent, h, w) -> pictures (B, 3, h * factor, w * factor). `up[0]` is the finest level, run last."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config)
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            coarser = widths[min(level + 1, len(widths) - 1)]
            stage = Level(coarser, width, config.blocks + 1, config.attends(level), config)
            if level:
                stage.resample = Upsample(width)
            self.up.append(stage)
        self.norm_out = _norm(widths[0], config)
        self.patch = config.patch
        self.conv_out = nn.Conv2d(widths[0], RGB * config.patch**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for stage in reversed(self.up):
            h = stage(h)
        return depth_to_space(self.conv_out(F.silu(self.norm_out(h))), self.patch)


class VQGAN(nn.Module):
    """Encoder, codebook and decoder."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config) if config.encodes else None
        self.quant_conv = nn.Conv2d(config.latent, config.embedding, 1) if config.encodes else None
        self.codebook = nn.Embedding(config.vocabulary, config.embedding)
        nn.init.uniform_(self.codebook.weight, -1 / config.vocabulary, 1 / config.vocabulary)
        self.post_quant_conv = nn.Conv2d(config.embedding, config.latent, 1)
        self.decoder = Decoder(config)

    def latents(self, images: Tensor) -> Tensor:
        """Latents that the quantiser rounds, (B, embedding, H / factor, W / factor).

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Raises:
            InputError: the weights have no encoder, or a side is not a multiple of `config.factor`.
        """
        if self.encoder is None or self.quant_conv is None:
            raise InputError("this VQGAN only decodes: its weights hold no encoder")
        check_sides(images, self.config.factor)
        if self.config.pixels is PixelRange.UNIT:
            images = (images + 1) / 2
        out: Tensor = self.quant_conv(self.encoder(images))
        return out

    def quantise(self, latents: Tensor) -> Tensor:
        """The codes (B, h, w), int64, whose vectors are nearest to latents (B, embedding, h, w)."""
        rows = self.comparable(latents.movedim(1, -1).float())  # (B, h, w, E)
        flat = rows.reshape(-1, rows.shape[-1])  # (N, E)
        book = self.comparable(self.codebook.weight.float())  # (V, E)
        length = book.square().sum(1)  # (V,)
        # |z - e|^2 without |z|^2, which is the same for every code
        nearest = [torch.addmm(length, part, book.T, alpha=-2).argmin(1) for part in flat.split(ROWS)]
        return torch.cat(nearest).view(rows.shape[:-1])

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, H / factor, W / factor), int64, of pictures (B, 3, H, W) in [-1, 1]; see `latents`."""
        return self.quantise(self.latents(images))

    def decode(self, codes: Tensor) -> Tensor:
        """Pictures (B, 3, h * factor, w * factor), about in [-1, 1], from codes (B, h, w)."""
        return self.from_vectors(self.comparable(self.codebook(codes)).movedim(-1, 1))

    def comparable(self, vectors: Tensor) -> Tensor:
        """Latents or codes (..., E) as they are compared and decoded: of length 1 with `config.unit`."""
        return F.normalize(vectors, dim=-1) if self.config.unit else vectors

    def from_vectors(self, vectors: Tensor) -> Tensor:
        """Pictures as of `decode` from codes' vectors (B, embedding, h, w)."""
        images: Tensor = self.decoder(self.post_quant_conv(vectors))
        return images * 2 - 1 if self.config.pixels is PixelRange.UNIT else images

    def forward(self, images: Tensor) -> Tensor:
        """Pictures rebuilt from their codes alone, (B, 3, H, W), about in [-1, 1]."""
        return self.decode(self.encode(images))
