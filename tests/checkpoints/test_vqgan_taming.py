"""The promise that a VQGAN of taming-transformers codes and shows pictures as its authors' network does.

taming-transformers is not to be installed beside a current torch, so the reference is a second, naive
implementation: plain functions over the checkpoint's own tensors, written from its `diffusionmodules/
model.py`. The decoder is compared with min-dalle's module as well, in `test_dalle_mini.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support.tensors import error
from unclip.bundle import Bundle, save_bundle
from unclip.checkpoints import vqgan_taming
from unclip.checkpoints.foreign import Source
from unclip.errors import BundleError, CheckpointError, InputError
from unclip.model import load
from unclip.models.vqgan import VQGAN, PixelRange

WIDTHS = (32, 32, 64)  # ch 32, ch_mult 1, 1, 2: two halvings, f4
BLOCKS, LATENT, EMBEDDING, CODES = 2, 8, 6, 40
ATTENDS = (False, False, True)
TOLERANCE = 1e-4
YAML = """
model:
  base_learning_rate: 4.5e-6
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: 6
    n_embed: 40
    ddconfig:
      double_z: False
      z_channels: 8
      resolution: 32
      in_channels: 3
      out_ch: 3
      ch: 32
      ch_mult: [1, 1, 2]  # num_down = len(ch_mult)-1
      num_res_blocks: 2
      attn_resolutions: [8]
      dropout: 0.0
    lossconfig:
      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
