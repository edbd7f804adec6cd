"""GLIDE (2112.10741): a UNet that reads the caption alone, its upsampler, and both trained to fill in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from unclip.errors import InputError
from unclip.models.adm import enlarge_bilinear
from unclip.models.caption import CaptionConfig
from unclip.nn.layers import RGB, TimeEmbedding, depth_to_space, space_to_depth
from unclip.nn.transformer import Transformer, TransformerConfig
from unclip.nn.unet import ReadContext, UNet, UNetConfig

# The released caption encoder; glide-text2im, model_creation.py, and GPT-2's vocabulary
RELEASED_CAPTION = CaptionConfig(vocabulary=50_257, context=128, width=512, layers=16, heads=8)


@dataclass(frozen=True)
class GlideConfig:
    """Sizes of a GLIDE network; the defaults are the released base model's.

    Attributes:
        image_size: side of the picture in pixels.
        low_size: side of the small picture that an upsampler enlarges; None where there is none.
        fills_in: whether it was trained to fill in: it then also sees the known pixels and where they are.
        patch: the UNet works on a grid of patch x patch pixels (space to depth); 1 is the paper's way.
        channels: features of the time label's sinusoids; the embedding has four times as many.
        widths: channels of each level, the finest first.
        blocks, attention, head_channels, dropout: see `UNetConfig`.
        caption: the caption encoder's sizes.
        learned_range: whether the network also predicts the variance (twice the output channels).
    """

    image_size: int = 64
    low_size: int | None = None
    fills_in: bool = False
    patch: int = 1
    channels: int = 192
    widths: tuple[int, ...] = (192, 384, 576, 768)
    blocks: int = 3
    attention: tuple[int, ...] = (2, 4, 8)
    head_channels: int = 64
    caption: CaptionConfig = field(default=RELEASED_CAPTION)
    dropout: float = 0.1
    learned_range: bool = True

    @property
    def in_channels(self) -> int:
        """The noised picture, the known pixels and their mask, the enlarged small picture."""
        return RGB + (RGB + 1 if self.fills_in else 0) + (RGB if self.low_size is not None else 0)


@dataclass(frozen=True)
class GlideCondition:
    """The condition of a GLIDE network, for a batch of B.

    Attributes:
        text: (B, L, W) captions as `Glide.read` gives them, L being the whole context.
        empty: (B, L, W) the empty caption, read in the same way; None where it guides nothing.
        low: (B, 3, h, w) small pictures in [-1, 1], for an upsampler and no other.
        known: (B, 3, S, S) pictures in [-1, 1] to fill in.
        keep: (B, 1, S, S) 1 where `known` is to stay and 0 where it is not seen; goes with `known`.
        read: the captions as the attention blocks have read them, by `Glide.prepared`; None until then.
    """

    text: Tensor
    empty: Tensor | None = None
    low: Tensor | None = None
    known: Tensor | None = None
    keep: Tensor | None = None
    read: ReadContext | None = None

    def dropped(self) -> GlideCondition:
        """The same batch with the empty caption: the unconditional half of classifier-free guidance.

        Raises InputError where the condition has none.
        """
        if self.empty is None:
            raise InputError("guidance needs the empty caption beside the others")
        return replace(self, text=self.empty, read=None)


class GlideText(nn.Module):
    """A transformer over the whole context, read in both directions; padding is learned."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.padding = nn.Parameter(0.01 * torch.randn(config.context, config.width))
        self.transformer = Transformer(TransformerConfig(config.width, config.layers, config.heads))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Features (B, context, W) of ids (B, N) int64, N at most the context; mask (B, N), True for tokens.

        Every position can be read and reads all others: to the network, padding is a word like any other.
        """
        count, context = ids.shape[1], self.config.context
        if count > context:
            raise InputError(f"captions of {count} tokens: this GLIDE reads {context}")
        x = self.token(ids) + self.position[:count]
        x = torch.where(mask[..., None], x, self.padding[:count].to(x.dtype))  # (B, N, W)
        rest = self.padding[count:].to(x.dtype).expand(len(x), -1, -1)  # (B, context - N, W)
        out: Tensor = self.norm(self.transformer(torch.cat([x, rest], dim=1)))
        return out


class Glide(nn.Module):
    """ADM's UNet; the caption enters with the time label and as context tokens of every attention block."""

    def __init__(self, config: GlideConfig) -> None:
        super().__init__()
        self.config = config
        width = 4 * config.channels
        self.time = TimeEmbedding(config.channels, width)
        self.text = GlideText(config.caption)
        self.text_to_time = nn.Linear(config.caption.width, width)
        self.unet = UNet(
            UNetConfig(
                in_channels=config.in_channels * config.patch**2,
                out_channels=RGB * (2 if config.learned_range else 1) * config.patch**2,
                channels=1,  # the widths stand in the multipliers, as in ADM
                multipliers=config.widths,
                blocks=config.blocks,
                attention=config.attention,
                head_channels=config.head_channels,
                embedding=width,
                context=config.caption.width,
                dropout=config.dropout,
            )
        )

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Captions as `GlideCondition` holds them: once for all steps; arguments as in `GlideText`."""
        out: Tensor = self.text(ids, mask)
        return out

    def prepared(self, condition: GlideCondition) -> GlideCondition:
        """The same condition, its captions read by all attention blocks: once for all steps."""
        return replace(condition, read=self.unet.read(condition.text))

    def forward(self, x: Tensor, label: Tensor, condition: GlideCondition) -> Tensor:
        """Predict from a noised picture.

        Args:
            x: (B, 3, H, W) noised picture.
            label: (B,) time label.
            condition: what to draw. A network that fills in and is given nothing known draws all of it.

        Returns:
            (B, 3, H, W), or (B, 6, H, W) with a learned range.

        Raises:
            InputError: a condition that the network does not have, or a small picture that it lacks.
        """
        modulation = self.time(label) + self.text_to_time(condition.text[:, -1])  # (B, 4 C)
        context = condition.text if condition.read is None else condition.read
        grid = space_to_depth(self._input(x, condition), self.config.patch)  # (B, C p^2, H / p, W / p)
        return depth_to_space(self.unet(grid, modulation, context), self.config.patch)

    def _input(self, x: Tensor, condition: GlideCondition) -> Tensor:
        """The input of the UNet, (B, in_channels, H, W)."""
        seen = [x]
        if (condition.known is None) != (condition.keep is None):
            raise InputError("known pixels and their mask go together")
        if self.config.fills_in:
            known = torch.zeros_like(x) if condition.known is None else condition.known.to(x.dtype)
            keep = torch.zeros_like(x[:, :1]) if condition.keep is None else condition.keep.to(x.dtype)
            seen += [known * keep, keep]
        elif condition.known is not None:
            raise InputError("this GLIDE was not trained to fill in: it takes no known pixels")
        if (condition.low is None) != (self.config.low_size is None):
            needs = "no small picture" if condition.low is not None else "the small picture to enlarge"
            raise InputError(f"this GLIDE takes {needs}")
        if condition.low is not None:
            seen.append(enlarge_bilinear(condition.low.to(x.dtype), (x.shape[2], x.shape[3])))
        return torch.cat(seen, dim=1)


_UPSAMPLER = GlideConfig(
    image_size=256,
    low_size=64,
    widths=(192, 192, 384, 384, 768, 768),
    blocks=2,
    attention=(8, 16, 32),
)

# The released models; glide-text2im, model_creation.py
PRESETS: dict[str, GlideConfig] = {
    "base": GlideConfig(),
    "base-inpaint": GlideConfig(fills_in=True),
    "upsample": _UPSAMPLER,
    "upsample-inpaint": replace(_UPSAMPLER, fills_in=True),
}