"""


class Names:
    """The tensors of a checkpoint, made one by one with random values."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(0)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def conv(self, name: str, into: int, out: int, side: int) -> None:
        self.state[f"{name}.weight"] = self.random(out, into, side, side) * (into * side**2) ** -0.5
        self.state[f"{name}.bias"] = 0.2 * self.random(out)

    def norm(self, name: str, width: int) -> None:
        self.state[f"{name}.weight"] = 1 + 0.2 * self.random(width)
        self.state[f"{name}.bias"] = 0.2 * self.random(width)

    def block(self, name: str, into: int, out: int) -> None:
        self.norm(f"{name}.norm1", into)
        self.conv(f"{name}.conv1", into, out, 3)
        self.norm(f"{name}.norm2", out)
        self.conv(f"{name}.conv2", out, out, 3)
        if into != out:
            self.conv(f"{name}.nin_shortcut", into, out, 1)

    def attention(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            self.conv(f"{name}.{part}", width, width, 1)

    def middle(self, half: str, width: int) -> None:
        self.block(f"{half}.mid.block_1", width, width)
        self.attention(f"{half}.mid.attn_1", width)
        self.block(f"{half}.mid.block_2", width, width)


def checkpoint() -> dict[str, Tensor]:
    names = Names()
    last = WIDTHS[-1]
    names.conv("encoder.conv_in", 3, WIDTHS[0], 3)
    width = WIDTHS[0]
    for level, out in enumerate(WIDTHS):
        for i in range(BLOCKS):
            names.block(f"encoder.down.{level}.block.{i}", width, out)
            width = out
            if ATTENDS[level]:
                names.attention(f"encoder.down.{level}.attn.{i}", width)
        if level + 1 < len(WIDTHS):
            names.conv(f"encoder.down.{level}.downsample.conv", width, width, 3)
    names.middle("encoder", last)
    names.norm("encoder.norm_out", last)
    names.conv("encoder.conv_out", last, LATENT, 3)
    names.conv("decoder.conv_in", LATENT, last, 3)
    names.middle("decoder", last)
    width = last
    for level in reversed(range(len(WIDTHS))):
        for i in range(BLOCKS + 1):
            names.block(f"decoder.up.{level}.block.{i}", width, WIDTHS[level])
            width = WIDTHS[level]
            if ATTENDS[level]:
                names.attention(f"decoder.up.{level}.attn.{i}", width)
        if level:
            names.conv(f"decoder.up.{level}.upsample.conv", width, width, 3)
    names.norm("decoder.norm_out", width)
    names.conv("decoder.conv_out", width, 3, 3)
    names.state["quantize.embedding.weight"] = names.random(CODES, EMBEDDING)
    names.conv("quant_conv", LATENT, EMBEDDING, 1)
    names.conv("post_quant_conv", EMBEDDING, LATENT, 1)
    names.state["loss.discriminator.main.0.weight"] = names.random(4, 3, 4, 4)
    names.state["loss.logvar"] = names.random(1)
    return names.state


# --- the naive network ---


def conv(state: Mapping[str, Tensor], name: str, x: Tensor, **options: int) -> Tensor:
    weight = state[f"{name}.weight"]
    padding = options.pop("padding", weight.shape[-1] // 2)
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=padding, **options)


def norm(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def block(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    h = conv(state, f"{name}.conv1", swish(norm(state, f"{name}.norm1", x)))
    h = conv(state, f"{name}.conv2", swish(norm(state, f"{name}.norm2", h)))
    return (conv(state, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in state else x) + h


def attention(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    if f"{name}.norm.weight" not in state:
        return x
    h = norm(state, f"{name}.norm", x)
    q, k, v = (conv(state, f"{name}.{part}", h).flatten(2) for part in "qkv")  # (B, C, HW)
    weights = (torch.einsum("bci,bcj->bij", q, k) * x.shape[1] ** -0.5).softmax(-1)
    h = torch.einsum("bij,bcj->bci", weights, v).view(x.shape)
    return x + conv(state, f"{name}.proj_out", h)


def middle(state: Mapping[str, Tensor], half: str, x: Tensor) -> Tensor:
    x = block(state, f"{half}.mid.block_1", x)
    return block(state, f"{half}.mid.block_2", attention(state, f"{half}.mid.attn_1", x))


def encoded(state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    h = conv(state, "encoder.conv_in", x)
    for level in range(len(WIDTHS)):
        for i in range(BLOCKS):
            h = block(state, f"encoder.down.{level}.block.{i}", h)
            h = attention(state, f"encoder.down.{level}.attn.{i}", h)
        if level + 1 < len(WIDTHS):
            h = conv(
                state, f"encoder.down.{level}.downsample.conv", F.pad(h, (0, 1, 0, 1)), stride=2, padding=0
            )
    h = swish(norm(state, "encoder.norm_out", middle(state, "encoder", h)))
    return conv(state, "quant_conv", conv(state, "encoder.conv_out", h))


def nearest(state: Mapping[str, Tensor], z: Tensor) -> Tensor:
    difference = z.movedim(1, -1)[..., None, :] - state["quantize.embedding.weight"]  # (B, h, w, V, E)
    return difference.square().sum(-1).argmin(-1)


def decoded(state: Mapping[str, Tensor], codes: Tensor) -> Tensor:
    z = state["quantize.embedding.weight"][codes].movedim(-1, 1)
    h = middle(state, "decoder", conv(state, "decoder.conv_in", conv(state, "post_quant_conv", z)))
    for level in reversed(range(len(WIDTHS))):
        for i in range(BLOCKS + 1):
            h = block(state, f"decoder.up.{level}.block.{i}", h)
            h = attention(state, f"decoder.up.{level}.attn.{i}", h)
        if level:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
            h = conv(state, f"decoder.up.{level}.upsample.conv", h)
    return conv(state, "decoder.conv_out", swish(norm(state, "decoder.norm_out", h)))


# --- tests ---


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return checkpoint()


@pytest.fixture
def files(state: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save({"state_dict": state, "epoch": 3, "global_step": 7}, tmp_path / "last.ckpt")
    (tmp_path / "model.yaml").write_text(YAML)
    return tmp_path


def converted(path: Path) -> VQGAN:
    source = Source(path)
    assert vqgan_taming.looks_like(source)
    model = vqgan_taming.FORMAT.read(source).parts["codec"].source
    assert isinstance(model, VQGAN)
    return model


def test_pictures_are_coded_and_shown_as_theirs(files: Path, state: dict[str, Tensor]) -> None:
    model = converted(files / "last.ckpt")
    images = torch.rand(2, 3, 32, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = encoded(state, images)
    assert error(model.latents(images), z) <= TOLERANCE
    codes = model.encode(images)
    assert torch.equal(codes, nearest(state, z))
    assert len(codes.unique()) > 5
    assert error(model.decode(codes), decoded(state, codes)) <= TOLERANCE
    assert torch.equal(model(images), model.decode(codes))


def test_the_nearest_code_is_found_piece_by_piece_as_at_once(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = converted(files / "last.ckpt")
    z = torch.randn(2, EMBEDDING, 5, 7, generator=torch.Generator().manual_seed(2))
    whole = model.quantise(z)
    monkeypatch.setattr("unclip.models.vqgan.ROWS", 9)
    assert torch.equal(model.quantise(z), whole)


def test_sides_without_whole_codes_are_refused(files: Path) -> None:
    with pytest.raises(
        InputError, match="30 x 32 pixels has no whole codes: the sides must be multiples of 4"
    ):
        converted(files / "last.ckpt").encode(torch.zeros(1, 3, 32, 30))


def test_the_sizes_are_read_from_the_tensors_and_compared_with_the_yaml(files: Path) -> None:
    config = converted(files / "last.ckpt").config
    assert (config.vocabulary, config.embedding, config.latent, config.channels) == (40, 6, 8, 32)
    assert (config.multipliers, config.blocks, config.attention, config.factor) == ((1, 1, 2), 2, (4,), 4)
    assert config.pixels is PixelRange.SIGNED
    conversion = vqgan_taming.FORMAT.read(Source(files / "last.ckpt"))
    assert (conversion.name, conversion.family, conversion.notes) == ("vqgan-f4-40", "codec", ())
    (files / "model.yaml").unlink()
    assert converted(files / "last.ckpt").config == config
    assert "no YAML" in vqgan_taming.FORMAT.read(Source(files)).notes[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_embed: 40", "n_embed: 1024", "says n_embed 1024, its tensors 40"),
        ("ch_mult: [1, 1, 2]", "ch_mult: [1, 2, 2]", r"says ch_mult \[1, 2, 2\]"),
        ("double_z: False", "double_z: True", "says double_z True"),
        (
            "attn_resolutions: [8]",
            "attn_resolutions: [16]",
            r"says attn_resolutions \[16\], its tensors \[8\]",
        ),
        ("params:\n    embed", "settings:\n    embed", "no model.params"),
        ("model:", "model: !!python/object/apply:os.system ['true']\nother:", "no model.params"),
    ],
)
def test_a_yaml_that_says_something_else_is_refused(files: Path, old: str, new: str, message: str) -> None:
    assert old in YAML
    (files / "model.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(CheckpointError, match=message):
        converted(files / "last.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("encoder.down.1.downsample.conv.bias"),
            "missing encoder.down.1.resample.conv.bias",
        ),
        (
            lambda state: state.update({"encoder.extra": torch.ones(1)}),
            "without a place in the model encoder.extra",
        ),
        (
            lambda state: state.update({"quant_conv.bias": torch.ones(7)}),
            r"quant_conv.bias is \[7\] and should be \[6\]",
        ),
        (lambda state: state.pop("decoder.up.2.attn.1.k.weight"), "missing decoder.up.2.attn.1.k.weight"),
        (lambda state: state.pop("quantize.embedding.weight"), "not a VQGAN of taming-transformers"),
        (
            lambda state: state.update({"quantize.embed.weight": state.pop("quantize.embedding.weight")}),
            "Gumbel's quantiser",
        ),
    ],
)
def test_a_tensor_too_many_or_too_few_is_named(
    tmp_path: Path, state: dict[str, Tensor], change: Any, message: str
) -> None:
    damaged = dict(state)
    change(damaged)
    torch.save({"state_dict": damaged}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=message):
        vqgan_taming.FORMAT.read(Source(tmp_path / "last.ckpt"))


def test_a_codec_is_a_bundle_that_does_not_draw(
    files: Path, state: dict[str, Tensor], tmp_path: Path
) -> None:
    conversion = vqgan_taming.FORMAT.read(Source(files / "last.ckpt"))
    folder = tmp_path / "bundle"
    save_bundle(
        folder, name="codec", parts=conversion.parts, card="# c\n", family=conversion.family, dtype=None
    )
    model = Bundle.load(folder).model("codec")
    codes = torch.arange(6).view(1, 2, 3)
    assert isinstance(model, VQGAN)
    assert error(model.decode(codes), decoded(state, codes)) <= TOLERANCE
    with pytest.raises(BundleError, match="the family codec, which does not draw"):
        load(folder)
